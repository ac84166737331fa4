"""One data set, written by `datasets` in three ways, gives the same rows, and leads nowhere it should not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipelines.reading.local import LocalImages, gates_of
from pipelines.sources import SourceError
from pipelines.steps.download import read_local
from tests.pipelines.world import picture
from tests.sources.conftest import described

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "meta": {"captions": datasets.List(datasets.Value("string"))},
        "score": datasets.Value("float64"),
        "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
    }
)


def png(folder: Path, number: int) -> bytes:
    path = folder / "one.png"
    picture(number, 16, 12).save(path)
    return path.read_bytes()


def rows(folder: Path) -> list[dict[str, Any]]:
    found = []
    for n in range(7):
        chat = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": f"It is {n}."}]
        image = {"bytes": png(folder, n), "path": f"{n}.png"}
        found.append({"image": image, "label": n % 2, "meta": {"captions": [f"a {n}", "b"]}, "score": n / 2})
        found[-1]["messages"] = chat
    found[3]["image"] = None
    found[4]["meta"] = {"captions": []}
    found[5] |= {"label": -1, "score": None, "messages": []}
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The data set as save_to_disk writes it, as a dictionary of splits, and in the hub's cache: links to blobs."""
    root = tmp_path_factory.mktemp("sets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(rows(root), features=FEATURES)
    data.save_to_disk(root / "saved", num_shards=2)
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(root / "splits")
    repository = root / "hub" / "datasets--owner--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "blobs").mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    for split, at, chosen in (("train", 0, range(4)), ("train", 1, range(4, 7)), ("test", 0, range(1))):
        data.select(chosen).to_parquet(root / "one")
        blob = hashlib.sha256((root / "one").read_bytes()).hexdigest()
        shutil.move(root / "one", repository / "blobs" / blob)
        os.symlink(f"../../../blobs/{blob}", snapshot / "data" / f"{split}-{at:05d}-of-00002.parquet")
    return {"saved": root / "saved", "splits": root / "splits", "hub": snapshot}


def told(samples: Any) -> list[Any]:
    return [(s.uid.hex(), s.key, s.outcome, [m.model_dump() for m in s.messages], s.columns) for s in samples]


@pytest.mark.parametrize(
    ("task", "options", "texts"),
    [
        ("generation", {"caption": "label"}, ["cat", "dog", "cat", "dog", "cat", "", "cat"]),
        ("generation", {"caption": "meta.captions"}, ["a 0", "a 1", "a 2", "a 3", None, "a 5", "a 6"]),
        ("understanding", {"content": "conversation"}, [f"It is {n}." if n != 5 else None for n in range(7)]),
    ],
)
def test_all_three_give_the_same_rows(three: dict[str, Path], met, task: str, options: Any, texts: Any) -> None:
    found = {}
    for name, path in three.items():
        samples, account = met("huggingface", path, task, options, columns=("score",), max_unreadable=1.0)
        found[name] = told(samples)
        assert account.rows == 7
        assert [sample.key for sample in samples] == [f"train:{n}" for n in range(7)]
    assert found["saved"] == found["splits"] == found["hub"]
    good = {int(sample.key[6:]): sample for sample in samples if sample.outcome == "ok"}
    assert [good[n].messages[-1].text if n in good else None for n in range(7)] == texts
    assert [good[n].columns["score"] for n in good] == [n / 2 if n != 5 else None for n in good]


def test_the_pictures_are_those_of_the_data_set(three: dict[str, Path], met, tmp_path: Path) -> None:
    expected = [row["image"]["bytes"] if row["image"] else None for row in rows(tmp_path)]
    for path in three.values():
        source = described("huggingface", path, "generation", {"caption": "label"})
        samples, _ = met("huggingface", path, "generation", {"caption": "label"})
        refs = [sample.images[0] for sample in samples][::-1]
        with contextlib.closing(LocalImages(refs, gates_of(source), tmp_path, 1 << 20)) as images:
            found = [read_local(ref, images) for ref in refs][::-1]
        assert [data for _, data in found] == expected
        assert [outcome for outcome, data in found if data is None] == ["missing_file"]
        with contextlib.closing(LocalImages(refs, gates_of(source), tmp_path, 10)) as images:
            assert {read_local(ref, images)[0] for ref in refs} == {"missing_file", "too_large"}


def test_where_and_splits(three: dict[str, Path], met) -> None:
    for path in three.values():
        samples, account = met(
            "huggingface", path, "generation", {"caption": "label"}, where="score >= 1 and score < 3"
        )
        assert [sample.key for sample in samples] == [f"train:{n}" for n in (2, 3, 4)]
        assert account.skipped == {"where": 4}
    for name in ("splits", "hub"):
        samples, _ = met("huggingface", three[name], "generation", {"caption": "label", "split": "test"})
        assert [sample.key for sample in samples] == ["test:0"]
        with pytest.raises(SourceError, match=r"no split 'dev' \(splits: (test, train|train, test)\)"):
            met("huggingface", three[name], "generation", {"split": "dev"})
        with pytest.raises(SourceError, match=r"no column 'title' \(columns: image, label"):
            met("huggingface", three[name], "generation", {"caption": "title"})


def test_documents_are_text(tmp_path: Path, met) -> None:
    datasets.Dataset.from_dict({"body": ["one", "two"]}).save_to_disk(tmp_path / "texts")
    samples, _ = met("huggingface", tmp_path / "texts", "text", {"caption": "body"})
    assert [sample.messages[0].model_dump() for sample in samples] == [
        {"role": "document", "text": text} for text in ("one", "two")
    ]


def test_nothing_leads_out_of_the_folder(three: dict[str, Path], tmp_path: Path, met) -> None:
    copy = tmp_path / "saved"
    for named in ("../secret.arrow", "/etc/passwd"):
        shutil.copytree(three["saved"], copy, dirs_exist_ok=True)
        (copy / "state.json").write_text(json.dumps({"_data_files": [{"filename": named}]}))
        with pytest.raises(SourceError, match="must be relative and stay inside"):
            met("huggingface", copy)
    hub = tmp_path / "hub"
    hub.mkdir()
    shutil.copy(next((three["hub"] / "data").iterdir()), hub / "train.parquet")
    for named in ("../saved/*.parquet", "http://10.0.0.1/x.parquet", "/etc/*.parquet"):
        (hub / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: '{named}'\n---\n")
        with pytest.raises(SourceError, match="is not below this folder"):
            met("huggingface", hub)
    (hub / "README.md").unlink()
    os.symlink(tmp_path / "saved" / "dataset_info.json", hub / "train-2.parquet")
    with pytest.raises(SourceError, match="is a link that leaves"):
        met("huggingface", hub)


def test_damage_is_one_line(three: dict[str, Path], tmp_path: Path, met) -> None:
    copy = tmp_path / "saved"
    shutil.copytree(three["saved"], copy)
    file = copy / "data-00000-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(SourceError, match=r"data-00000-of-00002\.arrow: .*cannot be read") as caught:
        met("huggingface", copy, "generation", {"caption": "label"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["hf://datasets/owner/name", "hf://datasets/owner/name@main", "s3://bucket/x"])
def test_the_hub_is_read_at_a_commit(path: str, met) -> None:
    with pytest.raises(SourceError, match="40 hex digits of a commit"):
        list(met("huggingface", path))
