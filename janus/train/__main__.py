"""Train one stage of a Janus.

    python -m janus.train --stage 1 --preset tiny --model base/janus --data corpus --out runs/stage1
    python -m janus.train --stage 2

The second line takes the rest from the workspace file, janus-forge.toml: the preset, the newest corpus of stage 2, the
model of stage 1, and RUNS/PRESET/stage2 for the run.

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
from janus.workspace import Workspace, find_workspace
from schemas.digest import check_sealed
from schemas.plugins import did_you_mean

PROG = "python -m janus.train"


@dataclass(frozen=True)
class Command:
    """Arguments of a run. Defaults of all recipe fields are those of --preset and --stage."""

    model: Path
    """Hugging Face Janus folder to start from. By the workspace: the model of the stage before."""
    data: str
    """Corpus folder, or its address (s3://, gs://, az://), with a published snapshot. By the workspace: the newest of
    the stage."""
    out: Path
    """Run folder. If it holds a checkpoint of the same run, the run continues from there. By the workspace:
    RUNS/PRESET/stageN."""
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
    note: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = ""
    """What the workspace file gave."""


def read_command(args: list[str]) -> Command:
    """The command line as a Command: the preset's recipe, with single fields replaced.

    What neither the command line nor --config says is taken from the workspace file.

    Raises ValueError or FileNotFoundError with one line.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", default="")
    first.add_argument("--stage", type=int)
    first.add_argument("--preset")
    first.add_argument("--lora.rank", type=int, dest="rank")
    for name in PLACES:
        first.add_argument(f"--{name}")
    first.add_argument("--data.corpus-stage", "--data.corpus_stage", type=int, dest="corpus_stage")
    try:
        chosen, _ = first.parse_known_args(args)
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
    asks_help = bool({"-h", "--help"} & set(args))
    workspace = find_workspace()
    note = []
    if workspace and workspace.preset and chosen.preset is None:
        chosen.preset = workspace.preset
        note.append(f"preset {chosen.preset}")
    if not asks_help:
        for name, values in (("stage", STAGES), ("preset", PRESETS)):
            if getattr(chosen, name) is None:
                raise UserError(f"--{name} is missing: expected one of {', '.join(map(str, values))}")
    start = recipe(
        chosen.preset or "tiny", chosen.stage or 1, changes, f"{chosen.config}: recipe" if chosen.config else ""
    )
    missing: dict[str, Any] = dict.fromkeys(PLACES, tyro.MISSING)
    if workspace and not asks_help:
        told = {name: value for name in PLACES if (value := getattr(chosen, name)) is not None}
        corpus_stage = chosen.corpus_stage or start.data.corpus_stage or start.stage
        found = _places(workspace, start, corpus_stage, {**given, **told})
        note += [f"{name} {value}" for name, value in found.items()]
        given = found | given
    return parse(
        Command,
        prog=PROG,
        args=args,
        default=Command(
            **(missing | given),
            recipe=start,
            note=f"by {workspace.file}: {', '.join(note)}" if workspace and note else "",
        ),
        description=__doc__,
    )


def _places(workspace: Workspace, recipe: Recipe, corpus_stage: int, told: dict[str, Any]) -> dict[str, Any]:
    """What the workspace says of those of `PLACES` that are not in `told`.

    A run that has begun goes on with the model and the corpus in its record.

    Raises ValueError or FileNotFoundError with one line that says how to make what is missing.
    """
    found: dict[str, Any] = {}
    out = Path(told.get("out") or workspace.run_folder(recipe.preset, recipe.stage))
    begun = read_config(out / RECORD) if (out / RECORD).is_file() else {}
    if "data" not in told:
        found["data"] = begun.get("data") or workspace.newest_corpus(corpus_stage)
    if "model" not in told:
        found["model"] = begun.get("model") or workspace.starting_model(recipe.preset, recipe.stage)
    if "out" not in told:
        found["out"] = out
    return found


PLACES = ("model", "data", "out")
"""Settings that the workspace file gives."""
RECORD = "recipe.json"
"""The record of a run, in its folder (janus.train.record)."""

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

    inputs = Inputs(command.model, command.data, command.out, command.snapshot, command.new_recipe, command.note)
    if command.dry_run:
        dry_run(command.recipe, inputs, console(), device=command.device, rate=command.rate)
        return
    train(command.recipe, inputs, console(), device=command.device)


if __name__ == "__main__":
    run(main)
