"""The sections of the report, each a function of the facts it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from demo.report.pictures import Reconstruction, png_uri
from demo.report.scores import CaptionScores
from janus.report import svg
from janus.report.html import Raw, image, join, section, stacked_bar, table, tag
from pipelines.funnel import Funnel

TASK_NAMES = {
    "single_object": "single object",
    "two_object": "two objects",
    "counting": "counting",
    "colors": "colours",
    "position": "position",
    "color_attr": "colour attribution",
    "overall": "overall",
}
LOSSES = ("generation", "understanding", "text")
SHOWN_IMAGES = 8
"""Generated images shown per task."""
SHOWN_QUESTIONS = 6
"""Questions shown per kind, each about another picture."""


def headline(results: Mapping[str, Any]) -> Raw:
    """The five numbers that matter, each beside the untrained model's."""
    untrained = results["untrained"]
    figures = [
        ("POPE accuracy", results["pope"]["accuracy"], untrained["pope"]["accuracy"]),
        ("Multiple choice", results["multiple_choice"]["accuracy"], untrained["multiple_choice"]["accuracy"]),
        ("Counting", results["counting"]["accuracy"], untrained["counting"]["accuracy"]),
        ("GenEval overall", results["geneval"]["overall"], untrained["geneval"]["overall"]),
        ("Caption score AUC", results["caption_score"]["auc"], None),
    ]
    cards = (
        tag(
            "div",
            tag("span", name),
            tag("b", f"{value:.3f}"),
            tag("span", "0.5 is a coin" if before is None else f"untrained {before:.3f}", class_="soft"),
            class_="card figure",
        )
        for name, value, before in figures
    )
    return tag("div", *cards, class_="cards")


def steps(done: Sequence[Mapping[str, Any]]) -> Raw:
    """What happened, with its time. Each entry: title, command, seconds, detail."""
    longest = max(step["seconds"] for step in done) or 1.0
    rows: list[list[object]] = []
    for step in done:
        bar = tag("div", tag("i", style=f"width:{step['seconds'] / longest:.1%}"), class_="bar time")
        title = join(tag("div", step["title"]), tag("code", step["command"], class_="soft"))
        rows.append([title, step["detail"], bar, f"{step['seconds']:.1f} s"])
    rows.append([tag("b", "all steps"), "", "", tag("b", f"{sum(step['seconds'] for step in done):.0f} s")])
    return section(
        "What happened",
        "Every step is a command that can be typed on its own. Times are those of the run that did the step: "
        "a later run uses what is still valid.",
        table(["step", "result", "", "time"], rows, numeric=[3]),
    )


def results_tables(results: Mapping[str, Any]) -> Raw:
    """All numbers, trained beside untrained."""

    def row(name: str, part: str, key: str) -> list[object]:
        return [name, tag("b", f"{results[part][key]:.3f}"), f"{results['untrained'][part][key]:.3f}"]

    answers = [
        *(row(f"POPE {key}", "pope", key) for key in ("accuracy", "f1", "precision", "recall")),
        row("POPE share of yes", "pope", "yes_rate"),
        row("multiple choice", "multiple_choice", "accuracy"),
        row("counting", "counting", "accuracy"),
    ]
    drawn = [row(title, "geneval", task) for task, title in TASK_NAMES.items()]
    head = ["", "trained", "untrained"]
    return section(
        "What it learned",
        "Measured on scenes and prompts that training never saw. Images are sampled from held-out prompts and read by "
        "a rule-based checker. Untrained is the model that stage 1 starts from.",
        tag(
            "div",
            tag("div", tag("h3", "Understanding"), table(head, answers, numeric=[1, 2])),
            tag("div", tag("h3", "Generation, by GenEval's rules"), table(head, drawn, numeric=[1, 2])),
            class_="charts",
        ),
    )


def funnel_tables(corpora: Mapping[str, Sequence[Funnel]]) -> Raw:
    """Every corpus's funnel: rows in = kept + dropped + failed, per source."""
    parts: list[object] = []
    for corpus, sources in corpora.items():
        rows = []
        for one in sources:
            dropped, failed = sum(one.dropped.values()), sum(one.failed.values())
            bar = stacked_bar(
                [("kept", one.kept, "var(--c2)"), ("dropped", dropped, "var(--c1)"), ("failed", failed, "var(--bad)")]
            )
            why = [*one.dropped.items(), *one.failed.items()]
            tags = join(*(tag("span", f"{reason} {count}", class_="tag") for reason, count in why))
            check = tag("span", "adds up", class_="good") if one.adds_up else tag("b", "does not add up", class_="bad")
            rows.append([one.source, one.rows, one.kept, dropped, failed, bar, tags, check])
        head = ["source", "in", "kept", "dropped", "failed", "", "why", "in = kept + dropped + failed"]
        parts += [tag("h3", corpus), table(head, rows, numeric=[1, 2, 3, 4])]
    return section(
        "The corpora",
        "No row vanishes: what goes in is kept, dropped for a reason, or failed for a reason. Part of the world is "
        "damaged on purpose: wrong captions, duplicates, corrupt and tiny files, dead links.",
        *parts,
    )


