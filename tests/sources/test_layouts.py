"""Every data set of the paper and of Janus-Pro through its entry in the shipped specs: rows in = rows out + reasons."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest

from pipelines.reading.account import Account
from pipelines.reading.local import LocalImages, gates_of
from pipelines.sources import read_source
from pipelines.steps.download import read_local
from schemas.spec import CorpusSpec, Source, load_spec
from tests.sources.layouts import LAYOUTS, Fake

CORPORA = Path(__file__).resolve().parents[2] / "flows" / "corpora"
SPECS = sorted(path.name for path in CORPORA.glob("*.toml"))


def shipped(name: str, data: Path) -> CorpusSpec:
    return load_spec(CORPORA / name, {"data": str(data), "janus": "/nowhere", "clip": "/nowhere"})


def entries() -> list[tuple[str, Source, str, int]]:
    """(spec, entry, layout, seed) for every entry of every shipped spec that differs from those before.

    One entry may read several layouts; the first entry that reads one reads two of it.
    """
    found: list[tuple[str, Source, str, int]] = []
    for spec in SPECS:
        for source in shipped(spec, Path("/data")).sources:
            layouts = [name for name in LAYOUTS if name.partition(" (")[0] == source.name]
            if source.name == "imagenet":
                layouts = [f"imagenet ({'Hub' if source.format == 'parquet_images' else 'Kaggle'})"]
            for layout in layouts or ["none"]:
                if not any((source, layout) == (other, known) for _, other, known, _ in found):
                    first = not any(layout == known for _, _, known, _ in found)
                    found += [(spec, source, layout, seed) for seed in ((1, 2) if first else (3,))]
    return found


ENTRIES = entries()


def test_every_entry_has_a_layout_and_every_layout_an_entry() -> None:
    assert {layout for _, _, layout, _ in ENTRIES} == set(LAYOUTS)


@pytest.mark.parametrize(
    ("spec", "entry", "layout", "seed"),
    ENTRIES,
    ids=[f"{spec.removesuffix('.toml')} {layout} {seed}" for spec, _, layout, seed in ENTRIES],
)
def test_a_shipped_entry_reads_the_published_layout(
    tmp_path: Path, spec: str, entry: Source, layout: str, seed: int
) -> None:
    expected = LAYOUTS[layout](Fake(tmp_path / "data", random.Random(f"{layout} {seed}")))
    source = next(source for source in shipped(spec, tmp_path / "data").sources if source.name == entry.name)
    account = Account(source)
    samples = list(read_source(source, account))
    good = [sample for sample in samples if sample.outcome == "ok"]
    assert [" | ".join(message.text for message in sample.messages) for sample in good] == expected.texts
    assert sum(len(sample.images) for sample in good) == expected.images
    assert dict(account.skipped) == {reason: count for reason, count in expected.skipped.items() if count}
    assert dict(account.failed) == expected.failed
    assert account.taken == len(expected.texts)
    assert {sample.task for sample in samples} == {source.task}
    assert all(set(sample.columns) == set(source.columns) for sample in good)
    # Marks and images agree, so that every row can be tokenized.
    for sample in good:
        marks = sum(message.text.count("<image>") for message in sample.messages)
        assert marks == (0 if sample.messages[0].role == "caption" else len(sample.images))
    outcomes: Counter[str] = Counter()
    local = [image for sample in good for image in sample.images if image.path is not None]
    with contextlib.closing(LocalImages(local, gates_of(source), tmp_path, 1 << 20)) as images:
        for image in local:
            outcome, data = read_local(image, images)
            outcomes[outcome] += 1
            assert outcome != "ok" or (data or b"").startswith(b"\xff\xd8"), "a JPEG"
    assert outcomes["missing_file"] == expected.missing
    assert outcomes["ok"] == len(local) - expected.missing


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    for layout in ("megalith", "arxivcap", "sa-1b"):
        LAYOUTS[layout](Fake(tmp_path, random.Random(0)))
        source = next(source for source in shipped("stage2.toml", tmp_path).sources if source.name == layout)
        assert list(read_source(source)) == list(read_source(source))
