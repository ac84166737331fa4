"""Write a Janus folder in the layout of transformers or of DeepSeek's own code, whichever of the two it is in now.

python -m janus.export runs/stage3/model --to deepseek --out janus-mine
python -m janus.export downloads/Janus-1.3B --to hf --out janus-1.3b
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from janus.cli import console, parse, run


@dataclass(frozen=True)
class Export:
    """Write a Janus folder in the layout of transformers or of DeepSeek's own code.

    Reads either layout. Tensors keep their bytes: converting back gives the same file contents.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """Model folder to read: safetensors or pytorch_model.bin, in one file or sharded."""
    to: Literal["hf", "deepseek"]
    """Layout to write: hf opens in transformers and everywhere here, deepseek in DeepSeek's code."""
    out: Path
    """Folder to write."""


def main() -> None:
    """The command."""
    command = parse(Export, prog="python -m janus.export")
    from janus.model.checkpoints.convert import read_checkpoint, write_deepseek, write_hf

    if command.out.resolve() == command.folder.resolve():
        raise ValueError(f"--out {command.out} is the folder being read; name another")
    write = write_hf if command.to == "hf" else write_deepseek
    checkpoint = read_checkpoint(command.folder)
    notes = write(checkpoint, command.out)
    screen = console()
    weights = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    screen.print(
        f"[green]wrote[/] {command.out}: {len(checkpoint.tensors)} tensors, {weights:,} weights, {command.to} layout"
    )
    for note in notes:
        screen.print(f"[yellow]note:[/] {note}")


if __name__ == "__main__":
    run(main)
