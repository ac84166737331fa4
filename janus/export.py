"""Write a Janus folder in the layout of transformers or of DeepSeek's own code, whichever of the two it is in now.

python -m janus.export --run runs/stage2 --step 20000 --to hf --out janus-step-20000
python -m janus.export runs/stage3/model --to deepseek --out janus-mine
python -m janus.export downloads/Janus-1.3B --to hf --out janus-1.3b
python -m janus.export janus-1.3b --adapter runs/mine/adapter --out janus-mine
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from janus.cli import console, parse, run
from janus.workspace import needed_model
from schemas.files import TEMPORARY


@dataclass(frozen=True)
class LoraOutput:
    """What becomes of low-rank adapters."""

    merge: bool = True
    """Merge them into the weights. Otherwise the model is written as it was before the run, with the adapters in
    OUT/adapter, which peft opens."""


@dataclass(frozen=True)
class Export:
    """Write a Janus folder in the layout of transformers or of DeepSeek's own code.

    Reads either layout, or a checkpoint of a run. Tensors keep their bytes, unless --dtype says otherwise: converting
    back gives the same files.
    """

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Model folder to read: safetensors or pytorch_model.bin, in one file or sharded. Without it and --run, by the
    workspace: the model of the last stage that is done."""
    run: Path | None = None
    """Run folder of janus.train to take a checkpoint of, in place of a model folder."""
    step: int = 0
    """With --run: step of the checkpoint; 0 for the newest."""
    adapter: Path | None = None
    """With a model folder: adapter folder, ours or peft's, to merge into it."""
    lora: LoraOutput = LoraOutput()
    to: Literal["hf", "deepseek"] = "hf"
    """Layout to write: hf opens in transformers and everywhere here, deepseek in DeepSeek's code."""
    dtype: Literal["as-stored", "fp32", "bf16", "fp16"] | None = None
    """Type of the weights; by default as stored, or bf16 of a run. The VQ tokenizer always stays as it is stored: a
    rounded one would make other codes than those a corpus holds."""
    out: Path = tyro.MISSING
    """Folder to write."""


def main() -> None:
    """The command."""
    command = parse(Export, prog="python -m janus.export")
    if command.folder is not None and command.run is not None:
        raise ValueError("name a model folder to read, or a run with --run: one of the two")
    if command.folder is None and command.run is None:
        command = replace(command, folder=needed_model("no model folder named, nor a run")[0])
    if command.folder is not None:
        if command.step:
            raise ValueError(f"--step {command.step} is of a run: name it with --run")
        if not command.lora.merge:
            raise ValueError("--lora.no-merge is for a run; leave --adapter out to export the model without it")
        convert(command.folder, command)
        return
    assert command.run is not None
    if command.adapter is not None:
        raise ValueError(f"--adapter {command.adapter} is for a model folder; a run has its own")
    from janus.train.checkpoint_model import checkpoint_to_model

    # On the disk where the result will be.
    above = next(folder for folder in command.out.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=above, prefix=TEMPORARY) as scratch:
        step = checkpoint_to_model(command.run, Path(scratch) / "model", command.step, merge=command.lora.merge)
        console().print(f"{command.run}: the model after step {step}")
        convert(Path(scratch) / "model", command)
        if (adapter := Path(scratch) / "model" / "adapter").is_dir():
            shutil.copytree(adapter, command.out / "adapter")


def convert(folder: Path, command: Export) -> None:
    """Write the model `folder` as the command says."""
    import torch

    from janus.model.checkpoints.convert import cast, read_checkpoint, write_deepseek, write_hf

    if command.out.resolve() == folder.resolve():
        raise ValueError(f"--out {command.out} is the folder being read; name another")
    write = write_hf if command.to == "hf" else write_deepseek
    checkpoint = read_checkpoint(folder)
    if command.adapter is not None:
        from janus.model.checkpoints.adapter import merge_adapter, read_adapter

        found = read_adapter(command.adapter)
        where = str(command.adapter)
        checkpoint.tensors = merge_adapter(checkpoint.tensors, found.adapter, found.tensors, where=where)
    dtype = command.dtype or ("as-stored" if command.run is None else "bf16")
    if dtype != "as-stored":
        cast(checkpoint, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    notes = write(checkpoint, command.out)
    screen = console()
    weights = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    screen.print(
        f"[green]wrote[/] {command.out}: {len(checkpoint.tensors)} tensors, {weights:,} weights, "
        f"{command.to} layout, {dtype.replace('-', ' ')}"
    )
    for note in notes:
        screen.print(f"[yellow]note:[/] {note}")


if __name__ == "__main__":
    run(main)
