from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from janus.evaluate import paper, store
from janus.evaluate.benchmark import BENCHMARKS
from janus.evaluate.benchmarks.counting import Benchmark as Counting
from janus.evaluate.benchmarks.geneval import Benchmark as GenEval
from janus.evaluate.chosen import Chosen
from janus.evaluate.report import shown, spread, write_report
from tests.evaluate.worlds import write_data

RUN = {
    "model": "a <model>",
    "date": "2026-01-01",
    "device": "cpu",
    "world_size": 1,
    "git": "0123456789abcdef+changes",
    "packages": {"torch": "2"},
}


def record(title: str, main: str, scores: Mapping[str, float], **more: Any) -> dict[str, Any]:
    return {
        "title": title,
        "split": "val",
        "items": 6,
        "whole": True,
        "protocol": "vlmevalkit",
        "dtype": "float32",
        "sampling": {"cfg_scale": 5.0},
        "main": main,
        "notes": [],
        "scores": {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name, value in scores.items()},
        **more,
    }


@pytest.fixture
def report(tmp_path: Path) -> str:
    """The report of six counting questions and six pictures, half of them right."""
    data = write_data(tmp_path / "data")
    benchmark = Counting(questions=data / "counting.jsonl")
    questions = benchmark.read(data)
    rows = [
        {"id": question.id, "unit": question.id, "category": "", "pictures": [], "question": question.text}
        | {"options": {}, "answer": "2", "said": "2" if index % 2 else "<three>", "read": "2" if index % 2 else None}
        | {"correct": float(index % 2)}
        for index, question in enumerate(questions)
    ]
    store.write_lines(tmp_path / "counting" / "rows.jsonl", rows)
    drawn = GenEval(detector="shapes", pictures=tmp_path / "drawn", images_per_prompt=1)
    prompts = drawn.prompts(data)
    for index in range(3):
        folder = tmp_path / "drawn" / f"{index:05d}" / "samples"
        folder.mkdir(parents=True)
        (folder / "0000.png").write_bytes((data / f"{index}.png").read_bytes())
    about = {"category": "counting", "prompt": "a circle", "unit": "0", "problem": "found 1"}
    verdicts = [{**about, "id": f"{index:05d}/0000", "correct": float(index == 0)} for index in range(3)]
    store.write_lines(tmp_path / "geneval" / "rows.jsonl", verdicts)
    chosen = [Chosen("counting", benchmark, questions, "", 6), Chosen("geneval", drawn, prompts, "", 3)]
    results = {
        "run": RUN,
        "benchmarks": {
            "counting": record("counting", "accuracy", {"accuracy": 0.5}, notes=["Not the benchmark."]),
            "geneval": record("GenEval", "overall", {"overall": 1 / 3}, whole=False),
        },
        "comparisons": {
            "baseline": {
                "counting": {"scores": {"accuracy": {"value": 0.25, "low": 0.1, "high": 0.4, "p": 0.0005}}},
                "geneval": {"differs": ["sampling"]},
            }
        },
    }
    return write_report(chosen, results, tmp_path).read_text()


def text(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.S).split()))


def test_it_shows_scores_intervals_and_differences(report: str) -> None:
    shown = text(report)
    assert "counting val vlmevalkit 6 accuracy 50.0 40.0 to 60.0 +25.0 (+10.0 to +40.0), p < 0.001" in shown
    assert "not comparable: sampling" in shown
    assert "Not the benchmark." in shown


def test_it_stands_beside_the_paper_in_the_papers_units(report: str) -> None:
    shown = text(report)
    assert "this model (0.33) Janus 1.3B 0.61" in shown  # in brackets: not the whole benchmark
    assert "Show-o 1.3B 0.53" in shown
    assert "POPE" not in shown


def test_examples_are_right_and_wrong_ones_with_their_pictures(report: str) -> None:
    shown = text(report)
    assert "Right: 3 of 6" in shown
    assert "Wrong: 3 of 6" in shown
    assert "how many? <three> read as nothing; expected 2" in shown
    assert "Right: 1 of 3" in shown
    assert re.findall(r'class="(right|wrong)"', report) == ["right", "wrong", "wrong"]
    assert len(re.findall(r'src="data:image/jpeg;base64,', report)) == 6 + 3


def test_it_needs_no_other_file_and_lets_nobody_in(report: str) -> None:
    assert not re.search(r'(src|href)="(?!data:)', report)
    assert "<three>" not in report
    assert "a <model>" not in report


def test_examples_are_spread_over_all() -> None:
    rows = [{"id": index} for index in range(100)]
    assert [row["id"] for row in spread(rows, 4)] == [0, 25, 50, 75]
    assert spread(rows[:2], 4) == rows[:2]


def test_every_column_of_the_paper_is_a_benchmark_and_janus_has_them_all() -> None:
    assert set(paper.COLUMNS) <= set(BENCHMARKS.names())
    assert set(paper.TABLE["Janus 1.3B"]) == set(paper.COLUMNS)
    pope, mme, coco = (BENCHMARKS.load(name).Benchmark for name in ("pope", "mme", "coco30k"))
    assert (shown(0.694, pope), shown(1338.04, mme), shown(8.534, coco)) == ("69.4", "1338.0", "8.53")
    assert shown(None, pope) == ""
