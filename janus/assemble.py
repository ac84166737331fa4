"""Make a stage-1 starting point from a language model, a vision encoder and a VQ tokenizer.

    python -m janus.assemble --preset janus-1.3b --llm deepseek-llm-1.3b-base --vision siglip-large-patch16-384 \
        --vq vq_ds16_t2i.pt --out start
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from janus.cli import console, parse, run

if TYPE_CHECKING:
    from rich.table import Table

    from janus.model.assembly import Assembly

_STAGE_1 = ("understanding_adaptor", "generation_adaptor", "image_head")


@dataclass(frozen=True)
class Assemble:
    """Make a stage-1 starting point from parts, and print what came from where.

    A part that is not named is random, in the preset's size.
    """

    out: Path
    """Folder to write: a Hugging Face Janus."""
    preset: Literal["janus-1.3b", "janus-pro-1b", "janus-pro-7b", "mini", "tiny"] = "janus-1.3b"
    """Sizes of the parts that are not named, and the chat style."""
    llm: Path | None = None
    """Folder of any causal language model that transformers opens, with its tokenizer.json."""
    vision: Path | None = None
    """Folder of a SigLIP, or of another image encoder that transformers opens."""
    vq: Path | None = None
    """LlamaGen's vq_ds16_t2i.pt, or a Janus folder to take the VQ tokenizer of."""
    tokenizer: Path | None = None
    """Folder with tokenizer.json, where there is no --llm to take it from."""
    seed: int = 0
    """Of everything random: adaptors, image head, rows for new special tokens."""


def main() -> None:
    """The command."""
    command = parse(Assemble, prog="python -m janus.assemble")
    from janus.model.assembly import assemble
    from janus.model.checkpoints.model_folder import save_janus

    assembly = assemble(
        preset=command.preset,
        llm=command.llm,
        vision=command.vision,
        vq=command.vq,
        tokenizer=command.tokenizer,
        seed=command.seed,
    )
    save_janus(command.out, assembly.model, assembly.processor)
    screen = console()
    screen.print(_card(assembly))
    if assembly.added_tokens:
        screen.print(f"added to the tokenizer: {', '.join(assembly.added_tokens)}", markup=False)
    for note in notes(assembly):
        screen.print(f"[yellow]note:[/] {note}")
    screen.print(f"[green]wrote[/] {command.out}")


def notes(assembly: Assembly) -> list[str]:
    """What a person should know before training on it."""
    from janus.model.config import foreign_parts

    found = []
    if foreign := foreign_parts(assembly.model.config):
        found.append(f"not a plain Hugging Face Janus: {' and '.join(foreign)}; it opens in Janus Forge only")
    frozen = [line.part for line in assembly.card if line.source == "random" and line.part not in _STAGE_1]
    if frozen:
        found.append(f"random, and frozen in stage 1: {', '.join(frozen)}; good for tests and benchmarks only")
    return found


def _card(assembly: Assembly) -> Table:
    from rich.table import Table

    table = Table(title="Janus, ready for stage 1", title_justify="left", show_footer=True)
    total = sum(line.parameters for line in assembly.card)
    trained = sum(line.parameters for line in assembly.card if line.part in _STAGE_1)
    table.add_column("part", footer="in all\ntrained in stage 1")
    table.add_column("parameters", justify="right", footer=f"{total:,}\n{trained:,}")
    table.add_column("from")
    table.add_column("note")
    for line in assembly.card:
        table.add_row(line.part.replace("_", " "), f"{line.parameters:,}", line.source, line.note)
    return table


if __name__ == "__main__":
    run(main)
