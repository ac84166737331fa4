"""The run card: what a run is about to do and what its first losses should be, before step 1.

Most wasted GPU days begin with the wrong module trained or the wrong weights loaded; both show here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from torch import nn

from janus.data.mixture import SourceUse, repeats, show_uses
from janus.data.plan import Forecast
from janus.model.lora import LoraLinear, is_adapter
from janus.model.network import MODULES, Janus
from janus.train.flops import Flops
from janus.train.optim import module_of
from janus.train.recipe import Recipe
from janus.train.rehearsal import Rehearsal
from schemas.manifest import Snapshot
from schemas.sample import TASKS, Task

GIB = 2**30
TOLERATED_EXCESS = 1.25
"""A loss over ln(V) times this is worse than guessing by more than a fresh layer's noise."""


@dataclass(frozen=True)
class Part:
    """One module of the model."""

    name: str
    parameters: int
    trained: bool
    adapters: int = 0
    """Parameters of its low-rank adapters, which are not among `parameters`."""


@dataclass(frozen=True)
class Card:
    """What the run card says."""

    title: str
    parts: list[Part]
    tokens: int
    """Positions of all packs of the run."""
    flops: float
    """Of the whole run, LLM only (`Flops.typical_step`)."""
    state_bytes: int
    """Weights, gradients and optimiser state of one process."""
    ceilings: dict[Task, float]
    """Loss of pure guessing per task, ln(V): no first loss should be much above it."""
    rows: dict[Task, int]
    """Rows of the snapshot per task."""
    shares: dict[Task, float]
    """Share of each task in the ratio."""
    unit: str
    """What the ratio counts."""
    device: str
    """What it runs on."""
    uses: Sequence[SourceUse]
    """What the whole run takes from each source."""
    forecasts: Sequence[Forecast]
    """What an average step holds, as the sources change."""


def make_card(
    recipe: Recipe,
    janus: Janus,
    snapshot: Snapshot,
    flops: Flops,
    forecasts: Sequence[Forecast],
    uses: Sequence[SourceUse],
    *,
    shards: int,
    device: str,
) -> Card:
    """The card of a run; `shards` processes share weights and state under FSDP (1 for none)."""
    parts = []
    for name, path in MODULES.items():
        counts = {name: size for name, size in parameter_counts(janus.get_submodule(path)).items()}
        adapters = sum(size for name, size in counts.items() if is_adapter(name))
        parts.append(Part(name, sum(counts.values()) - adapters, name in recipe.train, adapters))
    # fp32 weights (masters, under bf16), gradients and moments; the bf16 copies FSDP gathers live layer by layer.
    state_bytes = training_bytes(janus, recipe) // shards
    vocabulary = math.log(janus.config.text_config.vocab_size)
    codebook = math.log(janus.config.vq_config.num_embeddings)
    ceilings = {task: codebook if task == "generation" else vocabulary for task in TASKS}
    ratio = dict(zip(ceilings, recipe.data.ratio, strict=True))
    asked = [task for task, part in ratio.items() if part]
    return Card(
        title=f"{recipe.preset}, stage {recipe.stage}",
        parts=parts,
        tokens=recipe.steps * recipe.data.sequences * recipe.data.seq_len,
        flops=recipe.steps * flops.typical_step(recipe.data.sequences, recipe.data.seq_len),
        state_bytes=state_bytes,
        ceilings={task: ceilings[task] for task in asked},
        rows={task: snapshot.rows(task) for task in asked},
        shares={task: ratio[task] / sum(ratio.values()) for task in asked},
        unit=recipe.data.ratio_unit,
        device=device,
        uses=uses,
        forecasts=forecasts,
    )


def parameter_counts(module: nn.Module) -> dict[str, int]:
    """Parameters of `module` by name; of weights in 4 bits, as many as they stand for."""
    counts = {name: parameter.numel() for name, parameter in module.named_parameters()}
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLinear):
            counts[f"{name}.weight" if name else "weight"] = layer.in_features * layer.out_features
    return counts


def training_bytes(janus: Janus, recipe: Recipe) -> int:
    """Bytes of weights, gradients and optimiser state of `janus`, its adapters added, on a process that holds all."""
    moments = {"adamw": 8, "adamw8bit": 2, "muon": 4}[recipe.optimizer.name]
    total = 0
    for name, parameter in janus.named_parameters():
        total += parameter.numel() * parameter.element_size()
        if is_adapter(name) or module_of(name) in recipe.train:
            total += parameter.numel() * (4 + moments)
    return total


