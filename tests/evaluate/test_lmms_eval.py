"""lmms-eval itself with our model. Its packages are many; in an environment of its own:

python3.11 -m venv FOLDER && FOLDER/bin/pip install lmms-eval==0.7.3 pytest -e .
FOLDER/bin/python -m pytest -m integration tests/evaluate/test_lmms_eval.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from janus.evaluate.draw import seed_of
from janus.model.checkpoints.model_folder import load_janus
from janus.model.inference.sampling import sample_images
from tests.evaluate.test_run import lines, main
from tests.evaluate.worlds import write_data, write_lines, write_model

pytestmark = pytest.mark.integration

POPE = """
task: pope_local
dataset_path: parquet
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.pope_doc_to_visual
doc_to_text: !function utils.pope_doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 4, temperature: 0, top_p: 0, num_beams: 1, do_sample: false}
process_results: !function utils.pope_process_results
metric_list:
  - {metric: pope_accuracy, aggregation: !function utils.pope_aggregate_accuracy, higher_is_better: true}
lmms_eval_specific_kwargs:
  default: {pre_prompt: "", post_prompt: "\\nAnswer the question using a single word or phrase."}
"""
DRAWING = """
task: draw_local
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_visual: !function drawing.nothing
doc_to_text: !function drawing.prompt
doc_to_target: prompt
generation_kwargs: {max_new_tokens: 64, temperature: 0}
process_results: !function drawing.score
metric_list:
  - {metric: drawn, aggregation: mean, higher_is_better: true}
"""
DRAWING_CODE = """
import json, os
def nothing(doc): return []
def prompt(doc, lmms_eval_specific_kwargs=None): return doc["prompt"]
def score(doc, results):
    (path,) = json.loads(results[0])["images"]
    return {"drawn": float(os.path.isfile(path))}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model, POPE's files, the same questions in the table of the hub, prompts, and both tasks."""
    folder = tmp_path_factory.mktemp("lmms")
    write_model(folder / "model")
    data = write_data(folder / "data")
    write_table(data, folder / "pope.parquet")
    write_lines(folder / "prompts.jsonl", [{"prompt": text} for text in ("a circle", "a red square", "two dogs")])
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "pope_local.yaml").write_text(POPE.replace("DATA", str(folder / "pope.parquet")))
    (tasks / "utils.py").write_text("from lmms_eval.tasks.pope.utils import *\n")
    (tasks / "draw_local.yaml").write_text(DRAWING.replace("DATA", str(folder / "prompts.jsonl")))
    (tasks / "drawing.py").write_text(DRAWING_CODE)
    return folder


def write_table(data: Path, path: Path) -> None:
    """POPE's questions as lmms-lab publishes them: a table with the pictures in it."""
    from datasets import Dataset, Features, Image, Value

    rows = []
    for file in sorted((data / "pope").glob("*.json")):
        for line in lines(file):
            picture = (data / "val2014" / line["image"]).read_bytes()
            rows.append(
                {
                    "question_id": str(len(rows)),
                    "question": line["text"],
                    "answer": line["label"],
                    "image_source": line["image"],
                    "image": {"bytes": picture, "path": None},
                    "category": file.stem.rpartition("_")[2],
                }
            )
    features = {name: Value("string") for name in rows[0]} | {"image": Image()}
    Dataset.from_list(rows, features=Features(features)).to_parquet(path)


def lmms_eval(world: Path, out: str, *words: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *start, "-m", "lmms_eval", "--include_path", str(world / "tasks"), *words]
    command += ["--model", "janus_forge", "--batch_size", "4", "--device", "cpu", "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(world / "cache"), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command += ["--output_path", str(world / out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=world)


def said(world: Path, out: str) -> dict[str, str]:
    """Document to answer, of what --log_samples wrote."""
    (path,) = (world / out).rglob("*_samples_*.jsonl")
    return {str(row["doc_id"]): row["filtered_resps"] for row in lines(path)}


@pytest.fixture(scope="module")
def expected(world: Path) -> dict[str, str]:
    """Row of the table to the answer of `python -m janus.evaluate`."""
    words = ["--model", world / "model", "--data", world / "data", "--out", world / "ours", "--benchmarks", "pope"]
    main([str(word) for word in [*words, "--batch-size", 4, "--device", "cpu"]])
    ours = {row["id"]: row["said"] for row in lines(world / "ours" / "pope" / "rows.jsonl")}
    table = [line for file in sorted((world / "data" / "pope").glob("*.json")) for line in lines(file)]
    return {str(index): ours[f"{line['image']} {line['text']}"] for index, line in enumerate(table)}


@pytest.mark.parametrize("processes", [1, 2])
def test_answers_on_pope_are_those_of_our_evaluation(world: Path, expected: dict[str, str], processes: int) -> None:
    out = f"pope-{processes}"
    arguments = f"pretrained={world / 'model'},dtype=float32"
    done = lmms_eval(world, out, "--tasks", "pope_local", "--model_args", arguments, processes=processes)
    assert list((world / out).rglob("*_samples_*.jsonl")), done.stdout[-2000:] + done.stderr[-2000:]
    found = said(world, out)
    assert found == expected
    assert len(set(found.values())) > 3


def test_drawn_pictures_have_a_seed_each_and_come_out_the_same_again(world: Path) -> None:
    arguments = f"pretrained={world / 'model'},mode=generation,output_dir={world / 'pictures'},cfg_scale=2,seed=5"
    words = ["--tasks", "draw_local", "--model_args", arguments]
    done = lmms_eval(world, "drawn", *words)
    assert list((world / "drawn").rglob("*_samples_*.jsonl")), done.stdout[-2000:] + done.stderr[-2000:]
    folder = world / "pictures" / "draw_local"
    paths = [folder / f"{index:05d}" / "samples" / "0000.png" for index in range(3)]
    prompts = [row["prompt"] for row in lines(world / "prompts.jsonl")]
    model, processor = load_janus(world / "model")
    seeds = [seed_of("draw_local", 5, index) for index in range(3)]
    images = sample_images(model, processor, prompts, template="chat", cfg_scale=2.0, seeds=seeds, batch_size=4)
    for path, image in zip(paths, images, strict=True):
        np.testing.assert_array_equal(np.asarray(PillowImage.open(path)), image)

    drawn, times = [path.read_bytes() for path in paths], [path.stat().st_mtime_ns for path in paths]
    lmms_eval(world, "again", *words)
    assert [path.stat().st_mtime_ns for path in paths] == times
    paths[0].unlink()
    lmms_eval(world, "missing", *words)  # its whole batch is drawn again
    assert [path.read_bytes() for path in paths] == drawn
    other = lmms_eval(world, "other", *words[:-1], arguments.replace("seed=5", "seed=6"))
    assert "sampling was" in other.stdout + other.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("mode=both", "mode=both: expected understanding or generation"),
        ("sed=1", "--model_args sed: janus_forge takes"),
    ],
)
def test_wrong_arguments_are_named(world: Path, arguments: str, complaint: str) -> None:
    done = lmms_eval(world, "x", "--tasks", "draw_local", "--model_args", f"pretrained={world / 'model'},{arguments}")
    assert complaint in done.stdout + done.stderr
