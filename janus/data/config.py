"""What the loader needs to know (the `data` part of a recipe)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class DataConfig:
    """Order, packing and augmentation of the training data (design D8).

    Everything down to `seed` decides which documents a step trains on; the rest only how they are loaded.
    """

    ratio: tuple[int, int, int] = (1, 0, 1)
    """Understanding : text : generation (paper, table 1). Exact in every cycle of the stream; 0 leaves a task out."""
    ratio_unit: Literal["samples", "tokens"] = "samples"
    """What the ratio counts. The paper does not say. `tokens` derives whole sample counts from the mean lengths."""
    sequences: int = 256
    """Packed sequences per step over all ranks (the paper's "batch size", read as sequences)."""
    seq_len: int = 4096
    """Tokens per packed sequence."""
    first_role: str = ""
    """Role of the sources that alone feed generation at first ("imagenet" in stage 2); empty for no schedule."""
    first_share: float = 2 / 3
    """Share of the steps in which generation uses `first_role` only; afterwards it uses all other sources."""
    caption_drop: float = 0.1
    """Share of generation samples whose caption is replaced by padding, for classifier-free guidance."""
    short_caption: float = 0.25
    """Share of generation samples with only the first sentence of the caption, where there are more (section 3.2)."""
    seed: int = 0
    """Seed of order, caption drop and short captions."""
    micro_batch: int = 4
    """Packed sequences per forward pass of one rank. Changes memory and speed, never the documents of a step."""
    decode_threads: int = 4
    """Threads that decode images."""
    prefetch: int = 2
    """Steps prepared ahead, in the background."""
    verify: bool = False
    """Compare the SHA-256 of every shard with the snapshot before the first step (reads all of the data once)."""
    corpus_stage: Literal[0, 1, 2, 3] = 0
    """Stage the corpus was built for, where it is meant not to be the recipe's; 0: the recipe's."""

    def __post_init__(self) -> None:
        if min(self.ratio) < 0 or sum(self.ratio) == 0:
            raise ValueError(f"data.ratio {self.ratio}: needs whole numbers of at least 0, not all 0")
        for name in ("sequences", "seq_len", "micro_batch", "decode_threads", "prefetch"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} {getattr(self, name)}: must be at least 1")
        for name in ("first_share", "caption_drop", "short_caption"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} {getattr(self, name)}: must lie between 0 and 1")