def show(card: Card, recipe: Recipe, console: Console) -> None:
    """Print the card."""
    modules = Table(title=f"Run card: {card.title}", title_justify="left", box=None, pad_edge=False)
    modules.add_column("module")
    modules.add_column("parameters", justify="right")
    modules.add_column("")
    for part in card.parts:
        state = "[green]trains[/]" if part.trained else "[dim]frozen[/]"
        if part.adapters:
            state = f"[green]{part.adapters:,} in adapters train[/]"
        modules.add_row(part.name, f"{part.parameters:,}", state)
    console.print(modules)
    console.print(f"on {card.device}")
    data = recipe.data
    real = sum(use.tokens for use in card.uses)
    console.print(
        f"{recipe.steps:,} steps of {data.sequences} x {data.seq_len} = {card.tokens / 1e9:.3g} B positions, about "
        f"{real / 1e9:.3g} B of them tokens of documents; "
        f"about {card.flops:.2e} FLOP in the LLM; {card.state_bytes / GIB:.2f} GiB of weights, gradients and optimiser "
        f"state per process, plus activations"
    )
    optimizer, schedule = recipe.optimizer, recipe.schedule
    muon = f" + muon lr {optimizer.muon_lr:g}" if optimizer.name == "muon" else ""
    console.print(
        f"adamw lr {optimizer.lr:g}{muon}, {schedule.shape} after {schedule.warmup} warm-up steps, "
        f"weight decay {optimizer.weight_decay:g}, clip {recipe.clip:g}, {recipe.precision}, {recipe.parallel.mode}"
    )
    tasks = Table(box=None, pad_edge=False)
    for column in ("task", f"share of {card.unit}", "rows", "loss of guessing"):
        tasks.add_column(column, justify="left" if column == "task" else "right")
    for task, ceiling in card.ceilings.items():
        tasks.add_row(task, f"{card.shares[task]:.1%}", f"{card.rows[task]:,}", f"{ceiling:.3f}")
    console.print(tasks)
    for forecast in card.forecasts:
        samples = " + ".join(f"{count:.1f} {task}" for task, count in forecast.documents.items())
        fill = sum(forecast.tokens.values()) / (data.sequences * data.seq_len)
        console.print(f"from step {forecast.first_step + 1:,}: about {samples} samples a step, packs {fill:.1%} full")
    console.print("over the whole run:")
    show_uses(card.uses, console)
    for line in repeats(card.uses):
        console.print(f"[yellow]note:[/] {line}")


def show_rehearsal(card: Card, recipe: Recipe, first: Rehearsal, processes: int, rate: float, console: Console) -> None:
    """Print what a dry run found: memory, first losses, time of the whole run.

    Args:
        processes: of the run.
        rate: tokens a second of all of them; 0 for what the first step took.
    """
    activations = first.activation_bytes
    console.print(
        f"memory per process: {card.state_bytes / GIB:.3g} GiB weights, gradients and optimiser state + "
        f"{activations / GIB:.3g} GiB activations of a micro-batch (measured) = "
        f"{(card.state_bytes + activations) / GIB:.3g} GiB"
        + (f"; the first step took {first.peak_bytes / GIB:.3g} GiB at most" if first.peak_bytes else "")
    )
    console.print("first losses: " + ", ".join(f"{task} {loss:.4f}" for task, loss in first.losses.items()))
    for note in first_loss_notes(card, first.losses):
        console.print(f"[yellow]note:[/] {note}")
    measured = first.tokens * processes / first.seconds
    tokens = sum(use.tokens for use in card.uses)
    source = "as given" if rate else "as the first step took, without the optimiser"
    hours = tokens / (rate or measured) / 3600
    console.print(
        f"{recipe.steps:,} steps of about {tokens / recipe.steps:,.0f} tokens, {rate or measured:,.0f} tokens a second "
        f"({source}): {hours:,.2f} hours"
    )


def first_loss_notes(card: Card, losses: Mapping[str, float]) -> list[str]:
    """One line per task whose first loss is well above guessing.

    That alone tells no right model from a wrong one. A model that is sure of its own world is surprised by another: the
    demo's three, which know coloured shapes, begin at 1.6 to 2.1 times ln(V) on captions of photos. (That a corpus was
    made with another tokenizer or codebook is refused before, by fingerprints.)
    """
    return [
        f"first {task} loss {losses[task]:.3f} is above ln(V) = {ceiling:.3f}, that of guessing: expected where such "
        "data is new to the model, and then it falls within some steps; where it is not new, the weights are wrong"
        for task, ceiling in card.ceilings.items()
        if task in losses and losses[task] > TOLERATED_EXCESS * ceiling
    ]
