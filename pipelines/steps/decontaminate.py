"""Decontaminate: which rows hold a picture or a text of an evaluation set, and of which item (docs/dedup.md).

A layer of its own, made at the start of `decide` if the spec names evaluation sets. A change of the sets makes this
layer again and the decisions that it changes; nothing is downloaded or measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from janus.images import ImageProblem
from pipelines import ledger
from pipelines.decontamination.index import NONE, Index, make_index
from pipelines.decontamination.sets import picture_hash, set_digests
from pipelines.engine import run_folder_in
from pipelines.shardio import write_table
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.judge import count_contaminated
from pipelines.steps.signal_table import signal_table
from schemas.layers import CONTAMINATION, says, signal_layer
from schemas.spec import Decontaminate
from storage.store import Store

VERSION = 1
_INDEX = "index.npz"


@dataclass
class DecontaminateStep:
    """Makes one contamination shard."""

    corpus: Store
    scratch: Store
    """Holds the index."""
    settings: Decontaminate
    max_pixels: int
    index: Index | None = field(default=None, repr=False)

    def setup(self) -> None:
        """Load the index."""
        self.index = Index.from_bytes(self.scratch.read(_INDEX), self.settings)

    def run(self, work: LayerWork[None], advance: Callable[[int], None]) -> None:
        """Compare and commit one shard."""
        assert self.index is not None, "run before setup"
        table = compared(self.corpus, work.shard.paths, self.index, self.max_pixels)
        written = write_table(self.corpus, work.output, CONTAMINATION, table)
        work.commit(self.corpus, written, count_contaminated(table))
        advance(table.num_rows)


def compared(corpus: Store, paths: Mapping[str, str], index: Index, max_pixels: int) -> pa.Table:
    """The contamination layer of a shard: by the bytes of its pictures, else by their perceptual hashes, else by text.

    Args:
        paths: layer to the path of the shard there.
    """
    signals = signal_table(corpus, paths, ["image.num_images", "image.sha256", "phash.hash"])
    count = signals.column("image.num_images").fill_null(0).to_numpy()
    hashed = signals.column("phash.hash").is_valid().to_numpy()
    near = index.by_phash(signals.column("phash.hash").fill_null(0).to_numpy().astype(np.uint64))
    near[~hashed] = NONE
    sha256 = signals.column("image.sha256").to_pylist()
    # What the signals do not tell: further pictures of a row, and any where `phash` is not measured.
    looked_at = (count > 1) | ((count == 1) & ~hashed)
    items: list[str | None] = []
    by: list[str | None] = []
    said = ledger.open_input(corpus, paths[says(paths)])[1].table(["messages"]).column("messages")
    start = 0
    for batch in ledger.open_input(corpus, paths["raw"])[1].batches(["images"]):
        for place in range(batch.num_rows):
            row = start + place
            found = {"sha256": NONE, "phash": int(near[row]), "text": NONE}
            if count[row] == 1:
                found["sha256"] = index.sha256.get(sha256[row], NONE)
            if looked_at[row]:
                exact, close = _pictures(batch.column("images")[place].as_py(), index, max_pixels)
                found["sha256"], found["phash"] = min(found["sha256"], exact), min(found["phash"], close)
            if found["sha256"] == found["phash"] == NONE:
                found["text"] = index.by_text(message["text"] for message in said[row].as_py())
            kind = next((kind for kind, item in found.items() if item != NONE), None)
            by.append(kind)
            items.append(None if kind is None else index.names[found[kind]])
        start += batch.num_rows
    columns_made = [signals.column("uid"), pa.array(items, pa.string()), pa.array(by, pa.string())]
    return pa.table(columns_made, names=CONTAMINATION.names)


def _pictures(images: Sequence[Mapping[str, Any]], index: Index, max_pixels: int) -> tuple[int, int]:
    """The first items that one of the pictures of a row is: by bytes, and by perceptual hash."""
    exact, hashes = NONE, []
    for image in images:
        if image["bytes"] is None:
            continue
        exact = min(exact, index.sha256.get(image["sha256"], NONE))
        if index.settings.phash_radius is not None and len(index.phash.hashes):
            try:
                hashes.append(picture_hash(image["bytes"], max_pixels))
            except ImageProblem:
                continue
    return exact, int(index.by_phash(np.array(hashes, np.uint64)).min(initial=NONE))


def decontaminate(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the contamination layer; `shards` as they are if the spec names no evaluation sets.

    Raises ValueError or FileNotFoundError with one line if a set cannot be read.
    """
    settings = build.spec.decontaminate
    if not settings.sets or not shards:
        return list(shards)
    config = settings.model_dump(mode="json", exclude={"sets"}, exclude_defaults=True)
    spec = ledger.StepSpec("contamination", VERSION, config, set_digests(settings.sets))
    signals = {signal_layer("image"), signal_layer("phash")}
    works = [
        build.work(shard, spec, shard.inputs("raw", shard.says, *sorted(signals & shard.layers.keys())), None)
        for shard in shards
    ]
    with run_folder_in(build.scratch, "decontaminate") as scratch:

        def step() -> DecontaminateStep:
            scratch.write(_INDEX, make_index(settings).to_bytes())
            return DecontaminateStep(build.corpus, scratch, settings, build.spec.limits.max_pixels)

        return make_layer(build, "decontaminate", step, works)
