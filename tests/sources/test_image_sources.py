"""ImageNet folders, caption folders, COCO, WebDataset, img2dataset and address lists, in their real layouts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading.gate import Gate
from pipelines.reading.tars import members, read_member
from pipelines.sources import SourceError
from tests.pictures import PICTURES
from tests.sources.reading import read_image

PHOTO = PICTURES["photo.jpg"]
SHA = hashlib.sha256(PHOTO).hexdigest()


def caption(sample) -> str:
    assert [message.role for message in sample.messages] == ["caption"]
    return sample.messages[0].text


# --- ImageNet


def test_imagenet_photos_in_their_layout(shared_data: Path, tmp_path: Path, read) -> None:
    folder = shared_data / "photos" / "imagenet"
    labels = list(csv.DictReader((folder / "labels.tsv").open(), delimiter="\t"))
    for label in reversed(labels):
        place = tmp_path / "train" / label["wnid"] / label["file"]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / label["file"], place)
    (tmp_path / "classes.tsv").write_text("".join(f"{label['wnid']}\t{label['class_name']}\n" for label in labels))
    samples = read("imagenet_folder", tmp_path, images="train")
    expected = sorted((label["wnid"], label["file"], label["class_name"].replace("_", " ")) for label in labels)
    assert [(s.key, caption(s)) for s in samples] == [(f"train/{wnid}/{file}", name) for wnid, file, name in expected]
    for sample in samples:
        data = read_image(sample.images[0], tmp_path)
        assert hashlib.sha256(data).hexdigest() == sample.images[0].sha256


def test_imagenet_class_names(write, tmp_path: Path, read, met) -> None:
    for wnid in ("n02", "n01"):
        write(f"{wnid}/a.JPEG", PHOTO)
    write("n01/notes.txt", "no image")
    write("n01/new.heic", "counted")
    write("LOC_synset_mapping.txt", "n01 crane, a bird\nn02 crane, a machine\n")
    samples = read("imagenet_folder", tmp_path, classes="LOC_synset_mapping.txt")
    assert [(s.key, caption(s)) for s in samples] == [("n01/a.JPEG", "crane"), ("n02/a.JPEG", "crane")]
    write("classes.tsv", "n01\tsleeping_bag\n")
    samples, account = met("imagenet_folder", tmp_path)
    assert [sample.outcome for sample in samples] == ["ok", "bad_row"]
    assert "class n02 has no name in classes.tsv" in account.examples["bad_row"][0]
    write("classes.tsv", "n01\tx\nn02\n")
    with pytest.raises(SourceError, match=r"classes\.tsv:2: expected WordNet id and class name"):
        read("imagenet_folder", tmp_path)


# --- image_folder


def test_coco_photos_with_captions(shared_data: Path, read) -> None:
    folder = shared_data / "photos" / "coco"
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    samples = read("image_folder", folder, caption="captions")
    assert [(s.images[0].path, caption(s)) for s in samples] == [
        (line["image"], line["captions"][0].strip()) for line in lines
    ]
    assert all(s.images[0].sha256 for s in samples)


def test_captions_beside_the_images(write, tmp_path: Path, read, met) -> None:
    write("b.jpg", PHOTO)
    write("b.txt", " second \n")
    write("a/x.PNG", PHOTO)
    write("a/x.txt", "first")
    assert [(s.key, caption(s)) for s in read("image_folder", tmp_path)] == [("a/x.PNG", "first"), ("b.jpg", "second")]
    for name in ("c.webp", "d.jpg", "e.HEIC"):
        write(name, PHOTO)
    samples, account = met("image_folder", tmp_path)
    assert len(samples) == 2
    assert account.skipped == {"no_caption": 2, "unsupported_format": 1}
    assert account.examples["no_caption"] == [str(tmp_path / "c.webp"), str(tmp_path / "d.jpg")]


@pytest.mark.parametrize("options", [{"files": ["caption.jsonl"]}, {"image": "file_name"}, {"caption": "text"}])
def test_captions_that_are_named_must_be_there(write, tmp_path: Path, read, options: dict[str, str]) -> None:
    write("b.jpg", PHOTO)
    write("b.txt", "never to be taken for what the misspelt file says")
    with pytest.raises(
        SourceError,
        match=r"source test: .*(captions\.jsonl: no such file; name the files|no file .* matches caption)",
    ):
        read("image_folder", tmp_path, **options)


def test_caption_file_in_a_folder_and_a_missing_image(write, tmp_path: Path, read, met) -> None:
    write("train/1.jpg", PHOTO)
    write("train/metadata.jsonl", [{"file_name": "1.jpg", "text": "one"}, {"file_name": "2.jpg", "text": None}])
    samples = read("image_folder", tmp_path, files=["train/metadata.jsonl"], image="file_name", caption="text")
    assert [(s.images[0].path, s.images[0].sha256, caption(s)) for s in samples] == [
        ("train/1.jpg", SHA, "one"),
        ("train/2.jpg", None, ""),
    ]
    write("captions.jsonl", [{"image": "../1.jpg", "caption": "x"}])
    samples, account = met("image_folder", tmp_path)
    assert [(s.key, s.outcome) for s in samples] == [("captions.jsonl:1", "forbidden_path")]
    assert "captions.jsonl:1: path '../1.jpg' must be relative" in account.examples["forbidden_path"][0]


# --- COCO


def test_coco_annotations(write, tmp_path: Path, read) -> None:
    tables = {
        "licenses": [{"id": 4, "name": "Attribution License", "url": "http://..."}],
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "license": 4},
            {"id": 5, "file_name": "000000000005.jpg", "license": 4},
            {"id": 7, "file_name": "000000000007.jpg"},
        ],
        "annotations": [
            {"id": 3, "image_id": 9, "caption": "Later."},
            {"id": 2, "image_id": 9, "caption": "A photo.\n"},
            {"id": 1, "image_id": 5, "caption": "Five."},
        ],
    }
    write("annotations/captions_train2017.json", json.dumps(tables))
    write("train2017/000000000009.jpg", PHOTO)
    samples = read("coco_captions", tmp_path)
    assert [(s.key, caption(s), s.images[0].sha256, s.licence) for s in samples] == [
        ("5", "Five.", None, "Attribution License"),
        ("7", "", None, None),
        ("9", "A photo.", SHA, "Attribution License"),
    ]
    write("annotations/captions_train2017.json", json.dumps(tables)[:-30])
    with pytest.raises(SourceError, match=r"captions_train2017\.json.* cut short"):
        read("coco_captions", tmp_path)


# --- WebDataset


def make_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_members_are_read_in_place(tmp_path: Path, read) -> None:
    make_tar(
        tmp_path / "00000.tar",
        [("a/1.jpg", PHOTO), ("a/1.txt", b"one\n"), ("a/2.json", b"{}"), ("a/2.png", b"not looked at")],
    )
    make_tar(tmp_path / "00001.tar", [("b.jpg", PHOTO), ("b.txt", b"three")])
    samples = read("webdataset", tmp_path)
    assert [(s.key, caption(s)) for s in samples] == [
        ("00000.tar/a/1", "one"),
        ("00000.tar/a/2", ""),
        ("00001.tar/b", "three"),
    ]
    assert [read_image(s.images[0], tmp_path) for s in samples] == [PHOTO, b"not looked at", PHOTO]
    assert samples[0].images[0].sha256 == SHA


def test_webdataset_caption_in_json(tmp_path: Path, read, met) -> None:
    make_tar(tmp_path / "a.tar", [("1.jpg", PHOTO), ("1.json", b'{"caption": "one"}')])
    assert caption(read("webdataset", tmp_path / "a.tar", caption="json.caption")[0]) == "one"
    with pytest.raises(SourceError, match=r"no member ends in \.txt \(found: jpg, json\)"):
        read("webdataset", tmp_path / "a.tar")
    _, account = met("webdataset", tmp_path / "a.tar", options={"caption": "json.text"})
    assert "a.tar: 1: no field 'json.text' (fields: caption)" in account.examples["bad_row"][0]


def test_webdataset_real_tars(shared_data: Path, read) -> None:
    folder = shared_data / "webdataset_tars"
    with pytest.raises(SourceError, match=r"image1\.tar: no member ends in \.txt \(found: jpg\)"):
        read("webdataset", folder / "test_tars")  # pictures only
    images = {path.name: path.read_bytes() for path in (folder / "test_images").iterdir()}
    found = [(tar, member) for tar in sorted((folder / "test_tars").iterdir()) for member in members(tar, Gate(folder))]
    assert len(found) == 11
    for tar, member in found:
        assert read_member(tar, Gate(folder), member) == images[member.name]


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_webdataset_cut_short_is_an_error(tmp_path: Path, read, keep: float) -> None:
    path = tmp_path / "a.tar"
    make_tar(path, [(f"{n}.{kind}", PHOTO) for n in range(20) for kind in ("jpg", "txt")])
    data = path.read_bytes()
    last = data.rindex(b"ustar")
    path.write_bytes(data[: int(last * keep)])
    with pytest.raises(SourceError, match=r"a\.tar: "):
        read("webdataset", path)


# --- img2dataset


def img2dataset_shard(folder: Path, layout: str) -> None:
    rows = [
        {"url": "http://a/1", "caption": "one", "key": "000000000", "status": "success"},
        {"url": "http://a/2", "caption": "two", "key": "000000001", "status": "failed_to_download"},
        {"url": "http://a/3", "caption": None, "key": "000000002", "status": "success"},
    ]
    images = {"000000000": PHOTO, "000000002": PICTURES["grey.jpg"]}
    if layout == "parquet":
        rows = [{**row, "jpg": images.get(row["key"])} for row in rows]
    if layout == "webdataset":
        make_tar(folder / "00000.tar", [(f"{key}.jpg", data) for key, data in images.items()])
    if layout == "files":
        (folder / "00000").mkdir()
        for key, data in images.items():
            (folder / "00000" / f"{key}.jpg").write_bytes(data)
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")


@pytest.mark.parametrize("layout", ["webdataset", "parquet", "files"])
def test_img2dataset_output(tmp_path: Path, read, layout: str) -> None:
    img2dataset_shard(tmp_path, layout)
    samples = read("img2dataset", tmp_path)
    assert [caption(s) for s in samples] == ["one", "two", ""]
    assert samples[1].images[0].url == "http://a/2"  # to be tried again
    assert read_image(samples[0].images[0], tmp_path) == PHOTO
    assert read_image(samples[2].images[0], tmp_path) == PICTURES["grey.jpg"]


def test_img2dataset_unfinished_shard_is_not_believed(tmp_path: Path, read) -> None:
    img2dataset_shard(tmp_path, "webdataset")
    (tmp_path / "00000_stats.json").unlink()
    with pytest.raises(SourceError, match=r"no 00000_stats\.json beside it"):
        read("img2dataset", tmp_path)


# --- url_list


def test_real_url_list(shared_data: Path, read) -> None:
    path = shared_data / "urls" / "test_1000.parquet"
    table = pq.read_table(path).to_pylist()
    samples = read("url_list", path, url="URL", caption="TEXT")
    assert [(s.images[0].url, caption(s)) for s in samples] == [
        (row["URL"], (row["TEXT"] or "").strip()) for row in table
    ]
    with pytest.raises(SourceError, match=r"no column 'url' .*columns: URL, TEXT"):
        read("url_list", path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_url_list_formats_agree(write, tmp_path: Path, read, suffix: str) -> None:
    rows = [
        {"link": "http://a/1.jpg", "alt": "one", "hash": SHA.upper(), "terms": "CC0"},
        {"link": "", "alt": "two, quoted", "hash": "", "terms": ""},
    ]
    path = tmp_path / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([{k: v or None for k, v in row.items()} for row in rows]), path)
    elif suffix == "jsonl":
        write(path.name, rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    samples = read("url_list", path, url="link", caption="alt", sha256="hash", licence="terms")
    assert [(s.images[0].url, caption(s), s.images[0].sha256, s.licence) for s in samples] == [
        ("http://a/1.jpg", "one", SHA, "CC0"),
        ("", "two, quoted", None, None),  # an empty address is a row that will fail as bad_url
    ]


def test_url_list_bad_hash(write, met) -> None:
    path = write("a.jsonl", [{"url": "http://a", "caption": "", "md5": "abc"}])
    _, account = met("url_list", path, options={"sha256": "md5"})
    assert "a.jsonl:1: md5: expected 64 hex digits, found 'abc'" in account.examples["bad_row"][0]


# --- images in Parquet


@pytest.mark.parametrize("struct", [True, False])
def test_images_in_parquet(tmp_path: Path, read, met, struct: bool) -> None:
    images = [PHOTO, PICTURES["grey.jpg"]]
    cells = [{"bytes": image, "path": "x.jpg"} for image in images] if struct else images
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": cells, "text": ["one", None]}), tmp_path / "data" / "train-0.parquet")
    samples = read("parquet_images", tmp_path)
    assert [(s.key, caption(s)) for s in samples] == [("data/train-0.parquet:0", "one"), ("data/train-0.parquet:1", "")]
    assert [read_image(s.images[0], tmp_path) for s in samples] == images
    pq.write_table(pa.table({"image": [3], "text": ["one"]}), tmp_path / "data" / "train-0.parquet")
    [sample], account = met("parquet_images", tmp_path)
    assert sample.outcome == "bad_row"
    assert "row 0: image: expected an image, its address or its path, found 3" in account.examples["bad_row"][0]


# --- the Hub's cache: links from a snapshot to blobs


def cached(root: Path, files: dict[str, bytes]) -> Path:
    """A snapshot as huggingface_hub lays it down; its folder."""
    repo = root / "hub" / "datasets--owner--name"
    snapshot = repo / "snapshots" / ("a" * 40)
    (repo / "blobs").mkdir(parents=True)
    for name, data in files.items():
        blob = hashlib.sha256(data).hexdigest()
        (repo / "blobs" / blob).write_bytes(data)
        place = snapshot / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", blob))
    return snapshot


def test_a_hub_snapshot_is_read_through_its_links(tmp_path: Path, read) -> None:
    pq.write_table(pa.table({"image": [{"bytes": PHOTO, "path": None}], "text": ["one"]}), tmp_path / "a.parquet")
    make_tar(tmp_path / "a.tar", [("1.jpg", PHOTO), ("1.txt", b"two")])
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "three"}]
    snapshot = cached(
        tmp_path,
        {
            "data/train-0.parquet": (tmp_path / "a.parquet").read_bytes(),
            "a.tar": (tmp_path / "a.tar").read_bytes(),
            "a.json": json.dumps([{"image": "images/1.jpg", "conversations": turns}]).encode(),
            "images/1.jpg": PHOTO,
        },
    )
    for format, task, options in (
        ("parquet_images", "generation", {}),
        ("webdataset", "generation", {}),
        ("llava", "understanding", {"files": ["a.json"]}),
    ):
        [sample] = read(format, snapshot, task, **options)
        assert sample.messages[-1].text in ("one", "two", "three")
        assert read_image(sample.images[0], snapshot) == PHOTO
    [sample] = read("parquet_images", snapshot / "data" / "train-0.parquet")  # one file, named by the spec
    assert read_image(sample.images[0], snapshot / "data") == PHOTO


def test_path_only_cells_and_an_image_folder(tmp_path: Path, write, read) -> None:
    write("pictures/x.jpg", PHOTO)
    cells = [{"bytes": None, "path": "x.jpg"}, {"bytes": None, "path": "gone.jpg"}, {"bytes": PHOTO, "path": "x.jpg"}]
    pq.write_table(pa.table({"image": cells, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    samples = read("parquet_images", tmp_path, images="pictures")
    assert [(s.images[0].path, bool(s.images[0].sha256)) for s in samples] == [
        ("pictures/x.jpg", True),
        ("pictures/gone.jpg", False),
        ("a.parquet", True),
    ]
    assert read_image(samples[0].images[0], tmp_path) == read_image(samples[2].images[0], tmp_path) == PHOTO


def test_where_asks_for_classes(tmp_path: Path, write, met) -> None:
    for wnid in ("n01", "n02", "n03"):
        write(f"{wnid}/a.JPEG", PHOTO)
    write("classes.tsv", "n01\tx\nn02\ty\nn03\tz\n")
    samples, account = met("imagenet_folder", tmp_path, where="wnid in ('n01', 'n03')")
    assert [s.messages[0].text for s in samples] == ["x", "z"]
    assert account.skipped == {"where": 1}
