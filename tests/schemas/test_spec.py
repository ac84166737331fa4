"""Reading a corpus spec: variables, defaults and one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.spec import load_spec

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


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD[GOOD.index("[[sources]]") :]
    with pytest.raises(ValueError, match="two sources are called 'photos'"):
        load_spec(write(tmp_path, twice), {"base": "b"})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.toml: no such corpus spec"):
        load_spec(tmp_path / "nothing.toml")
