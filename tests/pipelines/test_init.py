"""A spec from a folder: what lies there is recognised, said, and read as it should be; the spec builds."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from janus.cli import UserError
from pipelines.build import build
from pipelines.init import init
from pipelines.sources import read_source
from schemas.spec import Operations, load_spec
from tests.pipelines.world import image_folder, picture

ROWS = 6


def jpeg(seed: object) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "JPEG", quality=90)
    return file.getvalue()


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def put(root: Path, name: str, data: bytes | str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def beside(root: Path) -> None:
    for n in range(ROWS):
        put(root, f"cats/{n}.jpg", jpeg(n))
        put(root, f"cats/{n}.txt", f"Cat {n}.")


def listed(root: Path) -> None:
    image_folder(root, list(range(ROWS)))


def hub_images(root: Path) -> None:
    for n in range(ROWS):
        put(root, f"train/{n}.jpg", jpeg(n))
    put(root, "metadata.jsonl", lines([{"file_name": f"train/{n}.jpg", "text": f"Thing {n}."} for n in range(ROWS)]))


def hub_parquet(root: Path) -> None:
    rows = [{"picture": {"bytes": jpeg(n), "path": None}, "Caption": f"Row {n}."} for n in range(ROWS)]
    (root / "data").mkdir()
    for part in range(2):
        half = rows[part::2]
        pq.write_table(pa.Table.from_pylist(half), root / f"data/train-0000{part}-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(rows), root / "data/test-00000-of-00001.parquet")


def tars(root: Path) -> None:
    with tarfile.open(root / "00000.tar", "w") as archive:
        for n in range(ROWS):
            for suffix, data in (("jpg", jpeg(n)), ("json", json.dumps({"long_caption": f"Long {n}."}).encode())):
                info = tarfile.TarInfo(f"{n:05}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def llava(root: Path) -> None:
    rows: list[dict[str, Any]] = [{"conversations": turns("Hello?", "Hello.")}]
    for n in range(ROWS):
        put(root, f"images/coco/{n}.jpg", jpeg(n))
        rows.append({"image": f"coco/{n}.jpg", "conversations": turns(f"<image>\nWhich {n}?", f"This {n}.")})
    put(root, "mix.json", json.dumps(rows))


def classes(root: Path) -> None:
    for n in range(ROWS):
        put(root, f"train/n0000000{n % 2}/{n}.JPEG", jpeg(n))
    put(root, "LOC_synset_mapping.txt", "n00000000 tench, Tinca tinca\nn00000001 crane\n")


def coco(root: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(ROWS)]
    notes = [{"id": n, "image_id": n, "caption": f"A view {n}."} for n in range(ROWS)]
    put(root, "annotations/captions_train2017.json", json.dumps({"images": images, "annotations": notes}))
    for n in range(ROWS):
        put(root, f"train2017/{n}.jpg", jpeg(n))


def documents(root: Path) -> None:
    """As C4 lies: lines in a .json file, addresses of pages, a held-out part."""
    rows = [{"text": f"A document about {n}.", "url": "http://a.test/page"} for n in range(ROWS)]
    put(root, "en/c4-train.00000-of-01024.json", lines(rows))
    put(root, "en/c4-validation.00000-of-00008.json", lines(rows))


def chats(root: Path) -> None:
    talk = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}."}] for n in range(ROWS)]
    put(root, "a.jsonl", lines([{"messages": messages} for messages in talk]))


def pages(root: Path) -> None:
    for n in range(ROWS):
        put(root, f"img/{n}.jpg", jpeg(n))
    put(root, "p.jsonl", lines([{"text": f"See {n}: <image> there.", "images": [f"{n}.jpg"]} for n in range(ROWS)]))


def addresses(root: Path) -> None:
    rows = [{"URL": f"http://pictures.test/{n}.jpg", "TEXT": f"Picture {n}.", "WIDTH": 9} for n in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), root / "train.parquet")


KINDS: dict[Callable[[Path], None], tuple[int, dict[str, int]]] = {
    beside: (1, {"image_folder": 2}),
    listed: (1, {"image_folder": 2}),
    hub_images: (1, {"image_folder": 2}),
    hub_parquet: (1, {"parquet_images": 2}),
    tars: (1, {"webdataset": 2}),
    llava: (3, {"llava": 2}),
    classes: (1, {"imagenet_folder": 1}),
    coco: (1, {"coco_captions": 2}),
    documents: (2, {"text": 1}),
    chats: (3, {"chat": 1}),
    pages: (2, {"interleaved": 1}),
    addresses: (1, {"url_list": 2}),
}
"""What is put into a folder, to the stage and the formats of the spec for it."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_lies_there_is_read_by_the_spec(tmp_path: Path, kind: Callable[[Path], None]) -> None:
    (tmp_path / "given").mkdir()
    kind(tmp_path / "given")
    said = init(tmp_path / "given", tmp_path / "spec.toml")
    found = load_spec(tmp_path / "spec.toml", {"janus": "somewhere"})
    stage, formats = KINDS[kind]
    assert found.models.janus == "somewhere"
    assert found.stage == stage
    assert {f: sum(source.format == f for source in found.sources) for f in formats} == formats
    assert len(found.sources) == sum(formats.values())
    for source in found.sources:
        samples = list(read_source(source))
        assert len(samples) == (1 if source.name == "mix-text" else ROWS), said
        assert all(sample.outcome == "ok" and sample.messages[0].text for sample in samples)
        assert all(image.url or image.sha256 for sample in samples for image in sample.images)
        assert any(f"{source.name}: {len(samples)} rows" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k is not addresses], ids=lambda kind: kind.__name__)
