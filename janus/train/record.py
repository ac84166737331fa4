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

from janus.model.checkpoints.tensors import WEIGHT_FILES
from janus.train.checkpoint import committed
from janus.train.recipe import Recipe
from janus.train.world import World
from schemas.digest import digest, file_sha256
from schemas.files import write_file
from schemas.manifest import load_snapshot
from storage.store import as_store, is_url

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


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    step: int
    """Steps that are done."""
    snapshot: str
    """Name of the snapshot it trains on."""
    checkpoint: Path | None
    """What it continues from."""


def find_start(inputs: Inputs) -> Start:
    """The newest checkpoint in the run folder and the snapshot it was trained on; without one, the latest snapshot.

    Raises ValueError or FileNotFoundError with one line where a run is to go on with another snapshot than its own.
    """
    checkpoints = committed(inputs.out / "checkpoints")
    if not checkpoints:
        return Start(0, inputs.snapshot or load_snapshot(inputs.data).name, None)
    step, path = checkpoints[-1]
    began = json.loads((inputs.out / FILE).read_text())["snapshot"]
    other = "a run stays on the snapshot it began with; choose another --out for a new run"
    if inputs.snapshot not in ("", began):
        raise ValueError(f"{path} was trained on snapshot {began}, --snapshot is {inputs.snapshot}: {other}")
    if as_store(inputs.data).size(f"snapshots/{began}.json") is None:
        latest = load_snapshot(inputs.data).name
        raise FileNotFoundError(
            f"{path} was trained on snapshot {began}, which {inputs.data} lacks (its latest is {latest}): {other}"
        )
    return Start(step, began, path)


def model_digest(folder: Path) -> str:
    """SHA-256 over configuration and weight files of a model folder. Reads all of them once."""
    files = sorted({folder / "config.json", *folder.glob("*.safetensors"), *(folder / name for name in WEIGHT_FILES)})
    return digest({file.name: file_sha256(file) for file in files if file.is_file()})


def identity(recipe: Recipe, model: str, order: str) -> dict[str, Any]:
    """What a run must share with a checkpoint to continue it: recipe, starting weights, data order."""
    return json.loads(json.dumps({"recipe": recipe.identity(), "model": model, "order": order}))


def check_identity(found: dict[str, Any], wanted: dict[str, Any], where: Path) -> None:
    """Raise ValueError naming the first field in which a checkpoint's identity differs."""
    before, now = _flat(found), _flat(wanted)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{where} was written by another run: {name} was {before.get(name)}, now {now.get(name)}; "
                "continue with the same settings, or choose another --out"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return flat


def write_record(
    recipe: Recipe, inputs: Inputs, *, snapshot: str, world: World, identity: dict[str, Any], step: int
) -> None:
    """Write `recipe.json`, or add one more start to it."""
    path = inputs.out / FILE
    starts = json.loads(path.read_text())["starts"] if path.is_file() else []
    record = {
        "recipe": asdict(recipe),
        "model": str(inputs.model.resolve()),
        "data": str(inputs.data) if is_url(inputs.data) else str(Path(inputs.data).resolve()),
        "snapshot": snapshot,
        "digests": {"model": identity["model"], "order": identity["order"]},
        "starts": [*starts, {"step": step, **environment(world)}],
    }
    write_file(path, json.dumps(record, indent=1))


def environment(world: World) -> dict[str, Any]:
    """Versions, code revision and hardware of this start."""
    device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else platform.processor()
    return {
        "command": sys.argv,
        "git": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "numpy", "pyarrow")},
        "world_size": world.size,
        "device": device or world.device.type,
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
