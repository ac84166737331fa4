"""The recipes: the papers' tables, and the tiny one, as data (design D9).

Sources: Janus (arXiv 2410.13848) table 1 and section 3; Janus-Pro technical report, table 2. Both use AdamW with betas
0.9 and 0.95 and clip at 1.0, which are the defaults of `Recipe`. A "batch size" is read as packed sequences of 4096.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from janus.data.config import DataConfig
from janus.train.recipe import Checkpoint, ModuleName, Optimizer, Parallel, PresetName, Recipe, Schedule, Watch

PRESETS: tuple[str, ...] = get_args(PresetName)
STAGES = (1, 2, 3)

ADAPTORS_AND_HEAD: tuple[ModuleName, ...] = ("understanding_adaptor", "generation_adaptor", "image_head")
"""Stage 1, as the paper lists it: the code embedding stays what the checkpoint brings (the VQ codebook)."""
ALL_BUT_ENCODERS: tuple[ModuleName, ...] = (*ADAPTORS_AND_HEAD, "code_embedding", "llm", "text_head")
"""Stage 2."""
ALL_BUT_VQ: tuple[ModuleName, ...] = (*ALL_BUT_ENCODERS, "understanding_encoder")
"""Stage 3."""
TRAINED = {1: ADAPTORS_AND_HEAD, 2: ALL_BUT_ENCODERS, 3: ALL_BUT_VQ}


def recipe(preset: str, stage: int) -> Recipe:
    """The recipe of one stage of a preset.

    Raises ValueError, listing what there is, for an unknown preset or stage.
    """
    if preset not in PRESETS:
        raise ValueError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    if stage not in STAGES:
        raise ValueError(f"--stage {stage}: expected 1, 2 or 3")
    if preset == "tiny":
        return tiny(stage)
    if preset == "janus-1.3b":
        return janus(stage)
    return janus_pro("janus-pro-1b" if preset == "janus-pro-1b" else "janus-pro-7b", stage)


def janus(stage: int) -> Recipe:
    """Janus-1.3B (paper, table 1)."""
    if stage == 1:
        return Recipe(
            stage=1,
            preset="janus-1.3b",
            train=TRAINED[1],
            steps=10_000,
            data=DataConfig(ratio=(1, 0, 1), sequences=256),
            optimizer=Optimizer(lr=1e-3),
            schedule=Schedule("cosine", warmup=300),
        )
    if stage == 2:
        return Recipe(
            stage=2,
            preset="janus-1.3b",
            train=TRAINED[2],
            steps=180_000,
            # ImageNet alone feeds generation for the first 120K steps, everything else for the last 60K (section 3.2).
            data=DataConfig(ratio=(2, 3, 5), sequences=512, first_group="imagenet", first_share=2 / 3),
            optimizer=Optimizer(lr=1e-4),
            schedule=Schedule("constant", warmup=5_000),
            checkpoint=Checkpoint(milestone_every=20_000),
        )
    return Recipe(
        stage=3,
        preset="janus-1.3b",
        train=TRAINED[3],
        steps=24_000,
        data=DataConfig(ratio=(7, 3, 10), sequences=256),
        optimizer=Optimizer(lr=2e-5, weight_decay=0.1),
        schedule=Schedule("constant"),
    )


def janus_pro(preset: PresetName, stage: int) -> Recipe:
    """Janus-Pro 1B or 7B (report, table 2): longer stage 1, no ImageNet in stage 2, ratio 5:1:4 in stage 3."""
    large = preset == "janus-pro-7b"
    parallel = Parallel(activation_checkpoint="selective") if large else Parallel()
    if stage == 1:
        return Recipe(
            stage=1,
            preset=preset,
            train=TRAINED[1],
            steps=20_000,
            data=DataConfig(ratio=(1, 0, 3), sequences=256, micro_batch=2 if large else 4),
            optimizer=Optimizer(lr=1e-3),
            schedule=Schedule("constant", warmup=600),
            parallel=parallel,
        )
    if stage == 2:
        return Recipe(
            stage=2,
            preset=preset,
            train=TRAINED[2],
            # Of 360,000 planned; the report stopped early, and a constant schedule makes that the same thing.
            steps=270_000,
            data=DataConfig(ratio=(2, 3, 5), sequences=512, micro_batch=2 if large else 4),
            optimizer=Optimizer(lr=1e-4),
            schedule=Schedule("constant", warmup=5_000),
            parallel=parallel,
            checkpoint=Checkpoint(milestone_every=30_000),
        )
    return Recipe(
        stage=3,
        preset=preset,
        train=TRAINED[3],
        steps=40_000 if large else 80_000,
        data=DataConfig(ratio=(5, 1, 4), sequences=128, micro_batch=2 if large else 4),
        optimizer=Optimizer(lr=4e-5),
        schedule=Schedule("constant"),
        parallel=parallel,
    )


def tiny(stage: int) -> Recipe:
    """The miniature for a laptop's CPU: the paper's stages and modules, with steps counted in hundreds.

    Not from the paper: Muon beside AdamW, higher learning rates, the code embedding training from stage 1 on, and the
    ratios. Answers are few tokens and codes are many, so understanding learns only while it has the larger share
    (docs/lab-notes.md).
    """
    common = Recipe(
        stage=1,
        preset="tiny",
        train=(*ADAPTORS_AND_HEAD, "code_embedding"),
        steps=30,
        data=DataConfig(ratio=(1, 0, 1), sequences=8, seq_len=512, micro_batch=8, decode_threads=1),
        optimizer=Optimizer("muon", lr=3e-3, muon_lr=0.01),
        schedule=Schedule("constant", warmup=10),
        precision="fp32",
        parallel=Parallel(mode="ddp"),
        checkpoint=Checkpoint(every=200),
        watch=Watch(log_every=10, cfg_scale=2.0),
    )
    if stage == 1:
        return common
    if stage == 2:
        return replace(
            common,
            stage=2,
            train=TRAINED[2],
            steps=330,
            data=replace(common.data, ratio=(4, 1, 6), first_group="imagenet", first_share=0.1),
            optimizer=Optimizer("muon", lr=3e-3, muon_lr=0.012),
            schedule=Schedule("cosine", warmup=10, floor=0.4),
        )
    return replace(
        common,
        stage=3,
        train=TRAINED[3],
        steps=480,
        data=replace(common.data, ratio=(5, 1, 6)),
        optimizer=Optimizer("muon", lr=2e-3, muon_lr=0.01),
        schedule=Schedule("cosine", warmup=10, floor=0.02),
    )
