"""A stage of training as data: everything that decides a run is a field here (design D9).

Frozen dataclasses, so a recipe can be printed, compared, written to the run folder and overridden field by field on the
command line. Imports no torch: `--help` must be quick.

Where the paper is silent (docs/training.md has the list), the choice is a field and its docstring says what and why.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro

from janus.data.config import DataConfig
from janus.presets import NAMES as PRESETS
from janus.train.loggers import describe, read_options

ModuleName = Literal[
    "understanding_encoder",
    "understanding_adaptor",
    "vq",
    "code_embedding",
    "generation_adaptor",
    "image_head",
    "llm",
    "text_head",
]
"""The parts of a Janus that a stage trains or freezes (`janus.model.network.MODULES` has their paths)."""


def _expect(holds: bool, option: str, value: object, expected: str) -> None:
    """Raise ValueError with one line unless `value` of the command line's `option` is what was expected."""
    if not holds:
        raise ValueError(f"--{option} {value}: expected {expected}")


@dataclass(frozen=True)
class Optimizer:
    """How gradients move weights."""

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw; adamw8bit: its averages in 8 bits, by bitsandbytes (`pip install janus-forge[quantized]`); muon:
    orthogonalised momentum on the hidden matrices beside AdamW on all else (tiny preset)."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's averaging of gradient and squared gradient (paper, table 1)."""
    eps: float = 1e-8
    """AdamW's epsilon. Not in the paper: torch's default."""
    weight_decay: float = 0.0
    """Decoupled weight decay. Applied to matrices only, not to biases, norms and embeddings (not in the paper)."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon; unused with adamw."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Factor on the learning rate of single modules, e.g. `understanding_encoder 0.1`."""

    def __post_init__(self) -> None:
        for name, rate in (("lr", self.lr), ("muon-lr", self.muon_lr)):
            _expect(0 < rate < math.inf, f"optimizer.{name}", rate, "a positive number")
        _expect(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "two numbers in [0, 1)")
        _expect(0 < self.eps < math.inf, "optimizer.eps", self.eps, "a positive number")
        _expect(0 <= self.weight_decay < math.inf, "optimizer.weight-decay", self.weight_decay, "at least 0")
        for module, factor in self.lr_scale.items():
            _expect(0 <= factor < math.inf, f"optimizer.lr-scale {module}", factor, "at least 0")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters beside frozen weights (LoRA, arXiv 2106.09685; docs/finetune.md)."""

    rank: int = 0
    """Rank of the adapters; 0 for none."""
    alpha: float = 32.0
    """An adapter's output counts alpha / rank times."""
    dropout: float = 0.0
    """Share of an adapter's inputs that are zeroed in training."""
    modules: tuple[ModuleName, ...] = ("llm", "understanding_adaptor", "generation_adaptor", "image_head")
    """Modules whose linear layers get an adapter. They are frozen otherwise; --train names those that train whole."""
    dora: bool = False
    """Train the length of each weight row besides (DoRA, arXiv 2402.09353)."""
    quantize: Literal["none", "4bit"] = "none"
    """4bit: frozen weights under adapters in NormalFloat 4 (QLoRA; `pip install janus-forge[quantized]`)."""

    def __post_init__(self) -> None:
        _expect(self.rank >= 0, "lora.rank", self.rank, "at least 0")
        _expect(0 < self.alpha < math.inf, "lora.alpha", self.alpha, "a positive number")
        _expect(0 <= self.dropout < 1, "lora.dropout", self.dropout, "a share in [0, 1)")
        for module in self.modules:
            has_layers = module not in ("vq", "code_embedding")
            _expect(has_layers, "lora.modules", module, "modules with linear layers that a loss reaches")
        if not self.rank:
            for name in ("dropout", "dora", "quantize"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"--lora.{name} {getattr(self, name)} without adapters: give --lora.rank too")