def caption_histogram(scores: CaptionScores, threshold: float | None) -> Raw:
    """How well the caption score finds the captions that are wrong on purpose."""
    chart = svg.histogram(
        "Caption scores",
        {"right": scores.right, "planted wrong": scores.wrong},
        x_label="cosine of image and caption embeddings",
        marks=[] if threshold is None else [(threshold, f"threshold {threshold:g}")],
    )
    return section(
        "Wrong captions stand out",
        f"{len(scores.wrong)} of the web captions describe another picture. A right caption scores higher than a wrong "
        f"one with probability {scores.auc:.3f} (AUC).",
        tag("div", Raw(chart), class_="card", style="max-width:560px"),
    )


def reconstructions(pairs: Sequence[Reconstruction], codes: int) -> Raw:
    """Originals above what the VQ tokenizer keeps of them."""
    mean = float(np.mean([pair.psnr for pair in pairs]))
    figures = (
        tag(
            "figure",
            image(png_uri(pair.original), "original"),
            image(png_uri(pair.rebuilt), "reconstruction"),
            tag("figcaption", f"{pair.psnr:.1f} dB", class_="soft"),
        )
        for pair in pairs
    )
    return section(
        "What the VQ tokenizer keeps",
        f"Held-out pictures above, the same after {codes} codes and back below. Mean PSNR {mean:.1f} dB. "
        "Nothing the model draws can be sharper than this.",
        tag("div", *figures, class_="pictures"),
    )


def loss_curves(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> Raw:
    """Loss per task, a chart per stage, from the lines of `metrics.jsonl`."""
    charts = []
    for name, lines in stages.items():
        series = {
            task: [(line["step"], line["loss"][task]) for line in lines if task in line["loss"]] for task in LOSSES
        }
        chart = svg.line_chart(name, {task: points for task, points in series.items() if points}, x_label="step")
        charts.append(tag("div", Raw(chart), class_="card"))
    return section(
        "Training",
        "Cross-entropy per supervised token, for each task. Faint: every logged step; bold: moving average.",
        tag("div", *charts, class_="charts"),
    )


def generated(drawn: Sequence[tuple[Mapping[str, Any], np.ndarray | Image.Image]]) -> Raw:
    """Sampled images with prompt and verdict, some of each task, in the order they were sampled.

    Args:
        drawn: row of GenEval's `rows.jsonl` and picture of each, uint8[S, S, 3] or Pillow.
    """
    parts: list[object] = []
    for task, title in TASK_NAMES.items():
        chosen = [(row, picture) for row, picture in drawn if row["category"] == task]
        if not chosen:
            continue
        right = sum(bool(row["correct"]) for row, _ in chosen)
        figures = (_verdict(row, picture) for row, picture in chosen[:SHOWN_IMAGES])
        parts += [tag("h3", f"{title}: {right} of {len(chosen)} right"), tag("div", *figures, class_="pictures")]
    return section(
        "Drawn from held-out prompts",
        "The first images of each task, not the best ones. Green frame: the checker finds what the prompt asks for.",
        *parts,
    )


def _verdict(line: Mapping[str, Any], picture: np.ndarray | Image.Image) -> Raw:
    verdict = "right" if line["correct"] else "wrong"
    caption: list[object] = [line["prompt"]]
    if line["problem"]:
        caption.append(tag("div", line["problem"], class_="bad"))
    return tag(
        "figure", image(png_uri(picture), f"{line['prompt']} ({verdict})", class_=verdict), tag("figcaption", *caption)
    )


def one_per_picture(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A question about each of the first pictures: the first picture's first, the second's second, and so on."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault(line["pictures"][0], []).append(line)
    return [group[place % len(group)] for place, group in enumerate(groups.values())][:SHOWN_QUESTIONS]


def questions(kinds: Mapping[str, Sequence[tuple[Mapping[str, Any], str]]]) -> Raw:
    """Questions with answers; per kind, lines of its `.jsonl` with the data URI of the picture."""
    parts: list[object] = []
    for title, asked in kinds.items():
        cards = []
        for line, uri in asked:
            said = tag("dd", tag("b", line["said"] or "(nothing)", class_="good" if line["correct"] else "bad"))
            rest = [] if line["correct"] else [tag("dd", f"expected {line['answer']}", class_="soft")]
            cards.append(
                tag(
                    "div",
                    image(uri, line["question"]),
                    tag("dl", tag("dt", line["question"]), said, *rest),
                    class_="card question",
                )
            )
        parts += [tag("h3", title), tag("div", *cards, class_="questions")]
    return section(
        "Asked about held-out pictures", "One question each about the first pictures, not the best ones.", *parts
    )
