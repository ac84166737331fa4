"""All that needs a GPU, in one command: the tests marked `gpu`, then every GPU benchmark, then their tables.

    python -m benchmarks.gpu                            # `make gpu`: at most 25 minutes on one card
    python -m benchmarks.gpu --device cpu --size tiny   # every step at a size that a CPU can do; figures mean nothing

Results go to results/<device>-<date>.json after every step, and gpu.md is written anew from all files there. A step
that is in the file of today is not run again, one that failed is. So the same command continues what was cut off, by
the time limit too; the most telling steps come first. `make gpu` installs what they need beside `make setup`: the
loaders that ours is compared with have an environment of their own, `.venv-loader`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import train_gpu
from benchmarks.training import Measured, hardware
from janus.cli import UserError, console, run
from janus.train.flops import CONVENTION, peak_flops
from schemas.files import write_file

ROOT = Path(__file__).resolve().parent.parent
STAGES = (2, 3)
LOADER_PYTHON = ROOT / ".venv-loader" / "bin" / "python"
PHOTOS = 24
"""Made-up pictures that the loader decodes."""

Found = dict[str, Any]
"""What a step found, as JSON: {"lines": printed lines} or {"figures": [[name, figures of `Measured` or why not]]}."""


@dataclass(frozen=True)
class Step:
    """One thing to run."""

    title: str
    """Of the section its result stands in."""
    name: str
    run: Callable[[float], Found]
    """Runs it in at most so many seconds. Raises RuntimeError with one line if it fails."""
    stage: int = 0
    """Of training."""

    @property
    def key(self) -> str:
        """Its name among all steps."""
        return f"{self.title}: {self.name}"


@dataclass(frozen=True)
class Size:
    """The options of every step."""

    train: Sequence[str]
    sampling: Sequence[str]
    models: Sequence[str]
    loader: Sequence[str]


SIZES = {
    "full": Size(
        train=("--steps=6",),
        sampling=("--rounds=2",),
        models=("--images=512", "--rounds=2"),
        loader=("--samples=1024", "--rounds=1", "--seconds=3"),
    ),
    "tiny": Size(
        train=("--preset=tiny", "--seq-len=256", "--sequences=2", "--micro-batch=1", "--steps=1"),
        sampling=("--preset=tiny", "--rounds=1", "--batches", "1", "2"),
        models=("--preset=tiny", "--scorer=ViT-S-32", "--images=8", "--rounds=1"),
        loader=("--samples=64", "--rounds=1", "--seconds=0.2"),
    ),
}


def steps(size: Size, device: str) -> Iterator[Step]:
    """Everything there is to run, the most telling first."""
    arguments = [f"--device={device}", *size.train]
    yield Step("Tests marked gpu", "pytest", run_tests)

    def variant(stage: int, variant: train_gpu.Variant) -> Step:
        def measure(seconds: float) -> Found:
            return figures([(variant.name, train_gpu.measure_apart(arguments, stage, variant, limit_s=seconds))])

        return Step("Training", f"stage {stage}, {variant.name}", measure, stage)

    def comparison(stage: int) -> Step:
        def measure(seconds: float) -> Found:
            return figures(train_gpu.compare(arguments, stage, limit_s=seconds))

        return Step("Training beside Trainer", f"stage {stage}", measure, stage)

    def command(title: str, name: str, module: str, options: Sequence[str]) -> Step:
        return Step(title, name, lambda seconds: printed(["-m", module, f"--device={device}", *options], seconds))

    yield from (variant(stage, train_gpu.BEST) for stage in STAGES)
    yield command("Sampling", "beside transformers", "benchmarks.generate", size.sampling)
    yield command("Models of a corpus build", "codes and scores", "benchmarks.pipeline_models", size.models)
    yield Step("Loader", "made-up pictures", lambda seconds: run_loader(size.loader, seconds))
    yield from (comparison(stage) for stage in STAGES)
    others = [variant for variant in train_gpu.VARIANTS if variant != train_gpu.BEST]
    yield from (variant(stage, other) for stage in STAGES for other in others)


def figures(found: Sequence[tuple[str, Measured | str]]) -> Found:
    """Results of training as JSON. Raises RuntimeError if one is missing for another reason than memory."""
    for name, result in found:
        if isinstance(result, str) and result != train_gpu.OUT_OF_MEMORY:
            raise RuntimeError(f"{name}: {result}")
    return {"figures": [[name, result if isinstance(result, str) else asdict(result)] for name, result in found]}


def printed(arguments: Sequence[str], limit_s: float, python: str = sys.executable) -> Found:
    """The lines that a Python program prints. Raises RuntimeError with its last line of stderr if it fails."""
    try:
        done = subprocess.run(
            [python, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"still running after {limit_s:.0f} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
    return {"lines": done.stdout.strip().splitlines()}


def run_tests(limit_s: float) -> Found:
    """The tests marked gpu. Where there is a GPU, one that is skipped is named."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    pytest = ["-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--tb=line", "-rs", *files]
    lines = printed(pytest, limit_s)["lines"]
    return {"lines": [line for line in lines if re.match(r"SKIPPED|\d+ (passed|skipped|xfailed)", line)]}


def run_loader(arguments: Sequence[str], limit_s: float) -> Found:
    """`benchmarks.loader` on made-up pictures: smooth, so that they decode about as photos do."""
    if not LOADER_PYTHON.is_file():
        raise RuntimeError("needs .venv-loader, which `make gpu` makes (benchmarks/requirements-loader.txt)")
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PHOTOS):
            coarse = Image.fromarray(chance.integers(0, 256, (48, 48, 3), dtype=np.uint8))
            coarse.resize((480, 384), Image.Resampling.BICUBIC).save(Path(folder, f"{number:02d}.jpg"), quality=90)
        return printed(["-m", "benchmarks.loader", "--photos", folder, *arguments], limit_s, str(LOADER_PYTHON))


