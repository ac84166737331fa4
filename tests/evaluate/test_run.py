from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.detector import ShapesDetector
from janus.evaluate import geneval
from janus.evaluate.questions import Question
from janus.evaluate.run import Sampling, Suite, evaluate
from tests.model.toy import toy_janus

PROMPT = geneval.Prompt(
    "single_object",
    "a circle",
    {"tag": "single_object", "prompt": "a circle", "include": [{"class": "circle", "count": 1}]},
)


class Grey:
    """A detector that finds a circle in images that are darker than half grey on average."""

    def detect(self, image: np.ndarray) -> list[geneval.Detection]:
        return [geneval.Detection("circle", (0, 0, 9, 9))] if image.mean() < 127.5 else []


@pytest.fixture(scope="module")
def janus():
    return toy_janus()


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    for index in range(3):
        Image.new("RGB", (64, 64), (80 * index, 40, 200)).save(tmp_path / f"{index}.png")
    asked = [Question(str(index), f"{index}.png", "is it?", "yes") for index in range(3)]
    return Suite(
        images=tmp_path,
        asked={"pope": asked, "counting": [Question("1", "0.png", "how many?", "2")]},
        forms={"pope": "{question}", "counting": "{question}"},
        prompts=[PROMPT],
        detector=Grey(),
        sampling=Sampling(cfg_scale=2.0, images_per_prompt=5),
        max_new_tokens=4,
        batch_size=2,
    )


def test_numbers_are_those_of_the_lines_written_beside_them(janus, suite: Suite, tmp_path: Path) -> None:
    results = evaluate(*janus, suite, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    pope = [json.loads(line) for line in (tmp_path / "out" / "pope.jsonl").read_text().splitlines()]
    assert [line["id"] for line in pope] == ["0", "1", "2"]
    assert results["pope"]["accuracy"] == sum(line["correct"] for line in pope) / 3
    assert results["counting"]["questions"] == 1
    images = np.load(tmp_path / "out" / "geneval.npy")
    lines = [json.loads(line) for line in (tmp_path / "out" / "geneval.jsonl").read_text().splitlines()]
    assert images.shape == (5, 64, 64, 3)
    assert [line["correct"] for line in lines] == [bool(image.mean() < 127.5) for image in images]
    assert results["geneval"]["overall"] == np.mean([line["correct"] for line in lines])


def test_the_result_does_not_depend_on_the_batch_size(janus, suite: Suite, tmp_path: Path) -> None:
    from dataclasses import replace

    evaluate(*janus, suite, tmp_path / "two")
    evaluate(*janus, replace(suite, batch_size=64), tmp_path / "all")
    for name in ("pope.jsonl", "counting.jsonl", "geneval.jsonl", "results.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    assert len(np.unique(np.load(tmp_path / "two" / "geneval.npy"), axis=0)) > 1  # each image has a seed of its own


def test_a_missing_image_is_named_with_its_question(janus, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.png: no such image \(question 1\)"):
        evaluate(*janus, suite, tmp_path / "out")


def test_the_shapes_detector_and_the_benchmarks_rules_agree_with_what_was_drawn() -> None:
    from demo.world.draw import draw
    from demo.world.scene import make_scene

    for index in range(60):
        scene = make_scene(3, "train", index)
        found = ShapesDetector().detect(draw(scene))
        assert sorted((one.color, one.name) for one in found) == sorted(item.pair for item in scene.objects)
        shape = scene.objects[0].shape
        count = sum(item.shape == shape for item in scene.objects)
        metadata = {
            "tag": "counting",
            "include": [{"class": shape, "count": count}],
            "exclude": [{"class": shape, "count": count + 1}],
        }
        assert geneval.judge(found, metadata) == (True, "")
        metadata = {**metadata, "include": [{"class": shape, "count": count + 1}], "exclude": []}
        assert not geneval.judge(found, metadata)[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to measure"),
        (["--pope", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--pope", "{pope}", "--pope-form", "no mark"], "has no {question}"),
    ],
)
def test_user_errors_are_one_line_before_any_model_is_loaded(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    pope = tmp_path / "pope.jsonl"
    pope.write_text('{"image": "x", "text": "?", "label": "yes"}\n')
    command = [sys.executable, "-m", "janus.evaluate", "--model", "nowhere", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *(word.replace("{pope}", str(pope)) for word in arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
