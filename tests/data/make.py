"""Writes small corpora of valid train shards with a snapshot, for the tests of janus.data and janus.train."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg

from janus.data.config import TokenIds
from schemas.digest import file_sha256
from schemas.layers import TRAIN
from schemas.manifest import Fingerprints, Snapshot, SnapshotShard
from schemas.sample import Task

TOKENS = TokenIds(bos=1, eos=2, pad=0, boi=3, eoi=4, image=5)
FIRST_WORD = 6
"""Smallest id used for text."""
MADE_WITH = Fingerprints(
    tokenizer="a" * 64,
    image_processor="b" * 64,
    vq="c" * 64,
    image_size=16,
    understanding_tokens=4,
    generation_tokens=9,
    codebook_size=32,
    pixels="jpeg",
)


@dataclass(frozen=True)
class MadeSource:
    """A source of `rows` rows with `words[0]` to `words[1]` text tokens each."""

    name: str
    task: Task
    rows: int
    words: tuple[int, int] = (3, 20)
    group: str = ""
    images: int = 1
    """Per understanding row."""


def make_row(
    source: MadeSource, number: int, tokens: TokenIds = TOKENS, made_with: Fingerprints = MADE_WITH, vocab: int = 64
) -> dict[str, Any]:
    """Row `number` of `source`: the layouts of janus.model.templates, with random words, codes and pictures."""
    chance = random.Random(f"{source.name}/{number}")
    words = [chance.randrange(FIRST_WORD, vocab) for _ in range(chance.randint(*source.words))]
    row: dict[str, Any] = {"short_ids": None, "codes": None, "pixels": None}
    if source.task == "generation":
        image = [tokens.boi, *[tokens.image] * made_with.generation_tokens, tokens.eoi]
        ids = [tokens.bos, *words, *image, tokens.eos]
        mask = [token == tokens.image for token in ids]
        if len(words) > 4:
            row["short_ids"] = [tokens.bos, *words[:4], *image, tokens.eos]
        row["codes"] = [chance.randrange(made_with.codebook_size) for _ in range(made_with.generation_tokens)]
    elif source.task == "understanding":
        image = [tokens.boi, *[tokens.image] * made_with.understanding_tokens, tokens.eoi]
        ids = [tokens.bos, *image * source.images, *words, tokens.eos]
        mask = [False] * (1 + len(image) * source.images) + [True] * (len(words) + 1)
        row["pixels"] = [picture(chance, made_with) for _ in range(source.images)]
    else:
        ids = [tokens.bos, *words, tokens.eos]
        mask = [False, *[True] * (len(words) + 1)]
    uid = sha256(f"{source.name}/{number}".encode()).digest()[:16]
    lengths = {"length": len(ids), "short_length": len(row["short_ids"] or ids)}
    return {"uid": uid, "input_ids": ids, "loss_mask": mask, **row, **lengths}


def picture(chance: random.Random, made_with: Fingerprints) -> bytes:
    """A smooth random picture, stored as `made_with` says."""
    corners = np.array([chance.randrange(256) for _ in range(12)], np.float64).reshape(2, 2, 3)
    at = np.linspace(0, 1, made_with.image_size)
    rows = corners[0] * (1 - at)[:, None, None] + corners[1] * at[:, None, None]
    image = rows[:, :1] * (1 - at)[None, :, None] + rows[:, 1:] * at[None, :, None]
    pixels = np.ascontiguousarray(image.astype(np.uint8))
    if made_with.pixels == "raw":
        return pixels.tobytes()
    return simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB", colorsubsampling="444")


def write_shard(path: Path, rows: Sequence[dict[str, Any]], batch_rows: int = 64) -> None:
    """Write `rows` as a train shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, TRAIN) as writer:
        for start in range(0, len(rows), batch_rows):
            writer.write_batch(pa.RecordBatch.from_pylist(list(rows[start : start + batch_rows]), schema=TRAIN))


def make_corpus(
    corpus: Path,
    sources: Sequence[MadeSource],
    *,
    tokens: TokenIds = TOKENS,
    made_with: Fingerprints = MADE_WITH,
    vocab: int = 64,
    shard_rows: int = 100,
    stage: int = 2,
) -> Snapshot:
    """Write a corpus folder: shards of up to `shard_rows` rows sorted by uid, one snapshot, LATEST."""
    rows = {
        (source.name, source.task, source.group): [
            make_row(source, number, tokens, made_with, vocab) for number in range(source.rows)
        ]
        for source in sources
    }
    return corpus_of(corpus, rows, made_with, shard_rows=shard_rows, stage=stage)


def corpus_of(
    corpus: Path,
    sources: Mapping[tuple[str, Task, str], Sequence[dict[str, Any]]],
    made_with: Fingerprints,
    *,
    shard_rows: int,
    stage: int = 2,
) -> Snapshot:
    """Write given rows: `sources` maps (name, task, group) to them."""
    shards: list[SnapshotShard] = []
    histogram: dict[str, dict[str, int]] = {}
    for (name, task, group), rows in sources.items():
        bounds = histogram.setdefault(task, {})
        for row in rows:
            bound = str(1 << (row["length"] - 1).bit_length())
            bounds[bound] = bounds.get(bound, 0) + 1
        for start in range(0, len(rows), shard_rows):
            part = sorted(rows[start : start + shard_rows], key=lambda row: row["uid"])
            path = Path("train") / name / f"{sha256(part[0]['uid']).hexdigest()[:16]}.{'0' * 12}.arrow"
            write_shard(corpus / path, part)
            shards.append(
                SnapshotShard(
                    path=str(path),
                    sha256=file_sha256(corpus / path),
                    rows=len(part),
                    bytes=(corpus / path).stat().st_size,
                    source=name,
                    task=task,
                    group=group,
                    upstream={},
                    first_snapshot=1,
                )
            )
    snapshot = Snapshot(
        corpus="made",
        stage=stage,
        number=1,
        parent=None,
        spec="0" * 64,
        fingerprints=made_with,
        shards=tuple(shards),
        funnel={name: {"rows": len(rows), "kept": len(rows)} for (name, _, _), rows in sources.items()},
        length_histogram=histogram,
        licences={"": sum(map(len, sources.values()))},
    )
    (corpus / "snapshots").mkdir(parents=True, exist_ok=True)
    (corpus / "snapshots" / f"{snapshot.name}.json").write_text(snapshot.model_dump_json())
    (corpus / "LATEST").write_text(snapshot.name)
    return snapshot
