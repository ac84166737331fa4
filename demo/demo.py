"""`make demo`: from nothing to a trained, measured tiny Janus, with a report.

Every step is a command of this project that can be typed on its own: the world and its damage, the base models, three
corpora through Prefect and Beam, three stages of training, measurement, report.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from rich.table import Table

from demo.chain import ROOT, Chain, Step
from demo.screen import Screen, duration
from janus import cli
from janus.evaluate.results import read_scores
from pipelines.funnel import funnels
from schemas.digest import digest, file_sha256
from schemas.manifest import load_snapshot

HOST = "shapes.test:80"
"""Where the built-in world says its images are."""
STAGES = (1, 2, 3)
CORPORA = tuple(f"shapes-stage{stage}" for stage in STAGES)
CFG_SCALE = "2"
"""Guidance of the measured images: at this size more of it hurts (docs/lab-notes.md)."""


def plan(out: Path, scenes: int, seed: int) -> list[Step]:
    """The steps of a demo in the folder `out`."""
    world, base, corpora = out / "world", out / "base", out / "corpora"
    specs = [f"demo/corpora/{name}.toml" for name in CORPORA]
    spec_files = [os.path.relpath(ROOT / spec) for spec in specs]
    steps = [
        Step(
            "world",
            "World",
            "demo.world",
            ("--out", str(world), "--scenes", str(scenes), "--seed", str(seed)),
            world,
            code=("demo/world",),
            describe=_world,
        ),
        Step(
            "base",
            "Base models",
            "demo.base",
            ("--world", str(world), "--out", str(base)),
            base,
            code=("demo/base", "demo/world", "janus/model"),
            needs=("world",),
            describe=_base,
        ),
        Step(
            "corpora",
            "Corpora",
            "flows.corpus",
            (
                *("build", *spec_files, "--out", str(corpora)),
                *("--set", f"world={world}", f"janus={base / 'janus'}", f"clip={base / 'clip'}"),
                *("--serve", f"{HOST}={world / 'http'}"),
            ),
            corpora,
            code=("pipelines", "schemas", "janus/model", "janus/images.py", "flows/build.py", *specs),
            needs=("world", "base"),
            resumes=True,
            fingerprint=corpora_digest,
            describe=_corpora,
        ),
    ]
    model = base / "janus"
    for stage in STAGES:
        folder = out / "train" / f"stage{stage}"
        steps.append(
            Step(
                f"train{stage}",
                f"Training, stage {stage}",
                "janus.train",
                (
                    *("--stage", str(stage), "--preset", "tiny", "--model", str(model)),
                    *("--data", str(corpora / CORPORA[stage - 1]), "--out", str(folder)),
                ),
                folder,
                code=("janus/train", "janus/data", "janus/model", "janus/packed.py"),
                needs=("corpora", "base" if stage == 1 else f"train{stage - 1}"),
                resumes=True,
                fingerprint=model_digest,
                describe=_training,
            )
        )
        model = folder / "model"
    heldout = world / "heldout"
    steps.append(
        Step(
            "evaluate",
            "Measurement",
            "janus.evaluate",
            (
                *("--model", str(model), "--baseline", str(base / "janus"), "--out", str(out / "evaluate")),
                *("--benchmarks", "pope", "multiple_choice", "counting", "geneval", "--data", str(heldout)),
                *("--geneval.detector", "shapes", "--geneval.images-per-prompt", "1", "--cfg-scale", CFG_SCALE),
            ),
            out / "evaluate",
            code=("janus/evaluate", "janus/model", "demo/world"),
            needs=("world", "base", "train3"),
            describe=_measured,
        )
    )
    steps.append(
        Step(
            "report",
            "Report",
            "demo.report",
            (str(out),),
            out / "report.html",
            code=("demo/report", "janus/report"),
            needs=tuple(step.name for step in steps),
            describe=str,
        )
    )
    return steps


def corpora_digest(folder: Path) -> str:
    """Digest of the published snapshots, once every shard that training reads is found to be what they say."""
    snapshots = [load_snapshot(folder / name) for name in CORPORA]
    for name, snapshot in zip(CORPORA, snapshots, strict=True):
        for shard in snapshot.shards:
            if file_sha256(folder / name / shard.path) != shard.sha256:
                raise ValueError(f"{folder / name / shard.path}: content changed since it was published")
    return digest([snapshot.name for snapshot in snapshots])


def model_digest(folder: Path) -> str:
    """Digest of a run's trained weights. Raises FileNotFoundError if the run has not come to its end."""
    weights = sorted((folder / "model").glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"{folder / 'model'}: no weights: training was stopped before its last step")
    return digest([file_sha256(path) for path in weights])


def _world(folder: Path) -> str:
    damaged = len((folder / "truth.jsonl").read_text().splitlines())
    return f"{sum(path.is_file() for path in folder.rglob('*'))} files, {damaged} rows damaged on purpose"


def _base(folder: Path) -> str:
    return "VQ tokenizer, caption scorer, text tokenizer, language model"


def _corpora(folder: Path) -> str:
    counted = [one for name in CORPORA for one in funnels(load_snapshot(folder / name))]
    return f"{sum(one.kept for one in counted):,} rows kept of {sum(one.rows for one in counted):,}"


def _training(folder: Path) -> str:
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    losses = ", ".join(f"{task} {loss:.2f}" for task, loss in last["loss"].items() if task != "all")
    return f"{last['step']} steps; loss {losses}"


def _measured(folder: Path) -> str:
    results = read_scores(folder)
    return f"POPE {results['pope']['accuracy']:.3f}, GenEval {results['geneval']['overall']:.3f}"


def demo(out: Path = Path("runs/demo"), scenes: int = 8000, seed: int = 0) -> None:
    """From nothing to a trained, measured tiny Janus. Run it again after an interruption: it goes on.

    Args:
        out: Folder for everything: world, models, corpora, logs and report.html.
        scenes: Training scenes of the built-in world, roughly; the steps of training stay the same.
        seed: Seed of the world and of the base models.
    """
    if scenes < 1:
        raise cli.UserError(f"--scenes {scenes}: expected at least 1")
    console = cli.console()
    steps = plan(out, scenes, seed)
    screen = Screen(console, [step.title for step in steps])
    start = time.monotonic()
    try:
        with screen.shown():
            chain = Chain(out, screen)
            for order, step in enumerate(steps):
                chain.do(step, order)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        raise
    results = json.loads((out / "results.json").read_text())
    console.print(results_table(results))
    console.print(f"Done in {duration(time.monotonic() - start)}. Report: {out / 'report.html'}")


def results_table(results: dict) -> Table:
    """The numbers, trained beside untrained."""
    table = Table("", "trained", "untrained", box=None, padding=(0, 2), title=None)
    rows = [("POPE accuracy", "pope", "accuracy"), ("POPE F1", "pope", "f1")]
    rows += [(name.replace("_", " "), name, "accuracy") for name in ("multiple_choice", "counting")]
    rows += [(f"GenEval {task.replace('_', ' ')}", "geneval", task) for task in results["geneval"]]
    for title, part, key in rows:
        table.add_row(title, f"{results[part][key]:.3f}", f"{results['untrained'][part][key]:.3f}")
    table.add_row("caption score AUC", f"{results['caption_score']['auc']:.3f}", "")
    return table


def main() -> None:
    """Run the command."""
    cli.parse(demo, prog="python -m demo")