def revision() -> str:
    """The commit that is measured; "+" where files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def open_results(path: Path, about: Found) -> Found:
    """The results in `path` to go on with, or new ones.

    Raises UserError with one line if they are of other code, another size or another machine.
    """
    if not path.is_file():
        return {**about, "steps": {}}
    results: Found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in about.items():
        if results.get(name) != value:
            raise UserError(f"{path}: its {name} is {results.get(name)}, and here it is {value}: move that file away")
    return results


def run_steps(
    todo: Sequence[Step], results: Found, save: Callable[[], None], limit_s: float, say: Callable[[str], None]
) -> list[str]:
    """Run what `results` lack, calling `save` after each step. Returns a line for each that failed or was left out."""
    start, missing = time.monotonic(), []
    for number, step in enumerate(todo, start=1):
        if "error" not in results["steps"].get(step.key, {"error": ""}):
            continue
        left = limit_s - (time.monotonic() - start)
        if left <= 0:
            missing.append(f"{step.key}: left out, the time is over; the same command continues")
            continue
        say(f"{number}/{len(todo)} {step.key}")
        began = time.monotonic()
        try:
            found = step.run(left)
        except RuntimeError as error:
            found = {"error": str(error)}
            missing.append(f"{step.key}: {error}")
        results["steps"][step.key] = {"seconds": round(time.monotonic() - began, 1), **found}
        save()
    return missing


def page(folder: Path) -> str:
    """gpu.md out of the results in `folder`, the newest first."""
    text = [
        "# GPU results",
        "",
        "Written by `make gpu` out of `benchmarks/results/`, every number under the hardware that it was measured on.",
    ]
    files = sorted(folder.glob("*.json"), key=lambda path: (path.stem[-10:], path.stem), reverse=True)
    if not files:
        text += ["", "There are none yet: `make gpu` on a machine with a card makes them, in at most 25 minutes."]
    for path in files:
        text += section(json.loads(path.read_text(encoding="utf-8")))
    return "\n".join(text) + "\n"


def section(results: Found) -> list[str]:
    """What the page says of one file of results."""
    text = [
        "",
        f"## {results['device']}, {results['date']}",
        "",
        f"{results['hardware']}; revision {results['revision']}",
    ]
    if results["size"] != "full":
        text += ["", f"At {results['size']} size, to show that all of it runs: the figures mean nothing."]
    titles = dict.fromkeys(key.partition(": ")[0] for key in results["steps"])
    for title in titles:
        found = {key: step for key, step in results["steps"].items() if key.startswith(f"{title}: ")}
        text += ["", f"### {title}", ""]
        text += training_lines(title, found, results) if title.startswith("Training") else []
        for key, step in found.items():
            text += [_cell(line) for line in step.get("lines", [])]
            text += ["", f"{key}: failed: {step['error']}"] if "error" in step else []
    return text


def training_lines(title: str, found: dict[str, Found], results: Found) -> list[str]:
    """The table of training, with what its columns mean."""
    peak = results["peak_flops"]
    mfu = f"MFU: {CONVENTION}, {peak / 1e12:.0f} TFLOP/s. " if peak else ""
    text = [f"{mfu}Options: `{' '.join(results['train'])}`.", "", *train_gpu.HEAD]
    for stage in STAGES:
        rows = [
            (name, Measured(**result) if isinstance(result, dict) else result)
            for key, step in found.items()
            if f": stage {stage}" in key
            for name, result in step.get("figures", [])
        ]
        rows.sort(key=lambda row: _place(row[0]))
        text += train_gpu.lines(stage, rows, peak)
    return text


def _place(name: str) -> int:
    """Where a line stands in the table of variants; those of other tables stay in their order."""
    names = [variant.name for variant in train_gpu.VARIANTS]
    return names.index(name) if name in names else 0


def _cell(line: str) -> str:
    """A printed line as one of Markdown: what is no row of a table is a paragraph of its own."""
    return line if line.startswith("|") else f"\n{line}\n"


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="full", choices=sorted(SIZES))
    parser.add_argument("--minutes", type=float, default=25.0, help="no step runs on after these")
    parser.add_argument("--out", type=Path, help="folder of results/ and gpu.md (benchmarks; runs/gpu at tiny size)")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; --device cpu --size tiny shows that it runs")
    if options.device == "cpu" and options.size != "tiny":
        raise UserError("--device cpu: a CPU would take days at full size: give --size tiny")
    out = options.out or ROOT / ("benchmarks" if options.size == "full" else "runs/gpu")
    device, size, today = torch.device(options.device), SIZES[options.size], str(date.today())
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    about = {
        "device": name,
        "hardware": hardware(device),
        "date": today,
        "size": options.size,
        "revision": revision(),
        "peak_flops": peak_flops(device),
        "train": list(size.train),
    }
    path = out / "results" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{today}.json"
    results = open_results(path, about)
    path.parent.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        write_file(path, json.dumps(results, indent=1) + "\n")
        write_file(out / "gpu.md", page(path.parent))

    screen = console()
    screen.print(f"{about['hardware']}; at most {options.minutes:g} minutes")
    todo = list(steps(size, options.device))
    missing = run_steps(todo, results, save, options.minutes * 60, lambda line: screen.print(line, markup=False))
    save()
    screen.print(f"{len(todo) - len(missing)} of {len(todo)} steps are in {path}; their tables in {out / 'gpu.md'}")
    if missing:
        raise UserError("\n".join(missing))


if __name__ == "__main__":
    run(main)
