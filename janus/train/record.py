"""The run folder: what was run, with what, from where, so that it can be repeated and continued.

RUN/recipe.json       resolved recipe, model and data digests, environment of every start
RUN/metrics.jsonl     one line per logged step
RUN/checkpoints/      janus.train.checkpoint
RUN/samples/          images and answers on the way
RUN/model/            the trained Hugging Face Janus, at the end
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from janus.model.checkpoints.sums import read_sums
from janus.model.checkpoints.tensors import WEIGHT_FILES, read_json
from janus.train.checkpoint import newest_sound, read_state
from janus.train.recipe import Recipe
from janus.train.world import World, device_name
from schemas.digest import check_sealed, digest, file_sha256, sealed
from schemas.files import write_file
from schemas.manifest import load_snapshot
from storage.places import as_store

FILE = "recipe.json"


@dataclass(frozen=True)
class Inputs:
    """What a run starts from and where it goes."""

    model: Path
    """Hugging Face Janus folder."""
    data: str | Path
    """Corpus: its folder or address."""
    out: Path
    """Run folder."""
    snapshot: str = ""
    """Name of the snapshot; empty for the one the run began with, or else the latest."""
    new_recipe: bool = False
    """Whether a run may go on with another recipe or snapshot than its checkpoint was made with."""
    note: str = ""
    """Where these come from, for the run card."""


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    step: int
    """Steps that are done."""
    snapshot: str
    """Name of the snapshot it trains on."""
    checkpoint: Path | None
    """What it continues from."""
    notes: list[str]
    """What a person should know: one line each."""


def find_start(inputs: Inputs, *, set_aside: bool = True) -> Start:
    """The newest whole checkpoint in the run folder and the snapshot it was trained on; without one, the latest
    snapshot. Reads the checkpoint once, to hold it against its digests.

    Args:
        set_aside: give damaged checkpoints another name.

    Raises ValueError or FileNotFoundError with one line where a run is to go on with another snapshot than its own, or
    has no whole checkpoint.
    """
    newest, notes = newest_sound(inputs.out / "checkpoints", set_aside=set_aside)
    if newest is None:
        return Start(0, inputs.snapshot or load_snapshot(inputs.data).name, None, notes)
    step, path = newest
    began = read_state(path)["snapshot"]
    other = "a run stays on the snapshot it began with; choose another --out for a new run"
    if inputs.new_recipe and inputs.snapshot:
        began = load_snapshot(inputs.data, inputs.snapshot).name
    if inputs.snapshot not in ("", began):
        raise ValueError(f"{path} was trained on snapshot {began}, --snapshot is {inputs.snapshot}: {other}")
    if as_store(inputs.data).size(f"snapshots/{began}.json") is None:
        latest = load_snapshot(inputs.data).name
        raise FileNotFoundError(
            f"{path} was trained on snapshot {began}, which {inputs.data} lacks (its latest is {latest}): {other}"
        )
    return Start(step, began, path, notes)


def read_record(run: Path) -> dict[str, Any]:
    """The `recipe.json` of a run folder. Raises FileNotFoundError or ValueError with one line that names the file."""
    record = read_json(run / FILE)
    for name in ("recipe", "model", "starts"):
        if name not in record:
            raise ValueError(f"{run / FILE}: not the record of a run: it has no {name}")
    check_sealed(record, run / FILE)
    return record


def model_digest(folder: Path) -> str:
    """SHA-256 over configuration and weight files of a model folder. Reads all of them once."""
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *(folder / name for name in WEIGHT_FILES)]
    files = sorted({folder / "config.json", *weights})
    return digest({file.name: file_sha256(file) for file in files if file.is_file()})


def identity(recipe: Recipe, model: str, order: str) -> dict[str, Any]:
    """What a run must share with a checkpoint to continue it: recipe, starting weights, data order."""
    return json.loads(json.dumps({"recipe": recipe.identity(), "model": model, "order": order}))


def check_identity(found: dict[str, Any], wanted: dict[str, Any], where: Path, *, new_recipe: bool) -> dict[str, Any]:
    """Compare the identity of the checkpoint at `where` with that of the run that is to continue it.

    Returns the fields that differ, each with its values before and now: none, or with `new_recipe` those of the recipe.
    Raises ValueError naming the first field that may not differ.
    """
    before, now = _flat(found), _flat(wanted)
    changes = {
        name: [before.get(name), now.get(name)]
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }
    for name, (old, new) in changes.items():
        if new_recipe and name not in FIXED:
            continue
        hint = "continue with the same settings, or choose another --out"
        if name not in FIXED:
            hint = "continue with the same settings, with these by --new-recipe, or choose another --out"
        raise ValueError(f"{where} was written by another run: {name} was {old}, now {new}; {hint}")
    return changes


FIXED = ("model", "recipe.train", "recipe.optimizer.name")
"""What a checkpoint's tensors depend on: not even a new recipe may change it."""


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return flat


def write_record(
    recipe: Recipe,
    inputs: Inputs,
    *,
    snapshot: str,
    world: World,
    identity: dict[str, Any],
    step: int,
    changes: dict[str, Any],
) -> list[str]:
    """Write `recipe.json`, or add one more start to it.

    Args:
        changes: what a new recipe changes of the checkpoint that the run continues (`check_identity`).

    Returns a line for each way in which the run is not the one it was: lengthened, or with a new recipe.
    """
    path = inputs.out / FILE
    before = read_record(inputs.out) if path.is_file() else None
    starts = before["starts"] if before else []
    notes = []
    if before and step and before["recipe"]["steps"] != recipe.steps:
        changes = changes | {"recipe.steps": [before["recipe"]["steps"], recipe.steps]}
        notes.append(f"the run's length was {before['recipe']['steps']} steps, now {recipe.steps}")
    others = [f"{name} was {old}, now {new}" for name, (old, new) in changes.items() if name != "recipe.steps"]
    if others:
        notes.append(f"a new recipe after step {step}: {'; '.join(others)}")
    data = as_store(inputs.data)
    record = {
        "recipe": asdict(recipe),
        "model": str(inputs.model.resolve()),
        "data": data.url if data.folder is None else str(data.folder.resolve()),
        "snapshot": snapshot,
        "digests": {"model": identity["model"], "order": identity["order"]},
        "model_has_sums": read_sums(inputs.model).of is not None,
        "starts": [*starts, {"step": step, **({"changes": changes} if changes else {}), **environment(world)}],
    }
    write_file(path, json.dumps(sealed(record), indent=1))
    return notes


def environment(world: World) -> dict[str, Any]:
    """Versions, code revision and hardware of this start."""
    return {
        "command": sys.argv,
        "git": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "numpy", "pyarrow")},
        "world_size": world.size,
        "device": device_name(world.device),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _git_revision() -> str | None:
    """Revision of the code, with "+changes" if files differ from it; None outside a git checkout."""
    root = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=root, capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.returncode else "")
