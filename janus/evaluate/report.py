"""report.html: an evaluation in one file that needs no other, with pictures, right answers and wrong ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from janus.evaluate import draw, paper, store
from janus.evaluate.benchmark import Benchmark, Drawing, Drawn, Question
from janus.evaluate.chosen import Chosen
from janus.report.html import Raw, image, join, page, section, table, tag
from schemas.files import write_file

if TYPE_CHECKING:
    from PIL import Image

FILE = "report.html"
SHOWN = 6
"""Right and wrong examples of each benchmark."""
SIDE = 192
"""Longest side of a picture in the report, pixels."""
LONGEST = 300
"""Characters of an answer in the report; rows.jsonl has all of it."""
SIGNIFICANT = 0.05


def write_report(chosen: Sequence[Chosen], results: Mapping[str, Any], out: Path) -> Path:
    """Write the report of an evaluation into its folder.

    Args:
        chosen: its benchmarks; their questions give the pictures of examples.
        results: what stands in results.json.
        out: its folder, which holds the rows.
    """
    records = results["benchmarks"]
    named = {one.name: one for one in chosen if one.name in records}
    parts = [_one(one, records[name], results["comparisons"], out) for name, one in named.items()]
    content = page(
        "Janus evaluation",
        tag("h1", "Evaluation"),
        tag("p", _about(results["run"]), class_="soft"),
        _summary(named, records, results["comparisons"]),
        _beside_papers(records),
        *parts,
    )
    path = out / FILE
    write_file(path, content)
    return path


def _about(run: Mapping[str, Any]) -> str:
    facts = [run["model"] or "pictures drawn elsewhere", run["date"], f"on {run['device']}"]
    if run["world_size"] > 1:
        facts.append(f"{run['world_size']} processes")
    if run["git"]:
        facts.append(f"code {run['git'][:12]}{'+changes' if run['git'].endswith('+changes') else ''}")
    return ", ".join([*facts, f"torch {run['packages']['torch']}"])


def shown(value: float | None, benchmark: type[Benchmark] | Benchmark) -> str:
    """A score of a benchmark as it is printed: a share as a percentage."""
    return "" if value is None else f"{value * _scale(benchmark):.{benchmark.digits}f}"


def _scale(benchmark: type[Benchmark] | Benchmark) -> float:
    return 100.0 if benchmark.percent else 1.0


def _interval(score: Mapping[str, Any], benchmark: Benchmark) -> str:
    return "" if score["low"] is None else f"{shown(score['low'], benchmark)} to {shown(score['high'], benchmark)}"


def _summary(named: Mapping[str, Chosen], records: Mapping[str, Any], comparisons: Mapping[str, Any]) -> Raw:
    rows: list[list[object]] = []
    for name, one in named.items():
        record, benchmark = records[name], one.benchmark
        score = record["scores"].get(record["main"])
        rows.append(
            [
                tag("b", record["title"]),
                record["split"],
                record["protocol"],
                record["items"],
                record["main"] or "",
                tag("b", shown(score["value"], benchmark)) if score else "not scored",
                _interval(score, benchmark) if score else "",
                *(_difference(compared.get(name), record["main"], benchmark) for compared in comparisons.values()),
                join(*(tag("div", note, class_="bad") for note in record["notes"])),
            ]
        )
    head = ["benchmark", "split", "protocol", "items", "score", "", "95 % interval"]
    head += [f"less {other}" for other in comparisons]
    return section(
        "Scores",
        "Shares in percent. Intervals are of a bootstrap over questions, or prompts. A difference is taken pair by "
        f"pair, with the p of a permutation test (bold: below {SIGNIFICANT}).",
        table([*head, "notes"], rows, numeric=[3, 5, 6]),
    )


def _difference(compared: Mapping[str, Any] | None, score: str | None, benchmark: Benchmark) -> object:
    if compared is None or score is None:
        return ""
    if "differs" in compared:
        return tag("span", f"not comparable: {', '.join(compared['differs'])}", class_="soft")
    found = compared["scores"].get(score)
    if found is None:
        return ""
    value, low, high = (f"{found[one] * _scale(benchmark):+.{benchmark.digits}f}" for one in ("value", "low", "high"))
    text = f"{value} ({low} to {high}), "
    text += f"p = {found['p']:.3f}" if found["p"] >= 0.001 else "p < 0.001"
    return tag("b", text) if found["p"] < SIGNIFICANT else text


def _beside_papers(records: Mapping[str, Any]) -> Raw:
    """The paper's tables, the columns that were measured here."""
    columns = {name: column for name, column in paper.COLUMNS.items() if name in records}
    if not columns:
        return Raw("")
    ours: list[object] = [tag("b", "this model")]
    for name, column in columns.items():
        scores = records[name]["scores"]
        score = next((scores[one] for one in column.scores if one in scores), None)
        value = "" if score is None else f"{score['value'] * column.factor:.{column.digits}f}"
        ours.append(tag("b", value if records[name]["whole"] else f"({value})"))
    rows: list[Sequence[object]] = [ours]
    for model, numbers in paper.TABLE.items():
        if any(name in numbers for name in columns):
            cells = (
                f"{numbers[name]:.{column.digits}f}" if name in numbers else "" for name, column in columns.items()
            )
            rows.append([model, *cells])
    meanings = "; ".join(f"{column.title}: {column.means}" for column in columns.values())
    return section(
        "Beside the paper",
        f"Numbers as Janus and Janus-Pro print them ({meanings}). They may be compared with this model's only where "
        "the split, the protocol and the prompt template below are theirs; in brackets: not the whole benchmark.",
        table(["", *(column.title for column in columns.values())], rows, numeric=range(1, len(columns) + 1)),
    )