@dataclass(frozen=True)
class Schedule:
    """Learning rate over steps."""

    shape: Literal["constant", "cosine"] = "constant"
    """After the warm-up."""
    warmup: int = 0
    """Steps of linear warm-up from 0."""
    floor: float = 0.0
    """Where cosine ends, as a share of the peak. Not in the paper: 0."""

    def __post_init__(self) -> None:
        _expect(self.warmup >= 0, "schedule.warmup", self.warmup, "at least 0")
        _expect(0 <= self.floor <= 1, "schedule.floor", self.floor, "a share between 0 and 1")


@dataclass(frozen=True)
class Parallel:
    """How one step is laid over devices. Changes speed and memory, and results only by rounding."""

    mode: Literal["ddp", "fsdp", "hybrid"] = "fsdp"
    """ddp: a copy per process. fsdp: weights, gradients and optimiser state sharded over all processes (FSDP2).
    hybrid: sharded inside a node, copied between nodes. A single process is only wrapped where precision is bf16."""
    compile: bool = False
    """torch.compile of each LLM layer. Costs minutes at the first step; on in the presets that are for GPUs."""
    activation_checkpoint: Literal["none", "selective", "full"] = "none"
    """Recompute the layers of the LLM, and of the encoder where it trains, in the backward: all of them (full), or all
    but products and attention (selective)."""
    gc_every: int = 200
    """Steps between Python garbage collections, which run on all ranks at once; automatic collection is off."""
    deterministic: bool = False
    """Only algorithms that add in a fixed order: on a GPU, a resumed run then has the same bits. Slower there."""

    def __post_init__(self) -> None:
        _expect(self.gc_every >= 1, "parallel.gc-every", self.gc_every, "at least 1")


@dataclass(frozen=True)
class Checkpoint:
    """When the state of a run is saved."""

    every: int = 1000
    """Steps between checkpoints; 0 for none but the last."""
    keep: int = 2
    """Newest checkpoints kept, at least 1."""
    milestone_every: int = 0
    """Checkpoints at multiples of this many steps are kept for good; 0 for none."""

    def __post_init__(self) -> None:
        _expect(self.every >= 0, "checkpoint.every", self.every, "at least 0")
        _expect(self.keep >= 1, "checkpoint.keep", self.keep, "at least 1: the newest is what a run continues from")
        _expect(self.milestone_every >= 0, "checkpoint.milestone-every", self.milestone_every, "at least 0")


def _loggers_there_are(default: str) -> str:
    return f"({describe()}) (default: {default})"


@dataclass(frozen=True)
class Watch:
    """What is looked at while training."""

    log_every: int = 10
    """Steps between lines in metrics.jsonl."""
    loggers: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint=_loggers_there_are)] = ("json_lines",)
    """Where the numbers go."""
    logger_options: tuple[str, ...] = ()
    """Options of loggers, as NAME.OPTION=VALUE."""
    held_out: str = ""
    """Corpus folder whose loss is measured every `held_out_every` steps; empty for none."""
    held_out_every: int = 1000
    """Steps between held-out losses."""
    held_out_steps: int = 8
    """Global batches per held-out loss; the same ones each time."""
    sample_every: int = 0
    """Steps between sample images and answers; 0 for none."""
    prompts: tuple[str, ...] = ()
    """Prompts of the sample images."""
    questions: tuple[tuple[str, str], ...] = ()
    """Pairs of image file and question for the sample answers."""
    cfg_scale: float = 5.0
    """Classifier-free guidance of the sample images (paper, section 3.4)."""

    def __post_init__(self) -> None:
        read_options(self.loggers, self.logger_options)
        for name in ("log_every", "held_out_every", "held_out_steps"):
            value = getattr(self, name)
            _expect(value >= 1, f"watch.{name.replace('_', '-')}", value, "at least 1")
        _expect(self.sample_every >= 0, "watch.sample-every", self.sample_every, "at least 0")
        _expect(0 < self.cfg_scale < math.inf, "watch.cfg-scale", self.cfg_scale, "a positive number (1 for none)")


