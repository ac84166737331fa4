"""A snapshot as one HTML file: rows as pictures with all that is known of them, and a histogram of every signal."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from janus.images import ImageProblem, load_reduced
from janus.report import svg
from janus.report.html import Raw, image, join, page, section, stacked_bar, tag
from pipelines.funnel import funnels
from pipelines.looking.rows import PLAIN, Looked, contents, fields, in_order, numeric, where_are
from pipelines.looking.thresholds import Threshold, fields_of_reason, kept, others
from schemas.manifest import Snapshot
from schemas.printable import printable
from schemas.reasons import Drop
from schemas.spec import MAX_PIXELS
from storage.store import Store

SIDE = 200
"""Longest side of a picture on the page, pixels."""
PICTURES = 3
"""Of a row, at most."""
TEXT = 400
"""Characters of a row's text."""
VALUES = 12
"""Of a field of text, the most frequent."""
BINS = 40
"""Bars of a histogram, at most."""


def render(
    corpus: Store, snapshot: Snapshot, looked: Looked, thresholds: Sequence[Threshold], asked: str, spec: str | None
) -> str:
    """The page. `asked` says which rows were asked for, "" for all; `spec` is where the thresholds come from."""
    title = f"{snapshot.corpus}: snapshot {snapshot.name}"
    total = sum(counts["rows"] for counts in snapshot.funnel.values())
    figures = [("rows", looked.rows), ("kept", looked.counts[Drop.KEPT.value])]
    figures.append(("left out", looked.rows - looked.counts[Drop.KEPT.value]))
    cards = (tag("div", tag("b", f"{count:,}"), name, class_="card figure") for name, count in figures)
    order = in_order(looked.counts)
    links = (tag("a", f"{fate} {looked.counts[fate]:,}", href=f"#{_anchor(fate)}", class_="tag") for fate in order)
    intro = f"{printable(corpus.url)}, stage {snapshot.stage}. "
    intro += f"Rows with {printable(asked)}: {looked.rows:,} of {total:,}." if asked else "All rows."
    return page(
        printable(title),
        tag("h1", printable(title)),
        tag("p", intro, class_="soft"),
        tag("div", *cards, class_="cards three"),
        tag("p", *links),
        _funnel(snapshot) if not asked else "",
        _signals(looked, thresholds, spec),
        *_rows(corpus, snapshot, looked, order),
    )


def _funnel(snapshot: Snapshot) -> Raw:
    blocks = []
    for one in funnels(snapshot):
        lost = sorted({**one.dropped, **one.failed}.items(), key=lambda item: -item[1])
        parts = [("kept", one.kept, "var(--good)"), ("dropped", sum(one.dropped.values()), "var(--c1)")]
        bar = stacked_bar([*parts, ("failed", sum(one.failed.values()), "var(--bad)")])
        counts = [f"{one.rows:,} rows", f"kept {one.kept:,}", *(f"{name} {count:,}" for name, count in lost)]
        blocks.append(join(tag("h3", one.source), bar, tag("p", ", ".join(counts), class_="chart-note")))
    intro = "Rows in, and what became of them: kept, dropped and failed."
    return section("Sources", intro, tag("div", *blocks, class_="card"))


def _signals(looked: Looked, thresholds: Sequence[Threshold], spec: str | None) -> Raw:
    sample = looked.sample
    keep = np.array([fate == Drop.KEPT for fate in sample.column("fate").to_pylist()], dtype=bool)
    charts, constant = [], {}
    for name, values in fields(sample).items():
        if pa.types.is_nested(values.type) or pa.types.is_uint64(values.type):
            continue
        distinct = pc.unique(values.drop_null())
        if len(distinct) < 2 and not any(one.field == name for one in thresholds):
            constant[name] = _value(distinct[0].as_py()) if len(distinct) else "not measured"
        elif numeric(values):
            charts.append(_histogram(name, values, keep, [one for one in thresholds if one.field == name]))
        elif pa.types.is_string(values.type):
            charts.append(_bars(name, values))
    where = (
        f"Thresholds: those of {printable(spec)}." if spec else "Give --spec to see the thresholds of a spec drawn in."
    )
    drawn = f"{sample.num_rows:,} rows, picked by uid, stand for all." if sample.num_rows < looked.rows else "All rows."
    intro = f"{drawn} {where} Below each chart: which threshold would keep what share of the rows that have the signal."
    same = (
        [
            tag("h3", "The same in every row that has it"),
            tag("div", _list(constant), class_="card row", style="max-width: 420px"),
        ]
        if constant
        else []
    )
    return section("Signals", intro, tag("div", *(chart for chart in charts if chart), class_="charts"), *same)


