"""Train one stage of a Janus.

    python -m janus.train --stage 1 --preset tiny --model base/janus --data corpus --out runs/stage1
    python -m janus.train --stage 2 --preset tiny --model runs/stage1/model --data corpus2 --out runs/stage2

The same command continues a run that was stopped or killed. On several GPUs, put `torchrun --nproc-per-node 8 -m`
in place of `python -m`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from janus.cli import UserError, console, parse, program, run
from janus.plain import overlay
from janus.presets import NAMES as PRESETS
from janus.train.presets import STAGES, recipe
from janus.train.recipe import Recipe
from schemas.digest import check_sealed
from schemas.plugins import did_you_mean

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
    config: str = ""
    """TOML or JSON file with any of these settings: `model`, `data`, `out`, `snapshot`, `device` and a table `recipe`.
    The command line wins. The recipe.json of a run is one: with another --out, the same run again."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Check everything, print the run card, compute the first step without moving a weight, and write nothing."""
    rate: float = 0.0
    """With --dry-run: tokens a second of all processes, to tell the run's time by; 0 for what its first step takes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is one. A GPU that is there but cannot be used is an error."""


def read_command(args: list[str]) -> Command:
    """The command line as a Command: the preset's recipe, with single fields replaced.

    Raises UserError with one line.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", default="")
    first.add_argument("--stage", type=int)
    first.add_argument("--preset")
    first.add_argument("--lora.rank", type=int, dest="rank")
    try:
        chosen, rest = first.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(f"{error} (see {program(PROG)} --help)") from None
    given = read_config(Path(chosen.config)) if chosen.config else {}
    changes = given.pop("recipe", {})
    if not isinstance(changes, dict):
        raise UserError(f"{chosen.config}: recipe: expected a table of fields")
    for name in ("stage", "preset"):
        value = changes.pop(name, None)
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    if chosen.rank is not None:
        changes = overlay(changes, {"lora": {"rank": chosen.rank}})
    asks_help = bool({"-h", "--help"} & set(rest))
    if not asks_help:
        for name, values in (("stage", STAGES), ("preset", PRESETS)):
            if getattr(chosen, name) is None:
                raise UserError(f"--{name} is missing: expected one of {', '.join(map(str, values))}")
    start = recipe(
        chosen.preset or "tiny", chosen.stage or 1, changes, f"{chosen.config}: recipe" if chosen.config else ""
    )
    missing: dict[str, Any] = dict.fromkeys(("model", "data", "out"), tyro.MISSING)
    return parse(
        Command,
        prog=PROG,
        args=args,
        default=Command(**(missing | given), recipe=start),
        description=__doc__,
    )


RECORDED = ("digest", "digests", "model_has_sums", "starts")
"""What the record of a run has beside settings."""
TEXTS, SWITCHES, NUMBERS = ("model", "data", "out", "snapshot", "device"), ("new_recipe", "dry_run"), ("rate",)
"""Settings beside the recipe, by what their values are."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML or JSON file by name; `recipe` stays a table.

    Raises ValueError or FileNotFoundError with one line that names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not valid {path.suffix.lstrip('.').upper() or 'TOML'}: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a table of settings")
    if "starts" in values:
        check_sealed(values, path)
        values = {name: value for name, value in values.items() if name not in RECORDED}
    known = (*TEXTS, *SWITCHES, *NUMBERS, "recipe")
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{path}: {name}: no such setting{did_you_mean(name, known)}")
        if name in TEXTS and not isinstance(value, str):
            raise ValueError(f"{path}: {name}: expected a text, found {value!r}")
        if name in SWITCHES and not isinstance(value, bool):
            raise ValueError(f"{path}: {name}: expected true or false, found {value!r}")
        if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path}: {name}: expected a number, found {value!r}")
    return {name: Path(value) if name in ("model", "out") else value for name, value in values.items()}


def main() -> None:
    """Read the command line and train."""
    command = read_command(sys.argv[1:])
    from schemas.manifest import load_snapshot

    # Wrong paths are answered at once: importing torch and transformers takes seconds.
    load_snapshot(command.data, command.snapshot or None)
    if not (command.model / "config.json").is_file():
        raise FileNotFoundError(f"--model {command.model}: no config.json there; expected a Hugging Face Janus folder")
    from janus.train.loop import dry_run, train
    from janus.train.record import Inputs

    inputs = Inputs(command.model, command.data, command.out, command.snapshot, command.new_recipe)
    if command.dry_run:
        dry_run(command.recipe, inputs, console(), device=command.device, rate=command.rate)
        return
    train(command.recipe, inputs, console(), device=command.device)


if __name__ == "__main__":
    run(main)
