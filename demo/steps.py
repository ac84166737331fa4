"""The steps of `make demo`: commands of this project, each of which can be typed on its own.

The world and its damage, the base models, three corpora through Prefect and Beam, three stages of training,
measurement, report.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from demo.chain import Step
from demo.dependencies import ROOT
from janus.evaluate.results import read_scores
from pipelines.funnel import funnels
from schemas.digest import digest, file_sha256
from schemas.manifest import load_snapshot

HOST = "shapes.test:80"
"""Where the built-in world says its images are."""
STAGES = (1, 2, 3)
CORPORA = tuple(f"shapes-stage{stage}" for stage in STAGES)
PRESET = "janus/presets/tiny.toml"
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
            describe=_world,
        ),
        Step(
            "base",
            "Base models",
            "demo.base",
            ("--world", str(world), "--out", str(base)),
            base,
            data=(PRESET,),
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
            data=tuple(specs),
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
                data=(PRESET,),
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
            data=("janus/report/style.css", *specs),
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