def _histogram(name: str, column: pa.ChunkedArray, keep: np.ndarray, thresholds: Sequence[Threshold]) -> Raw | None:
    all_values = column.to_numpy().astype(np.float64)
    there = np.isfinite(all_values)
    values = all_values[there]
    if not len(values):
        return None
    low, high = np.quantile(values, [0.005, 0.995])
    limits = sorted({limit for one in thresholds for limit in (one.least, one.greatest) if math.isfinite(limit)})
    near = [limit for limit in limits if abs(limit - (low + high) / 2) <= 2 * max(high - low, abs(high))]
    clipped = np.clip(values, low, high)
    series = {"kept": clipped[keep[there]].tolist(), "left out": clipped[~keep[there]].tolist()}
    series = {what: some for what, some in series.items() if some}
    cut = bool(((values < low) | (values > high)).any())
    chart = svg.histogram(
        name,
        series,
        x_label="outermost bars: and beyond" if cut else "",
        bins=_bins(high - low) if pa.types.is_integer(column.type) else BINS,
        marks=[(limit, f"{limit:g}") for limit in near],
    )
    lines = [f"{one.text} keeps {_share(kept(values, one.least, one.greatest), len(values))}" for one in thresholds]
    if len(values) < len(all_values):
        lines.append(f"{len(all_values) - len(values):,} rows have none")
    notes = (tag("p", line, class_="chart-note") for line in lines)
    return tag("div", Raw(chart), _others(values), *notes, class_="card")


def _bins(width: float) -> int:
    """Bars for whole numbers: each stands for as many of them."""
    step = math.ceil((width + 1) / BINS)
    return math.ceil((width + 1) / step)


def _others(values: np.ndarray) -> Raw:
    """Which threshold keeps what share."""
    found = others(values)
    rows = [
        ["keeps", *(f"{share:.0%}" for share, _, _ in found)],
        ["if ≥", *(_number(least) for _, least, _ in found)],
        ["if ≤", *(_number(most) for _, _, most in found)],
    ]
    return tag("table", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows), class_="small")


def _bars(name: str, column: pa.ChunkedArray) -> Raw | None:
    counts = Counter(value for value in column.to_pylist() if value is not None)
    if not counts:
        return None
    most = counts.most_common(1)[0][1]
    rows = [
        [
            printable(value[:40]),
            tag("div", tag("i", style=f"width:{count / most:.1%}"), class_="bar time", style="min-width: 60px"),
            f"{count:,}",
        ]
        for value, count in counts.most_common(VALUES)
    ]
    rest = f"and {len(counts) - VALUES} more values" if len(counts) > VALUES else ""
    body = tag("table", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("h3", name), body, tag("p", rest, class_="chart-note"), class_="card")


def _rows(corpus: Store, snapshot: Snapshot, looked: Looked, order: Sequence[str]) -> list[Raw]:
    rows = {fate: looked.shown[fate].to_pylist() for fate in order}
    everyone = [row for some in rows.values() for row in some]
    winners = where_are(corpus, snapshot, [row["duplicate_of"] for row in everyone if row["duplicate_of"]])
    places = [(row["entry"], row["row"]) for row in everyone]
    raw = contents(corpus, snapshot, [*places, *winners.values()])
    sections = []
    for fate in order:
        cards = []
        for row in rows[fate]:
            winner = winners.get(row["duplicate_of"])
            cards.append(_card(row, raw[row["entry"], row["row"]], raw[winner] if winner else None))
        some = "" if len(cards) == looked.counts[fate] else f" {len(cards)} of them, picked by uid."
        intro = f"{looked.counts[fate]:,} rows.{some}"
        found = section(fate, intro, tag("div", *cards, class_="rows"))
        sections.append(tag("div", found, id=_anchor(fate)))
    return sections


