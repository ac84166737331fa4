"""Reading a corpus spec: variables, defaults and one-line errors."""

from __future__ import annotations

import re
from pathlib import Path

import pydantic
import pytest

from schemas.spec import Operations, load_spec, load_specs

GOOD = """
name = "c"
stage = 2
[models]
janus = "{base}/janus"
[[sources]]
name = "photos"
format = "image_folder"
path = "{here}/photos"
task = "generation"
[sources.filters]
rank = { by = "{by_what}", keep = 0.2 }
"""
VALUES = {"base": "/models", "by_what": "caption_score.cosine"}


def write(folder: Path, text: str) -> Path:
    path = folder / "corpus.toml"
    path.write_text(text)
    return path


def test_variables_are_filled_everywhere(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD), VALUES)
    assert spec.models.janus == "/models/janus"
    assert spec.sources[0].path == f"{tmp_path}/photos"
    assert spec.sources[0].filters == {"rank": {"by": "caption_score.cosine", "keep": 0.2}}


@pytest.mark.parametrize("name", ["data2", "Base", "_x", "A_1"])
def test_variables_have_the_names_that_identifiers_have(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, GOOD.replace("{base}", f"{{{name}}}"))
    assert load_spec(path, VALUES | {name: "/elsewhere"}).models.janus == "/elsewhere/janus"
    with pytest.raises(ValueError, match=rf"variable {{{name}}} has no value; give it with --set {name}="):
        load_spec(path, VALUES)


def test_what_is_no_variable_stays(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("{base}", "{2x}{}{a-b}"))
    assert load_spec(path, VALUES).models.janus == "{2x}{}{a-b}/janus"


def test_a_variable_that_no_spec_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path, other = write(tmp_path, GOOD), tmp_path / "other.toml"
    other.write_text(GOOD.replace("{base}", "{elsewhere}"))
    values = VALUES | {"elsewhere": "e"}
    assert [spec.models.janus for spec in load_specs([path, other], values)] == ["/models/janus", "e/janus"]
    with pytest.raises(
        ValueError, match=r"--set elsewhere: no variable \{elsewhere\} in .*corpus.toml; there are: base, "
    ):
        load_specs([path], values)
    with pytest.raises(ValueError, match=r"--set bsae: no variable .* \(did you mean base\?\)"):
        load_specs([path], VALUES | {"bsae": "x"})
    with pytest.raises(ValueError, match="--set here"):
        load_specs([path], VALUES | {"here": "x"})


@pytest.mark.parametrize(("written", "radius"), [("", 4), ("near_radius = 0", 0), ("near_radius = false", None)])
def test_the_near_radius_can_be_switched_off(tmp_path: Path, written: str, radius: int | None) -> None:
    assert load_spec(write(tmp_path, f"{GOOD}\n[dedup]\n{written}"), VALUES).dedup.near_radius == radius


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('task = "generation"', 'task = "drawing"', r"sources\.0\.task: Input should be 'understanding', 'text'"),
        ("stage = 2", "stage = 4", "stage: Input should be 1, 2 or 3"),
        ("rank = {", "rank = 0.2 #", r"filters: rank: expected a table of options \(rank.OPTION = ...\), found 0.2"),
        ("task =", 'role = "x"\ntask =', "role: Extra inputs are not permitted"),
        ('name = "photos"', 'name = "../x"', "source name '../x': use lower-case"),
        ("{base}", "{bas}", r"models\.janus: variable \{bas\} has no value; give it with --set bas="),
        ('name = "c"', "name = ", "Invalid value"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        load_spec(path, VALUES)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[limits]\nmax_bytes = 0", "limits.max_bytes: Input should be greater than or equal to 1"),
        ("[limits]\nmax_pixels = -1", "limits.max_pixels: Input should be greater than or equal to 1"),
        ("[limits]\nredirects = -1", "limits.redirects: Input should be greater than or equal to 0"),
        ("[limits]\ndeadline_s = 0", "limits.deadline_s: Input should be greater than 0"),
        ("[limits]\ndeadline_s = inf", "limits.deadline_s: Input should be less than or equal to 86400"),
        ("[limits]\ndeadline_s = nan", "limits.deadline_s: Input should be"),
        ('[limits]\nuser_agent = ""', "limits.user_agent: String should match pattern"),
        ('[limits]\nuser_agent = "a\\nb"', "limits.user_agent: String should match pattern"),
        ("[dedup]\nnear_radius = true", "dedup.near_radius: expected a number of bits from 0 to 16, or false"),
        ("[dedup]\nnear_radius = 17", "dedup.near_radius: Input should be less than or equal to 16"),
        ("[tokenize]\nmax_length = 0", "tokenize.max_length: Input should be greater than or equal to 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f"{GOOD}\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")) as caught:
        load_spec(path, VALUES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"connections": 0},
        {"per_host": 0},
        {"per_host": -1},
        {"retries": -1},
        {"keep_last": 0},
        {"host_failures": -1},
        {"shard_seconds": 0},
    ],
)
def test_operations_that_would_hang_or_fail_late_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to"):
        Operations.model_validate(wrong)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("[[sources]]") :]
    with pytest.raises(ValueError, match="two sources are called 'photos'"):
        load_spec(write(tmp_path, twice), VALUES)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.toml: no such corpus spec"):
        load_spec(tmp_path / "nothing.toml")
