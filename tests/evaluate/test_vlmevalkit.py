"""VLMEvalKit itself with our model. The kit is not on PyPI; ModelScope publishes its package as `ms-vlmeval`:

python3.11 -m venv FOLDER && FOLDER/bin/pip install ms-vlmeval==0.0.20 pytest -e .
FOLDER/bin/python -m pytest -m integration tests/evaluate/test_vlmevalkit.py
"""

from __future__ import annotations

import base64
import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from janus.evaluate.benchmarks.mmvet import SYSTEM
from tests.evaluate.test_run import lines, main
from tests.evaluate.worlds import write_data, write_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model, and the kit's tables of POPE and MMBench about plain pictures."""
    folder = tmp_path_factory.mktemp("kit")
    write_model(folder / "model")
    data = write_data(folder / "data")
    pictures = {path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(data.glob("*.png"))}
    asked = [line for file in sorted((data / "pope").glob("*_random.json")) for line in lines(file)]
    write_tsv(
        folder / "LMUData" / "POPE.tsv",
        [
            {
                "index": index,
                "image": pictures[line["image"]],
                "question": f"{line['text']} Please answer yes or no.",
                "answer": line["label"].capitalize(),
                "category": "random",
            }
            for index, line in enumerate(asked)
        ],
    )
    choices = [
        {
            "index": index,
            "image": picture,
            "question": f"What is picture {index}?",
            "hint": "Look at its colour." if index % 2 else "",
            "A": "a plain one",
            "B": "a photo",
            "C": "" if index == 2 else "nothing",
            "answer": "A",
            "category": "color",
            "l2-category": "perception",
            "split": "dev",
        }
        for index, picture in enumerate(pictures.values())
    ]
    for path in (folder / "LMUData" / "MMBench_DEV_EN.tsv", data / "mmbench" / "MMBench_DEV_EN.tsv"):
        write_tsv(path, choices)
    return folder


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def ours(world: Path) -> dict[str, dict[str, str]]:
    """The answers of `python -m janus.evaluate`, one question at a time as the kit asks."""
    words = ["--model", world / "model", "--data", world / "data", "--out", world / "ours"]
    words += ["--benchmarks", "pope", "mmbench", "--batch-size", 1, "--device", "cpu"]
    main([str(word) for word in words])
    found = {name: lines(world / "ours" / name / "rows.jsonl") for name in ("pope", "mmbench")}
    return {name: {row["id"]: row["said"] for row in rows} for name, rows in found.items()}


@pytest.mark.parametrize("dataset", ["POPE", "MMBench_DEV_EN"])
def test_the_kit_gets_the_answers_of_our_evaluation(
    world: Path, ours: dict[str, dict[str, str]], dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMUData", str(world / "LMUData"))
    from vlmeval import inference
    from vlmeval.dataset import image_base

    from janus.evaluate.harnesses.vlmevalkit import JanusForge

    # The tables here are not those whose sums the kit knows; without sums it reads what lies there.
    kind = next(one for one in image_base.ImageBaseDataset.__subclasses__() if dataset in one.DATASET_URL)
    monkeypatch.setattr(kind, "DATASET_MD5", {})
    data = kind(dataset)
    monkeypatch.setitem(inference.supported_VLM, "janus", partial(JanusForge, model_path=str(world / "model")))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    (world / "work").mkdir(exist_ok=True)
    out = str(world / f"{dataset}.pkl")
    inference.infer_data("janus", model_name="janus", work_dir=str(world / "work"), dataset=data, out_file=out)
    said = inference.load(out)
    if dataset == "POPE":
        asked = lines(world / "data" / "pope" / "coco_pope_random.json")
        expected = {index: ours["pope"][f"{line['image']} {line['text']}"] for index, line in enumerate(asked)}
    else:
        expected = {int(name): answer for name, answer in ours["mmbench"].items()}
    assert {int(index): answer for index, answer in said.items()} == expected
    assert len(set(said.values())) > 2


def test_pictures_stand_where_a_message_has_them_and_mmvet_has_its_system_prompt(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from janus.evaluate.harnesses import asking
    from janus.evaluate.harnesses.vlmevalkit import JanusForge

    model = JanusForge(str(world / "model"), device="cpu")
    seen: list[Any] = []

    def answers(subject: Any, conversations: Any, pictures: Any, *, on_answer: Any, **_: Any) -> None:
        seen.append(([(one.role, one.text) for one in conversations[0]], len(pictures(0))))
        on_answer(0, "said")

    monkeypatch.setattr(asking, "answers", answers)
    picture = {"type": "image", "value": str(world / "data" / "0.png")}
    message = [picture, {"type": "text", "value": "is it like "}, picture, {"type": "text", "value": "\nthis?"}]
    assert model.generate([dict(part) for part in message], dataset="MMVet") == "said"
    assert seen[0] == ([("system", SYSTEM), ("user", "<image>\nis it like <image>\nthis?")], 2)
    turns = [{"role": "user", "content": [picture]}, {"role": "assistant", "content": [{"type": "text", "value": "a"}]}]
    model.chat_inner([*turns, {"role": "user", "content": [{"type": "text", "value": "why?"}]}])
    assert seen[1] == ([("user", "<image>"), ("assistant", "a"), ("user", "why?")], 1)
