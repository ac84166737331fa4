from __future__ import annotations

import re

import numpy as np

from demo.report import sections as build
from demo.report.pictures import Reconstruction
from demo.report.scores import CaptionScores
from janus.report.html import page
from pipelines.funnel import Funnel


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_a_funnel_that_does_not_add_up_is_shown_as_such() -> None:
    shown = text(build.funnel_tables({"c": [Funnel("good", 3, 2, {"too_small": 1}, {}), Funnel("bad", 3, 1, {}, {})]}))
    assert "good 3 2 1 0 too_small 1 adds up" in shown
    assert "bad 3 1 0 0 does not add up" in shown


def test_the_histogram_says_the_auc_and_how_many_are_wrong() -> None:
    shown = text(build.caption_histogram(CaptionScores([0.5, 0.9], [0.1, 0.6]), 0.35))
    assert "2 of the web captions" in shown
    assert "probability 0.750 (AUC)" in shown
    assert "threshold 0.35" in shown


def test_reconstructions_carry_their_psnr() -> None:
    original = np.full((4, 4, 3), 100, np.uint8)
    pair = Reconstruction(original, original + 5)  # mean squared error 25: 10 log10(255^2 / 25) = 34.15 dB
    assert text(build.reconstructions([pair], 16)).endswith("34.2 dB")
    assert Reconstruction(original, original).psnr == float("inf")


def test_images_are_counted_by_task_and_framed_by_verdict() -> None:
    lines = [
        {"category": "counting", "prompt": "two < three", "correct": 1.0, "problem": ""},
        {"category": "counting", "prompt": "two", "correct": 0.0, "problem": "expected 2 circle, found 1"},
    ]
    html = build.generated([(line, np.zeros((8, 8, 3), np.uint8)) for line in lines])
    assert "counting: 1 of 2 right" in html
    assert re.findall(r'class="(right|wrong)"', html) == ["right", "wrong"]
    assert "two &lt; three" in html
    assert "expected 2 circle, found 1" in text(html)


def test_questions_are_about_different_pictures_and_not_always_the_first() -> None:
    lines = [
        {"pictures": [f"{picture}"], "question": f"{picture}-{place}"} for picture in range(9) for place in range(3)
    ]
    chosen = [line["question"] for line in build.one_per_picture(lines)]
    assert chosen == ["0-0", "1-1", "2-2", "3-0", "4-1", "5-2"]


def test_losses_of_tasks_that_a_stage_lacks_are_left_out() -> None:
    lines = [{"step": step, "loss": {"all": 1.0, "generation": 2.0 / step}} for step in range(1, 20)]
    html = page("t", build.loss_curves({"Stage 1": lines}))
    assert ">generation</text>" in html
    assert ">text</text>" not in html
    assert not re.search(r'(src|href)="(?!data:)', html)
