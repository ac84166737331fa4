"""What a run shows people."""

from __future__ import annotations

import io

from rich.console import Console

from janus.train.display import Display, summary

LINE = {
    "step": 20,
    "loss": {"all": 2.0, "text": 3.0, "generation": 1.0},
    "tokens": {"text": 30, "generation": 10},
    "speed": {"tokens_per_s": 45678.0, "seconds_left": 3725.0, "mfu": 0.456},
}


def test_summary_names_losses_shares_speed_and_time() -> None:
    assert summary(LINE) == "loss 2.000 text 3.000 (75%) gen 1.000 (25%) 45,678 tok/s MFU 45.6%"
    text = io.StringIO()
    display = Display(Console(file=text, width=200), steps=100, start_step=0)
    display.line(LINE)
    display.close()
    assert text.getvalue() == f"step 20/100 {summary(LINE)} left 1:02:05\n"
