"""Train one stage of a Janus.

    python -m janus.train --stage 1 --preset tiny --model base/janus --data corpus --out runs/stage1
    python -m janus.train --stage 2 --preset tiny --model runs/stage1/model --data corpus2 --out runs/stage2

The same command continues a run that was stopped or killed. On several GPUs, put `torchrun --nproc-per-node 8 -m`
in place of `python -m`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from janus.cli import UserError, console, parse, run
from janus.presets import NAMES as PRESETS
from janus.train.presets import STAGES, recipe
from janus.train.recipe import Recipe
from schemas.manifest import load_snapshot

PROG = "python -m janus.train"


@dataclass(frozen=True)
class Command:
    """Arguments of a run. Defaults of all recipe fields are those of --preset and --stage."""

    model: Path
    """Hugging Face Janus folder to start from."""
    data: str
    """Corpus folder, or its address (s3://, gs://, az://), with a published snapshot."""
    out: Path
    """Run folder. If it holds a checkpoint of the same run, the run continues from there."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    snapshot: str = ""
    """Name of the snapshot to train on; empty for the latest, or the one that the run to continue began with."""
    new_recipe: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue a run with another recipe (or --snapshot) than its newest checkpoint was made with. Trained modules,
    optimiser and starting model stay; the change is named in recipe.json."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is one. A GPU that is there but cannot be used is an error."""


def read_command(args: list[str]) -> Command:
    """The command line as a Command: the preset's recipe, with single fields replaced.

    Raises UserError with one line.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--stage", type=int)
    first.add_argument("--preset")
    first.add_argument("--lora.rank", type=int, default=0, dest="rank")
    try:
        chosen, rest = first.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(f"{error} (see {PROG} --help)") from None
    asks_help = bool({"-h", "--help"} & set(rest))
    if not asks_help:
        for name, values in (("stage", STAGES), ("preset", PRESETS)):
            if getattr(chosen, name) is None:
                raise UserError(f"--{name} is missing: expected one of {', '.join(map(str, values))}")
    start = recipe(chosen.preset or "tiny", chosen.stage or 1, {"lora": {"rank": chosen.rank}})
    return parse(
        Command,
        prog=PROG,
        args=args,
        default=Command(model=tyro.MISSING, data=tyro.MISSING, out=tyro.MISSING, recipe=start),
        description=__doc__,
    )


def main() -> None:
    """Read the command line and train."""
    command = read_command(sys.argv[1:])
    # Wrong paths are answered at once: importing torch and transformers takes seconds.
    load_snapshot(command.data, command.snapshot or None)
    if not (command.model / "config.json").is_file():
        raise FileNotFoundError(f"--model {command.model}: no config.json there; expected a Hugging Face Janus folder")
    from janus.train.loop import train
    from janus.train.record import Inputs

    inputs = Inputs(command.model, command.data, command.out, command.snapshot, command.new_recipe)
    train(command.recipe, inputs, console(), device=command.device)


if __name__ == "__main__":
    run(main)
