"""`python -m demo.report RUN`: write the report and the results of a demo run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image

from demo.report import pictures
from demo.report import sections as build
from demo.report.scores import CaptionScores, split_by_truth
from janus import cli
from janus.evaluate.results import read_scores
from janus.report.html import page, tag
from pipelines.funnel import caption_scores, funnels
from schemas.files import write_file
from schemas.manifest import load_snapshot
from schemas.spec import load_spec

KINDS = {"pope": "Yes or no", "multiple_choice": "Multiple choice", "counting": "Counting"}
STAGES = (1, 2, 3)
CORPORA = Path(__file__).resolve().parent.parent / "corpora"
SCORED = "captions"
"""The source of stage 2 whose captions are damaged on purpose."""
RECONSTRUCTIONS = 8


def report(run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Write RUN/results.json and RUN/report.html from what the demo left in RUN.

    Args:
        run: Folder of a demo run.
    """
    scores = _caption_scores(run)
    results = _results(run, scores)
    write_file(run / "results.json", json.dumps(results, indent=2) + "\n")
    rebuilt = pictures.reconstruct(
        run / "base" / "janus", sorted((run / "world/heldout/images").iterdir())[:RECONSTRUCTIONS]
    )
    corpora = {f"shapes-stage{stage}": run / "corpora" / f"shapes-stage{stage}" for stage in STAGES}
    snapshots = {name: load_snapshot(folder) for name, folder in corpora.items()}
    html = page(
        "Janus Forge: the demo",
        tag("h1", "A tiny Janus, from nothing"),
        tag(
            "p",
            "Corpora were built from a damaged world of coloured shapes, and a Janus was trained on them in three "
            "stages: it answers questions about pictures and draws pictures from prompts.",
            class_="soft",
        ),
        build.headline(results),
        build.steps(_steps(run)),
        build.results_tables(results),
        build.generated(_drawn(run)),
        build.questions({title: _asked(run, kind) for kind, title in KINDS.items()}),
        build.loss_curves({f"Stage {stage}": _lines(run / f"train/stage{stage}/metrics.jsonl") for stage in STAGES}),
        build.funnel_tables({name: funnels(snapshot) for name, snapshot in snapshots.items()}),
        build.caption_histogram(scores, _threshold()),
        build.reconstructions(rebuilt, snapshots["shapes-stage2"].fingerprints.generation_tokens),
    )
    write_file(run / "report.html", html)


def _results(run: Path, scores: CaptionScores) -> dict[str, Any]:
    trained, untrained = read_scores(run / "evaluate"), read_scores(run / "evaluate/baseline")
    return {**trained, "caption_score": {"auc": scores.auc}, "untrained": untrained}


def _caption_scores(run: Path) -> CaptionScores:
    corpus = run / "corpora" / "shapes-stage2"
    return split_by_truth(caption_scores(corpus, load_snapshot(corpus), SCORED), run / "world" / "truth.jsonl")


def _threshold() -> float | None:
    """The least caption score that stage 2 keeps."""
    spec = load_spec(CORPORA / "shapes-stage2.toml", {"world": "", "janus": "", "clip": ""})
    source = next(one for one in spec.sources if one.name == SCORED)
    return (source.filters or spec.filters).get("caption_score", {}).get("min")


def _steps(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in (run / "steps").glob("*.json")]
    return sorted(records, key=lambda record: record["order"])


def _asked(run: Path, kind: str) -> list[tuple[Mapping[str, Any], str]]:
    rows = build.one_per_picture(_lines(run / f"evaluate/{kind}/rows.jsonl"))
    heldout = run / "world" / "heldout"
    return [(row, pictures.png_uri(pictures.open_rgb(heldout / row["pictures"][0]))) for row in rows]


def _drawn(run: Path) -> list[tuple[Mapping[str, Any], Image.Image]]:
    """Every picture drawn from a prompt, with its row."""
    rows = _lines(run / "evaluate/geneval/rows.jsonl")
    places = (row["id"].partition("/") for row in rows)
    folder = run / "evaluate/pictures/geneval"
    return [
        (row, pictures.open_rgb(folder / prompt / "samples" / f"{sample}.png"))
        for row, (prompt, _, sample) in zip(rows, places, strict=True)
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Run the command."""
    cli.parse(report, prog="python -m demo.report")


if __name__ == "__main__":
    cli.run(main)
