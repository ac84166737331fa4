"""What a run writes down, and how it goes on after a kill."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from janus.train.metrics import Display, MetricsFile, TensorBoard, flatten, read_metrics, summary

LINE = {
    "step": 20,
    "loss": {"all": 2.0, "text": 3.0, "generation": 1.0},
    "tokens": {"text": 30, "generation": 10},
    "speed": {"tokens_per_s": 45678.0, "seconds_left": 3725.0, "mfu": 0.456},
}


def test_lines_of_steps_to_be_done_again_go(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path, start_step=0)
    for step in (1, 2, 3, 4):
        first.write({"step": step})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    second = MetricsFile(tmp_path, start_step=3)
    second.write({"step": 4, "again": True})
    second.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1},
        {"step": 2},
        {"step": 3},
        {"step": 4, "again": True},
    ]


def test_a_new_run_has_no_lines(tmp_path: Path) -> None:
    MetricsFile(tmp_path, start_step=0).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path / "nowhere.jsonl") == []


def test_summary_names_losses_shares_speed_and_time() -> None:
    assert summary(LINE) == "loss 2.000 text 3.000 (75%) gen 1.000 (25%) 45,678 tok/s MFU 45.6%"
    text = io.StringIO()
    display = Display(Console(file=text, width=200), steps=100, start_step=0)
    display.line(LINE)
    display.close()
    assert text.getvalue() == f"step 20/100 {summary(LINE)} left 1:02:05\n"


def test_nested_numbers_are_flat_for_tensorboard(tmp_path: Path) -> None:
    assert flatten({"step": 1, "a": {"b": {"c": 2.0}, "d": 3}}) == {"step": 1, "a/b/c": 2.0, "a/d": 3}
    board = TensorBoard(tmp_path, start_step=0)
    board.write(LINE)
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "step" not in events.Tags()["scalars"]
    (event,) = events.Scalars("loss/generation")
    assert (event.step, event.value) == (20, 1.0)


def test_tensorboard_hides_steps_that_were_done_again(tmp_path: Path) -> None:
    """A run writes steps 1 to 5, is killed, and continues after its checkpoint of step 3."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, stop, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        board = TensorBoard(tmp_path, start_step=start)
        for step in range(start + 1, stop + 1):
            board.write({"step": step, "loss": {"all": loss}})
        board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss/all")]
    assert shown == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