@dataclass(frozen=True)
class Recipe:
    """One stage of training."""

    stage: Literal[1, 2, 3]
    """1: adaptors and image head. 2: unified pretraining. 3: supervised fine-tuning (paper, section 3.2)."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")]
    """Where the defaults of all other fields come from."""
    train: tuple[ModuleName, ...]
    """Modules that train whole; all others are frozen. Whether `code_embedding` trains in stage 1 is not in the paper.
    With --lora.rank, none by default."""
    steps: int
    """Optimiser steps."""
    data: DataConfig
    optimizer: Optimizer
    schedule: Schedule
    precision: Literal["fp32", "autocast", "bf16"] = "bf16"
    """fp32. autocast: fp32 weights, matrix products in bf16. bf16: a bf16 copy of the weights computes, fp32 master
    weights and gradients stay sharded (FSDP2). Not in the paper."""
    output: Literal["bf16", "fp32"] = "bf16"
    """Type of the weights in the trained model's folder. The VQ tokenizer keeps its own."""
    isolate_documents: bool = True
    """Whether documents packed into one sequence see only themselves. The paper does not say; without it, a caption
    could be answered from another sample's image."""
    clip: float = 1.0
    """Largest gradient norm over all trained weights (paper, table 1)."""
    lora: Lora = Lora()
    parallel: Parallel = Parallel()
    checkpoint: Checkpoint = Checkpoint()
    watch: Watch = Watch()

    def __post_init__(self) -> None:
        """Raise ValueError with one line for values no run can have."""
        _expect(self.steps >= 1, "steps", self.steps, "at least 1")
        _expect(self.clip > 0, "clip", self.clip, "a positive number (inf for no clipping)")
        if not self.train and not self.lora.rank:
            raise ValueError("--train is empty: name at least one module to train")
        if "vq" in self.train:
            raise ValueError("--train vq: codes are computed before training, so the VQ tokenizer has no gradient")
        if self.precision == "bf16" and self.parallel.mode == "ddp":
            raise ValueError("--precision bf16 keeps its master weights in FSDP: use --parallel.mode fsdp or hybrid")
        if self.optimizer.name == "muon" and self.parallel.mode != "ddp":
            raise ValueError("--optimizer.name muon needs whole matrices: use --parallel.mode ddp")
        if both := sorted(set(self.train) & set(self.adapted)):
            raise ValueError(
                f"--train and --lora.modules both name {', '.join(both)}: it trains whole, or by an adapter"
            )
        if self.lora.quantize != "none" and self.parallel.mode != "ddp":
            raise ValueError("--lora.quantize 4bit keeps whole weights: use --parallel.mode ddp --precision autocast")
        if self.optimizer.name == "adamw8bit" and self.parallel.mode != "ddp":
            raise ValueError("--optimizer.name adamw8bit keeps whole states: use --parallel.mode ddp")
        unknown = set(self.optimizer.lr_scale) - set(self.train) - set(self.adapted)
        if unknown:
            raise ValueError(f"--optimizer.lr-scale names {', '.join(sorted(unknown))}: not among the trained modules")

    @property
    def adapted(self) -> tuple[ModuleName, ...]:
        """Modules that train by adapters."""
        return self.lora.modules if self.lora.rank else ()

    def identity(self) -> dict[str, Any]:
        """The fields that decide the weights: a checkpoint may only be continued with the same ones.

        A constant schedule knows no end, so with it a run may be lengthened; where it has phases, the step at which
        they change is part of the data order's digest.
        """
        fields = asdict(self)
        for name in ("parallel", "checkpoint", "watch"):
            del fields[name]
        fields["data"] = self.data.order()
        del fields["data"]["first_share"]
        del fields["output"]
        if self.schedule.shape == "constant":
            del fields["steps"]
        if not self.lora.rank:
            del fields["lora"]
        return fields
