"""The recipes of the presets: `janus/presets/*.toml` as `Recipe`s (design D9)."""

from __future__ import annotations

from typing import Any

from janus.plain import fill, overlay
from janus.presets import NAMES, read_preset
from janus.train.recipe import ModuleName, Recipe

STAGES = (1, 2, 3)

ADAPTORS_AND_HEAD: tuple[ModuleName, ...] = ("understanding_adaptor", "generation_adaptor", "image_head")
"""Stage 1, as the paper lists it: the code embedding stays what the checkpoint brings (the VQ codebook)."""
ALL_BUT_ENCODERS: tuple[ModuleName, ...] = (*ADAPTORS_AND_HEAD, "code_embedding", "llm", "text_head")
"""Stage 2."""
ALL_BUT_VQ: tuple[ModuleName, ...] = (*ALL_BUT_ENCODERS, "understanding_encoder")
"""Stage 3."""
TRAINED = {1: ADAPTORS_AND_HEAD, 2: ALL_BUT_ENCODERS, 3: ALL_BUT_VQ}
"""What a stage trains where a preset does not say otherwise (paper, section 3.2)."""


def recipe(preset: str, stage: int, changes: dict[str, Any] | None = None, where: str = "") -> Recipe:
    """The recipe of one stage of a preset, with `changes` to its fields (as nested dicts of plain values).

    Raises ValueError with one line for an unknown preset, stage or field, or a value that cannot be; `where` says what
    `changes` come from.
    """
    if preset not in NAMES:
        raise ValueError(f"--preset {preset}: expected one of {', '.join(NAMES)}")
    if stage not in STAGES:
        raise ValueError(f"--stage {stage}: expected 1, 2 or 3")
    table = read_preset(preset)
    fields = {"stage": stage, "preset": preset, "train": TRAINED[stage]}
    fields = overlay(overlay(fields, table.get("training", {})), table["stage"][str(stage)])
    if (changes or {}).get("lora", {}).get("rank"):
        fields["train"] = ()  # beside adapters, only what is asked for
    return fill(Recipe, overlay(fields, changes or {}), where or f"preset {preset}, stage {stage}")