def _one(one: Chosen, record: Mapping[str, Any], comparisons: Mapping[str, Any], out: Path) -> Raw:
    """A benchmark: all its scores, under which conditions, and examples."""
    benchmark = one.benchmark
    rows: list[Sequence[object]] = [
        [
            name,
            shown(score["value"], benchmark),
            _interval(score, benchmark),
            *(_difference(compared.get(one.name), name, benchmark) for compared in comparisons.values()),
        ]
        for name, score in record["scores"].items()
    ]
    scores = table(["", "score", "95 % interval", *(f"less {o}" for o in comparisons)], rows, numeric=[1, 2])
    examples = _examples(one, store.read_lines(out / one.name / "rows.jsonl"), out)
    return section(f"{record['title']}", _conditions(record), scores if rows else Raw(""), examples)


def _conditions(record: Mapping[str, Any]) -> str:
    facts = [f"Split: {record['split'] or 'not named'}", f"protocol {record['protocol']}"]
    if record["dtype"]:
        facts.append(record["dtype"])
    for name, text in record.get("prompts", {}).items():
        facts.append(f"prompt template {name} ({record['prompts_from'][name]}): {text!r}")
    if "max_new_tokens" in record:
        facts.append(f"greedy, at most {record['max_new_tokens']} tokens")
    elif record["sampling"]:
        facts.append(", ".join(f"{name} {value}" for name, value in record["sampling"].items() if value is not None))
    return "; ".join(facts) + "."


def _examples(one: Chosen, rows: Sequence[Mapping[str, Any]], out: Path) -> Raw:
    """Some right and some wrong ones, spread evenly over the benchmark: neither the best nor the worst."""
    judged = [row for row in rows if row.get("correct") is not None]
    right = [row for row in judged if row["correct"] >= 0.5]
    wrong = [row for row in judged if row["correct"] < 0.5]
    show: Callable[[Mapping[str, Any]], Raw]
    groups = {"Right": right, "Wrong": wrong} if judged else {"Answers": list(rows)}
    if isinstance(one.benchmark, Drawing):
        pictures = {found.id: found for found in draw.located(one.benchmark, one.items, out)}  # type: ignore[arg-type]
        if not judged:  # only the set as a whole has a score
            groups = {"Pictures": [row for row in rows if row["id"] in pictures]}
        show, kind = partial(_picture_card, pictures), "pictures"
    else:
        show, kind = _question_card(one), "questions"
    parts: list[object] = []
    for title, group in groups.items():
        cards = [show(row) for row in spread(group, SHOWN)]
        if cards:
            heading = f"{title}: {len(group)} of {len(rows)}" if judged else title
            parts += [tag("h3", heading), tag("div", *cards, class_=kind)]
    return join(*parts)


def spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """At most `count` of `rows`, evenly spaced, the first among them."""
    return list(rows) if len(rows) <= count else [rows[place * len(rows) // count] for place in range(count)]


def _question_card(one: Chosen) -> Callable[[Mapping[str, Any]], Raw]:
    questions = {question.id: question for question in one.items if isinstance(question, Question)}

    def card(row: Mapping[str, Any]) -> Raw:
        question = questions[row["id"]]
        pictures = [image(picture_uri(picture.open()), picture.name) for picture in question.pictures[:2]]
        options = "".join(f" {letter}. {text}" for letter, text in question.options.items() if not question.listed)
        verdict = None if row["correct"] is None else "good" if row["correct"] >= 0.5 else "bad"
        lines = [
            tag("dt", question.text + options),
            tag("dd", tag("b", _cut(row["said"]) or "(nothing)", class_=verdict)),
        ]
        read = "nothing" if row["read"] is None else row["read"]
        about = [] if read == row["said"] else [f"read as {_cut(read)}"]
        about += [] if row["correct"] == 1 or question.answer is None else [f"expected {question.answer}"]
        lines += [tag("dd", "; ".join(about), class_="soft")] if about else []
        return tag("div", *pictures, tag("dl", *lines), class_="card question")

    return card


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _picture_card(pictures: Mapping[str, Drawn], row: Mapping[str, Any]) -> Raw:
    verdict = None if row.get("correct") is None else "right" if row["correct"] >= 0.5 else "wrong"
    caption = [row["prompt"], *([tag("div", row["problem"], class_="bad")] if row.get("problem") else [])]
    picture = picture_uri(pictures[row["id"]].small(SIDE))
    return tag("figure", image(picture, row["prompt"], class_=verdict), tag("figcaption", *caption))


def picture_uri(picture: Image.Image) -> str:
    """A picture, made small, as a `data:` URI that needs no file."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
