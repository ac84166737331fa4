"""What is wrong with a spec or its sources is told at once, before anything is planned or written."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from janus.cli import Mistakes
from pipelines import preflight
from pipelines.build import build
from pipelines.sources import image_folder as image_folder_format
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, spec


def captions(root: Path, name: str, field: str, image: bytes | None) -> dict[str, Any]:
    """A source of 30 captions in `field`; `image` is what its files hold, None for no files."""
    folder = root / name
    folder.mkdir()
    rows = [{"image": f"{n}.jpg", field: f"Picture {n}."} for n in range(30)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(30 if image is not None else 0):
        (folder / f"{n}.jpg").write_bytes(image or b"")
    return folder_source(folder) | {"name": name}


def mistakes(model: Path, root: Path, sources: list[dict[str, Any]], **settings: Any) -> list[str]:
    """The lines that a build tells; it must not have written anything."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the lines are what is looked at)
        build(spec(model, sources, **settings), root / "c", Operations())
    assert not (root / "c").exists()
    return list(caught.value.lines) if isinstance(caught.value, Mistakes) else [str(caught.value)]


def test_a_wrong_column_in_the_last_source_is_told_before_planning(model: Path, tmp_path: Path) -> None:
    good = [folder_source(image_folder(tmp_path / n, [1, 2])) | {"name": n} for n in ("a", "b")]
    [line] = mistakes(model, tmp_path, [*good, captions(tmp_path, "last", "txt", b"x")])
    assert "source last" in line
    assert "no field 'caption'" in line


def test_mistakes_of_every_kind_are_told_at_once(model: Path, tmp_path: Path) -> None:
    sources = [
        captions(tmp_path, "column", "txt", b"x"),
        captions(tmp_path, "missing", "caption", None),
        captions(tmp_path, "nopicture", "caption", b"no picture"),
    ]
    sources[0]["filters"] = {"too_dark": {}, "size": {"least": 3}}
    sources[1]["skip_signals"] = ["image", "no_such_signal"]
    lines = mistakes(model, tmp_path, sources, filters={"rank": {"by": "nothing.at_all", "keep": 0.5}})
    told = [
        "filters.rank: no signal field 'nothing.at_all'",
        "source column: filters: no filter 'too_dark'",
        "source column: filters.size: no option 'least'",
        "source missing: skip_signals: image cannot be left out",
        "no signal 'no_such_signal'",
        "source column: 30 of 30 rows cannot be read",
        "source missing: none of the images of its first rows is there",
        "source nopicture: none of its first images can be used",
    ]
    assert len(lines) == len(told), lines
    for part in told:
        assert sum(part in line for line in lines) == 1, (part, lines)


@pytest.mark.parametrize(
    ("join", "says"),
    [
        ({"file": "more.csv", "caption": "text"}, "more.csv: no column 'text' (columns: image_id, caption)"),
        ({"file": "more.csv", "key": "id"}, "more.csv: no column 'id'"),
        ({"file": "nothing*.csv", "key": "image_id"}, "no file matches nothing*.csv"),
        ({"file": "more.csv", "on": "number", "key": "image_id"}, "no field 'number'"),
    ],
)
def test_a_join_is_checked_too(model: Path, tmp_path: Path, join: dict[str, str], says: str) -> None:
    source = captions(tmp_path, "joined", "txt", b"x")
    (tmp_path / "joined" / "more.csv").write_text("image_id,caption\n" + "".join(f"{n},A.\n" for n in range(30)))
    [line] = mistakes(model, tmp_path, [source | {"options": {"join": {"key": "image_id"} | join}}])
    assert says in line


def test_of_a_join_only_the_first_captions_are_read(tmp_path: Path) -> None:
    """The rows of the source need captions that come late in a long file: one that was read stands for them."""
    source = captions(tmp_path, "joined", "txt", b"x")
    rows = [f"other{n},Another.\n" for n in range(500)] + [f"{n},Late.\n" for n in range(30)]
    (tmp_path / "joined" / "more.csv").write_text("image_id,caption\n" + "".join(rows))
    options = {"join": {"file": "more.csv", "key": "image_id"}}
    settings = spec(tmp_path, [source | {"options": options}])
    look = preflight.Look(settings, settings.sources[0])
    look.start()
    look.finish(time.monotonic() + 60)
    assert {sample.messages[0].text for sample in look.samples} == {"Another."}
    assert len(look.samples) == 30


def test_a_source_that_shows_no_row_in_time_is_left_to_planning(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is inside of one long call is not waited for."""
    released = threading.Event()

    def hangs(source: object) -> Iterator[object]:
        released.wait()
        yield from ()

    monkeypatch.setattr(preflight, "SECONDS", 0.0)
    monkeypatch.setattr(image_folder_format, "read", hangs)
    assert preflight.check(spec(model, [folder_source(tmp_path)])).codebook_size == 64
    released.set()