def _card(row: Mapping[str, Any], raw: Mapping[str, Any], winner: Mapping[str, Any] | None) -> Raw:
    """One row. The signals that its reason looks at stand open, the others below."""
    values, why = signals_of(row), reasons_of(row)
    pictures = _pictures(raw)
    if winner is not None:
        sides = [
            tag("figure", *some[:1], tag("figcaption", name))
            for name, some in (("left out", pictures), ("stays", _pictures(winner)))
        ]
        shown = tag("div", *sides, class_="pair")
    else:
        shown = tag("div", *(tag("figure", picture) for picture in pictures), class_="pair") if pictures else Raw("")
    texts = [tag("p", text_of(raw))]
    if (source := {"messages": raw.get("source_messages", raw["messages"])})["messages"] != raw["messages"]:
        texts.append(tag("p", "source: ", text_of(source), class_="soft"))
    if winner is not None and text_of(winner) != text_of(raw):
        texts.append(tag("p", "stays: ", text_of(winner), class_="soft"))
    rest = {name: value for name, value in values.items() if name not in why}
    return tag(
        "div",
        shown,
        *texts,
        tag("span", row["source"], class_="tag"),
        _list(why) if why else "",
        tag(
            "details",
            tag("summary", "all signals"),
            _list({**rest, "key": printable(raw["key"][:200]), "uid": row["uid"].hex()}),
        ),
        class_="row",
    )


def signals_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The signals of a row that have a value, as people read it, by field."""
    found = {}
    for signal, some in row.items():
        for field, value in (some or {}).items() if signal not in PLAIN else ():
            if not isinstance(value, list):
                found[f"{signal}.{field}"] = value
            elif value and isinstance(value[0], tuple):  # a map
                found |= {f"{signal}.{field}.{key}": one for key, one in value}
    return {printable(name): _value(value) for name, value in found.items() if value is not None}


def reasons_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Why a row is left out: the signals that the filter looks at, the evaluation item it holds, the row that stays."""
    values = signals_of(row)
    why = {name: values[name] for name in fields_of_reason(row["fate"]) if name in values}
    if row["contaminated_by"]:
        why["evaluation item"] = printable(row["contaminated_by"])
    if row["duplicate_of"]:
        why["stays"] = row["duplicate_of"].hex()
    return why


def _list(values: Mapping[str, str]) -> Raw:
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in values.items()))


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value)[:200])


def text_of(raw: Mapping[str, Any], length: int = TEXT) -> str:
    """The start of a row's text, in one line."""
    text = "  ".join(
        message["text"] if len(raw["messages"]) == 1 else f"{message['role']}: {message['text']}"
        for message in raw["messages"]
    )
    text = " ".join(text[: 4 * length].split())
    return printable(text if len(text) <= length else f"{text[:length].rstrip()}…")


def _pictures(raw: Mapping[str, Any]) -> list[Raw]:
    found = []
    for one in raw["images"][:PICTURES]:
        if one["bytes"] is None:
            found.append(tag("p", one["outcome"], class_="bad"))
            continue
        try:
            picture = load_reduced(one["bytes"], max_pixels=MAX_PIXELS, at_least=SIDE)
        except ImageProblem as problem:
            found.append(tag("p", problem.outcome.value, class_="bad"))
            continue
        picture.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80)
        data = base64.b64encode(file.getvalue()).decode()
        found.append(
            image(f"data:image/jpeg;base64,{data}", "", width=picture.width, height=picture.height, decoding="async")
        )
    return found


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} rows ({count / total:.1%})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _anchor(fate: str) -> str:
    return f"fate-{fate.replace(' ', '-')}"
