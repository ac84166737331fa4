"""`make gpu`: goes on where it was cut off, keeps to its time, and ends in tables; on a CPU, at tiny size."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import gpu, train_gpu
from benchmarks.training import Measured
from janus.cli import UserError

MEASURED = Measured([0.5, 0.5], [1.0, 1.0], [6.0, 5.0], tokens=1000, documents=10, flops=4e13, peak_bytes=3 * 2**30)


def ignore(line: str = "") -> None:
    """Nothing to save or say."""


def results(**steps: gpu.Found) -> gpu.Found:
    return {
        "device": "Some GPU",
        "hardware": "Some GPU, 8 threads, torch 2",
        "date": "2026-01-02",
        "size": "full",
        "revision": "abc123",
        "peak_flops": 1e14,
        "train": ["--steps=6"],
        "steps": steps,
    }


def test_what_was_cut_off_goes_on_with_what_failed_or_was_not_reached() -> None:
    ran: list[str] = []
    broken = True

    def make(name: str) -> gpu.Step:
        def work(seconds: float) -> gpu.Found:
            ran.append(name)
            if name == "b" and broken:
                raise RuntimeError("no room")
            return {"lines": [name]}

        return gpu.Step("Things", name, work)

    found, todo = results(), [make(name) for name in "abc"]
    assert gpu.run_steps(todo, found, ignore, 60, ignore) == ["Things: b: no room"]
    assert found["steps"]["Things: b"]["error"] == "no room"
    broken = False
    assert gpu.run_steps(todo, found, ignore, 60, ignore) == []
    assert ran == ["a", "b", "c", "b"]
    assert [step["lines"] for step in found["steps"].values()] == [["a"], ["b"], ["c"]]


def test_no_step_begins_when_the_time_is_over() -> None:
    step = gpu.Step("Things", "a", lambda seconds: pytest.fail("ran"))
    (line,) = gpu.run_steps([step], results(), ignore, 0, ignore)
    assert line == "Things: a: left out, the time is over; the same command continues"


def test_a_program_that_hangs_or_fails_is_one_line() -> None:
    with pytest.raises(RuntimeError, match=r"^still running after 0 s$"):
        gpu.printed(["-c", "import time; time.sleep(60)"], 0.2)
    with pytest.raises(RuntimeError, match=r"^ValueError: no such thing$"):
        gpu.printed(["-c", "raise ValueError('no such thing')"], 60)


def test_every_number_stands_under_its_hardware(tmp_path: Path) -> None:
    best, trainer = train_gpu.BEST.name, f"{train_gpu.PART}: `Trainer`"
    half = asdict(MEASURED) | {"seconds": [1.0, 1.0]}
    steps = {
        "Training: stage 2, best": {"figures": [[best, asdict(MEASURED)]]},
        "Training: stage 2, first": {"figures": [[train_gpu.VARIANTS[0].name, half]]},
        "Training: stage 3, best": {"figures": [[best, "out of memory"]]},
        "Training beside Trainer: stage 2": {
            "figures": [[trainer, half], [f"{train_gpu.PART}: ours", asdict(MEASURED)]]
        },
        "Sampling: beside transformers": {"lines": ["bf16", "| a | b |", "|---|---|", "| 1 | 2 |"]},
        "Loader: made-up pictures": {"error": "needs something"},
    }
    (tmp_path / "some-gpu-2026-01-02.json").write_text(json.dumps(results(**steps)))
    page = gpu.page(tmp_path)
    assert page.index("Some GPU, 8 threads, torch 2; revision abc123") < page.index("| stage |")
    table = [line for line in page.splitlines() if re.match(r"\| [23] \|", line)]
    assert table == [
        f"| 2 | {train_gpu.VARIANTS[0].name} | 1,000 | 40.0% | 3.0 | 1.00 |",
        f"| 2 | {best} | 2,000 | 80.0% | 3.0 | 2.00 |",
        f"| 3 | {best} | out of memory | | | |",
        f"| 2 | {trainer} | 1,000 | 40.0% | 3.0 | 1.00 |",
        f"| 2 | {train_gpu.PART}: ours | 2,000 | 80.0% | 3.0 | 2.00 |",
    ]
    assert page.count("10 documents a step, first loss 6.0000") == 2
    assert "\nbf16\n\n| a | b |\n|---|---|\n| 1 | 2 |\n" in page
    assert "Loader: made-up pictures: failed: needs something" in page


def test_the_page_is_what_the_results_say() -> None:
    folder = gpu.ROOT / "benchmarks"
    assert (folder / "gpu.md").read_text() == gpu.page(folder / "results")


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a CPU would take days at full size: give --size tiny"):
        gpu.main(["--device", "cpu"])
    path = tmp_path / "some-gpu-2026-01-02.json"
    path.write_text(json.dumps(results()))
    with pytest.raises(UserError, match="its revision is abc123, and here it is abc124: move that file away"):
        gpu.open_results(path, {"revision": "abc124"})


@pytest.mark.slow
def test_every_step_runs_at_tiny_size_and_ends_in_its_table(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs benchmarks/requirements-train.txt")
    arguments = ["--device=cpu", "--size=tiny", "--minutes=60", f"--out={tmp_path}"]
    if gpu.LOADER_PYTHON.is_file():
        gpu.main(arguments)
    else:
        with pytest.raises(UserError, match=r"^Loader: made-up pictures: needs \.venv-loader.*$"):
            gpu.main(arguments)
    page = (tmp_path / "gpu.md").read_text()
    assert len(re.findall(r"^\| [23] \| [^|]+ \| [\d,]+ \|", page, re.MULTILINE)) == 2 * (len(train_gpu.VARIANTS) + 2)
    assert re.search(r"^\d+ skipped", page, re.MULTILINE)
    assert re.search(r"^\| 2 \| [\d.]+ \| [\d.]+ \|", page, re.MULTILINE), "sampling, batch 2"
    assert "| scores, 224 px | fp32 | 16 |" in page
    assert "at tiny size" in page.lower()
    before = page
    if gpu.LOADER_PYTHON.is_file():
        gpu.main(arguments)
        assert (tmp_path / "gpu.md").read_text() == before, "nothing is run twice"
