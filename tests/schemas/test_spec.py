"""Reading a corpus spec: variables, defaults and one-line errors."""

from __future__ import annotations

import re
from pathlib import Path

import pydantic
import pytest

from schemas.spec import Operations, load_spec

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
keep_top = 0.2
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "corpus.toml"
    path.write_text(text)
    return path


def test_variables_are_filled_everywhere(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD), {"base": "/models"})
    assert spec.models.janus == "/models/janus"
    assert spec.sources[0].path == f"{tmp_path}/photos"
    assert spec.sources[0].filters is not None
    assert spec.sources[0].filters.keep_top == 0.2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('task = "generation"', 'task = "drawing"', r"sources\.0\.task: Input should be 'understanding', 'text'"),
        ("stage = 2", "stage = 4", "stage: Input should be 1, 2 or 3"),
        ("keep_top = 0.2", "keep_top = 0", "keep_top: Input should be greater than 0"),
        ("keep_top = 0.2", "keep_to = 0.2", "keep_to: Extra inputs are not permitted"),
        ('name = "photos"', 'name = "../x"', "source name '../x': use lower-case"),
        ("{base}", "{bas}", r"models\.janus: variable \{bas\} has no value; give it with --set bas="),
        ('name = "c"', "name = ", "Invalid value"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        load_spec(path, {"base": "b"})
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
        ("[tokenize]\nmax_length = 0", "tokenize.max_length: Input should be greater than or equal to 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f"{GOOD}\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")) as caught:
        load_spec(path, {"base": "b"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"workers": 0}, {"connections": 0}, {"per_host": 0}, {"per_host": -1}, {"retries": -1}, {"keep_last": 0}],
)
def test_operations_that_would_hang_or_fail_late_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to"):
        Operations.model_validate(wrong)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("[[sources]]") :]
    with pytest.raises(ValueError, match="two sources are called 'photos'"):
        load_spec(write(tmp_path, twice), {"base": "b"})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.toml: no such corpus spec"):
        load_spec(tmp_path / "nothing.toml")
