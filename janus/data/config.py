"""What the loader needs to know (the `data` part of a recipe)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
class TokenIds:
    """Ids of the special tokens. Always from the tokenizer: they differ between Janus checkpoints."""

    bos: int
    eos: int
    pad: int
    boi: int
    eoi: int
    image: int
    vocabulary: int = 2**31
    """Ids are below this: rows of the model's table of word embeddings."""


@dataclass(frozen=True)
class DataOrder:
    """What decides which documents a step trains on, and how they are augmented (design D8).

    Every field is part of a run's identity: a run is only continued with the same ones.
    """

    ratio: tuple[int, int, int] = (1, 0, 1)
    """Understanding : text : generation (paper, table 1). Exact in every cycle of the stream; 0 leaves a task out."""
    ratio_unit: Literal["samples", "tokens", "rows"] = "samples"
    """What the ratio counts. The paper does not say. `tokens` derives whole sample counts from the mean lengths.
    `rows`: how often a row of each task comes beside one of the others; tasks without rows are left out."""
    sequences: int = 256
    """Packed sequences per step over all ranks (the paper's "batch size", read as sequences)."""
    seq_len: int = 4096
    """Tokens per packed sequence."""
    first_group: str = ""
    """Group of the sources that alone feed generation at first ("imagenet" in stage 2); empty for a single phase."""
    first_share: float = 2 / 3
    """Share of the steps in which generation uses `first_group` only; afterwards it uses all other sources."""
    weights: dict[str, float] = field(default_factory=dict)
    """How often a row of a source comes beside a row of the other sources of its task, e.g. `photos 2 drawings 0.5`.
    1 for sources not named; 0 leaves one out."""
    max_epochs: dict[str, float] = field(default_factory=dict)
    """How often at most the rows of a source come in the whole run (to within a few documents), e.g. `photos 4`; `all`
    stands for the sources not named. What a source may not give, the others of its task do, in proportion, from the
    first step on."""
    hold_out: float = 0.0
    """Share of the rows that never train, chosen by uid (docs/data-order.md); their loss is logged."""
    replay: str = ""
    """Corpus, beside that of --data, of which documents come again so that the model keeps what it knew; empty for
    none."""
    replay_share: float = 0.2
    """Share of all documents that come from `replay`."""
    replay_ratio: tuple[int, int, int] = (7, 3, 10)
    """Understanding : text : generation among the documents of `replay` (paper, stage 3).
    Tasks it lacks are left out."""
    replay_snapshot: str = ""
    """Name of the snapshot of `replay`; empty for the latest, or the one that the run to continue began with."""
    caption_drop: float = 0.1
    """Share of generation samples whose caption is replaced by padding, for classifier-free guidance."""
    short_caption: float = 0.25
    """Share of generation samples with only the first sentence of the caption, where there are more (section 3.2)."""
    seed: int = 0
    """Seed of order, caption drop and short captions."""
    shuffle: Literal["row", "block"] = "row"
    """row: over all rows of a task. block: shards, then the rows of `block_shards` shards at a time, which a corpus too
    large for memory or in an object store needs (docs/data-order.md)."""
    block_shards: int = 256
    """Shards whose rows are mixed, with shuffle = "block"."""

    def __post_init__(self) -> None:
        for name, ratio in (("ratio", self.ratio), ("replay_ratio", self.replay_ratio)):
            if min(ratio) < 0 or sum(ratio) == 0:
                raise ValueError(f"data.{name} {ratio}: needs whole numbers of at least 0, not all 0")
        self._at_least_one("sequences", "seq_len", "block_shards")
        for name, numbers in (("weights", self.weights), ("max_epochs", self.max_epochs)):
            for source, number in numbers.items():
                if not 0 <= number < math.inf or (name == "max_epochs" and number == 0):
                    expected = "at least 0" if name == "weights" else "a number above 0"
                    raise ValueError(f"data.{name} {source} {number}: expected {expected}")
        for name in ("first_share", "caption_drop", "short_caption"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} {getattr(self, name)}: must lie between 0 and 1")
        if not 0 <= self.hold_out < 1:
            raise ValueError(f"data.hold_out {self.hold_out}: expected a share in [0, 1)")
        if not 0 < self.replay_share < 1:
            raise ValueError(f"data.replay_share {self.replay_share}: expected a share above 0 and below 1")
        if self.replay and self.ratio_unit == "tokens":
            raise ValueError("data.replay_share is of samples: it needs data.ratio_unit samples or rows")

    def _at_least_one(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} {getattr(self, name)}: must be at least 1")

    def order(self) -> dict[str, Any]:
        """The fields of this class by name, of a subclass too: what decides the documents of a step."""
        # Where `replay` lies decides nothing; its snapshot is in the digest of the order (`janus.data.loader`).
        unused = {"replay", "replay_snapshot"}
        if self.shuffle == "row":
            unused |= {"shuffle", "block_shards"}
        if not self.replay:
            unused |= {"replay_share", "replay_ratio"}
        if not self.hold_out:
            unused |= {"hold_out"}
        return {field.name: getattr(self, field.name) for field in fields(DataOrder) if field.name not in unused}


@dataclass(frozen=True)
class DataConfig(DataOrder):
    """The `data` part of a recipe: the order, and how the documents are loaded, which changes no result."""

    micro_batch: int = 4
    """Packed sequences per forward pass of one rank. Changes memory and speed, never the documents of a step."""
    decode_threads: int = 4
    """Threads that decode images."""
    prefetch: int = 2
    """Steps prepared ahead, in the background."""
    verify: bool = True
    """Hold every shard against its SHA-256 in the snapshot when it is first used on this machine. What was found sound
    is remembered in the user's cache folder, so that later runs do not read it again."""
    corpus_stage: Literal[0, 1, 2, 3] = 0
    """Stage the corpus was built for, where it is meant not to be the recipe's; 0: the recipe's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least_one("micro_batch", "decode_threads", "prefetch")