def test_the_spec_builds(model: Path, tmp_path: Path, kind: Callable[[Path], None]) -> None:
    (tmp_path / "given").mkdir()
    kind(tmp_path / "given")
    init(tmp_path / "given", tmp_path / "spec.toml")
    settings = load_spec(tmp_path / "spec.toml", {"janus": str(model)})
    snapshot = build(settings, tmp_path / "c", Operations())
    for source in settings.sources:
        assert snapshot.funnel[source.name]["kept"] == snapshot.funnel[source.name]["rows"]


def test_two_kinds_are_two_sources_and_what_is_not_read_is_counted(tmp_path: Path) -> None:
    given = tmp_path / "given"
    beside(given)
    put(given, "chat/a.jsonl", lines([{"conversations": turns("A?", "B.")}] * 3))
    put(given, "broken.parquet", b"PAR1 no more")
    put(given, "cats/a.HEIC", b"x")
    put(given, "cats/b.heic", b"x")
    put(given, "cats/lonely.png", jpeg(99))
    put(given, "film.mov", b"x")
    said = "\n".join(init(given, tmp_path / "spec.toml"))
    found = load_spec(tmp_path / "spec.toml", {"janus": "m"})
    assert {source.format for source in found.sources} == {"image_folder", "chat"}
    assert "2 .heic images, a kind that is not read" in said
    assert "broken.parquet: not a readable Parquet file" in said
    assert "1 images without a .txt beside them" in said
    assert "1 other files (1 .mov)" in said
    assert all(len(list(read_source(source))) in (3, ROWS) for source in found.sources)


def test_a_folder_of_nothing_usable_is_one_line_and_no_spec(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(UserError, match=r"nothing that a corpus can be made of: it is empty"):
        init(tmp_path / "given", tmp_path / "spec.toml")
    put(tmp_path / "given", "a.heic", b"x")
    put(tmp_path / "given", "b.jpg", jpeg(1))
    with pytest.raises(UserError, match=r"1 images without a caption; 1 \.heic images"):
        init(tmp_path / "given", tmp_path / "spec.toml")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        init(tmp_path / "nowhere", tmp_path / "spec.toml")
    assert not (tmp_path / "spec.toml").exists()
    listed(tmp_path / "given")
    init(tmp_path / "given", tmp_path / "spec.toml")
    with pytest.raises(FileExistsError, match="exists; choose another name"):
        init(tmp_path / "given", tmp_path / "spec.toml")
