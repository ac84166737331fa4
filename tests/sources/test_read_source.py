"""What all sources have in common."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from demo.source import PARTS
from pipelines.sources import SourceError, formats, read_source
from schemas.spec import Source
from tests.pictures import PICTURES


def test_every_format_of_the_documentation_is_there() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sources.md").read_text()
    for name in formats():
        assert f"`{name}`" in page, f"docs/sources.md does not mention {name}"


@pytest.mark.parametrize("format", ["nope", "errors", "refs", "os.path", "../images", ""])
def test_unknown_formats(tmp_path: Path, format: str) -> None:
    source = Source(name="s", format=format, path=str(tmp_path), task="text")
    with pytest.raises(SourceError, match=r"source s: no format .*there are: chat, coco_captions, image_folder"):
        next(read_source(source))


def test_wrong_task_and_wrong_options(write, read) -> None:
    path = write("a.jsonl", [{"messages": [{"role": "user", "content": "hi"}]}])
    with pytest.raises(SourceError, match="format chat gives task text, not generation"):
        read("chat", path, "generation")
    with pytest.raises(SourceError, match=r"options\.colour: .*\(format chat knows: none\)"):
        read("chat", path, "text", colour="red")
    with pytest.raises(SourceError, match=r"options\.max_chars: Input should be a valid integer.*text knows: col"):
        read("text", path, "text", max_chars="many")
    with pytest.raises(SourceError, match=r"source test: .*nowhere: no such file or folder"):
        read("chat", path.parent / "nowhere", "text")


def test_limit_and_licence(write) -> None:
    rows = [{"url": f"http://a/{n}", "caption": "", "terms": "CC0" if n == 1 else None} for n in range(5)]
    source = Source(
        name="s",
        format="url_list",
        path=str(write("a.jsonl", rows)),
        task="generation",
        options={"licence": "terms"},
        limit=3,
        licence="CC BY 4.0",
    )
    samples = list(read_source(source))
    assert [s.images[0].url for s in samples] == ["http://a/0", "http://a/1", "http://a/2"]
    assert [s.licence for s in samples] == ["CC BY 4.0", "CC0", "CC BY 4.0"]


def test_a_source_is_lazy(write) -> None:
    path = write("a.jsonl", '{"url": "http://a", "caption": "fine"}\nbroken\n')
    iterator = read_source(Source(name="s", format="url_list", path=str(path), task="generation"))
    assert next(iterator).messages[0].text == "fine"
    with pytest.raises(SourceError, match=r"a\.jsonl:2"):
        next(iterator)


def test_the_order_does_not_depend_on_how_the_files_were_made(tmp_path: Path, read) -> None:
    names = [f"{folder}/{n}.jpg" for folder in ("b", "a") for n in (10, 2, 1)]
    for root, order in ((tmp_path / "x", names), (tmp_path / "y", names[::-1])):
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(PICTURES["photo.jpg"])
            (root / name).with_suffix(".txt").write_text(name)
    first, second = read("image_folder", tmp_path / "x"), read("image_folder", tmp_path / "y")
    assert first == second  # paths too: they are relative to the source
    assert [s.key for s in first] == sorted(names)


def test_every_part_of_the_built_in_world(tmp_path: Path, read) -> None:
    world = tmp_path / "world"
    with pytest.raises(SourceError, match=r"no world here; run python -m demo\.world"):
        read("shapes", world, part="imagenet")
    command = [sys.executable, "-m", "demo.world", "--out", str(world), "--scenes", "40", "--heldout", "2"]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[2])
    tasks = {"imagenet": "generation", "captions": "generation", "text": "text", "chat": "text"}
    found = Counter()
    for part in PARTS:
        samples = read("shapes", world, tasks.get(part, "understanding"), part=part)
        found[part] = len(samples)
        assert len({s.key for s in samples}) == len(samples)
        for sample in samples:
            marks = sum(message.text.count("<image>") for message in sample.messages)
            caption = sample.messages[0].role == "caption"
            assert len(sample.images) == (1 if caption else marks)
            assert all(image.url or image.sha256 for image in sample.images)
    assert min(found[part] for part in PARTS) > 0
    assert found["captions"] == len((world / "captions" / "urls.jsonl").read_text().splitlines())
