"""DPG-Bench and GenEval 2: rules by hand, a judge of transformers with random weights, and an endpoint."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
)

from janus.evaluate import dpg
from janus.evaluate.benchmark import BENCHMARKS
from janus.evaluate.dpg import Proposition
from janus.evaluate.results import read_results
from janus.evaluate.soft_tifa import geometric_mean, spellings
from janus.evaluate.vqa import Local, vqa_name
from tests.evaluate.sets import noise, run, save
from tests.evaluate.test_run import content, dies_drawing, lines
from tests.evaluate.worlds import write_lines, write_model
from tests.model.toy_llava import write_llava
from tests.train.ranks import CONTEXT, run_ranks

HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n"
)
TABLE = (
    HEAD
    + """a,A red square.,,1,0,entity,whole,entity - whole (square),Is there red?
a,A red square.,,2,1,attribute,color,"attribute - color (square, red)",Is it red?
a,A red square.,,3,"1, 2",relation,spatial,relation - spatial (square),"Is red, perhaps, above green?"
b,"Green, and blue.",,1,0,entity,whole,entity - whole (field),Is there green?
b,"Green, and blue.",,2,0,entity,whole,entity - part (field),Is there blue?
"""
)
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def grid(*names: str) -> Image.Image:
    """Four plain pictures, two by two."""
    picture = Image.new("RGB", (32, 32))
    for place, name in enumerate(names):
        left, top = 16 * (place % 2), 16 * (place // 2)
        picture.paste(COLORS[name], (left, top, left + 16, top + 16))
    return picture


class Sees(BaseHTTPRequestHandler):
    """Says yes where the first colour of the question is that of the picture; of blue pictures it says nothing."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        shown, question = body["messages"][0]["content"]
        pixels = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/png;base64,"))
        picture = Image.open(io.BytesIO(pixels))
        name = next(name for name, color in COLORS.items() if picture.getpixel((8, 8)) == color)
        first = min((name for name in COLORS if name in question["text"]), key=question["text"].index)
        said = "hm" if name == "blue" else "Yes." if name == first else "no"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    Sees.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Sees)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both benchmarks' files, a judge and a toy Janus."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "data" / "dpg_bench").mkdir(parents=True)
    (folder / "data" / "dpg_bench" / "dpg_bench.csv").write_text(TABLE)
    write_lines(
        folder / "data" / "geneval2" / "geneval2_data.jsonl",
        [
            {
                "prompt": "four white cows", "atom_count": 3, "skills": ["count", "attribute", "object"],
                "vqa_list": [["How many cows are in the image?", "four"], ["Are the cows white?", "Yes"],
                             ["Are there any cows in the image?", "Yes"]],
            },
            {
                "prompt": "a dog", "atom_count": 1, "skills": ["object"],
                "vqa_list": [["Is there a dog?", "Yes"]],
            },
        ],
    )  # fmt: skip
    write_llava(folder / "judge")
    write_model(folder / "model")
    return folder


def test_a_question_counts_only_if_all_that_it_depends_on_do() -> None:
    chain = [Proposition(1, "", (), "x"), Proposition(2, "", (1,), "x"), Proposition(3, "", (2,), "x")]
    assert dpg.score(chain, [True, True, True]) == (1.0, [True, True, True])
    assert dpg.score(chain, [False, True, True]) == (0.0, [False, False, False])
    assert dpg.score(chain, [True, False, True]) == (pytest.approx(1 / 3), [True, False, False])
    # As in the script: one goes by what is known of its parents when it is looked at.
    assert dpg.score(chain[::-1], [True, True, False]) == (pytest.approx(1 / 3), [True, False, False])


def test_dpg_bench_by_hand_with_grids_of_others_and_an_endpoint(world: Path, endpoint: str) -> None:
    grids = save(world / "grids", {"a.png": grid("red", "green", "red", "blue"), "b.png": grid(*["green"] * 4)})
    judge = ["--dpgbench.judge-url", endpoint, "--dpgbench.judge-model", "sees"]
    out = run(world, "dpg", "dpgbench", "--dpgbench.pictures", grids, *judge, model=False)
    record = read_results(out)["benchmarks"]["dpgbench"]
    scores = {name: score["value"] for name, score in record["scores"].items()}
    # a: 3 of 3, 0 (all noes), 3 of 3, 0 (nothing read); b: 1 of 2 four times.
    assert [row["correct"] for row in lines(out / "dpgbench" / "rows.jsonl")] == [1, 0, 1, 0, 0.5, 0.5, 0.5, 0.5]
    assert scores["overall"] == pytest.approx((0.5 + 0.5) / 2)
    assert scores["entity"] == pytest.approx((2 + 4) / (4 + 8))
    assert scores["entity - whole"] == pytest.approx((2 + 4) / 8)
    assert scores["entity - part"] == 0
    assert scores["attribute"] == scores["attribute - color"] == 0.5
    assert scores["unreadable"] == pytest.approx(3 / 20)
    assert record["protocol"] == "dpg-bench, judged by sees"
    assert lines(out / "dpgbench" / "rows.jsonl")[1]["id"] == "a/0001"
    assert Sees.asked[0]["messages"][0]["content"][1]["text"] == "Is there red?\nAnswer yes or no."
    assert (out / "dpgbench" / "pictures.png").is_file()
    run(world, "dpg-blue", "dpgbench", "--dpgbench.pictures", save(world / "blue", {
        name: grid(*["blue"] * 4) for name in ("a.png", "b.png")
    }), *judge, model=False)  # fmt: skip
    (note, *_) = [n for n in read_results(world / "dpg-blue")["benchmarks"]["dpgbench"]["notes"] if "WARNING" in n]
    assert note == "WARNING: 20 of 20 answers of the judge could not be read as yes or no."


def test_drawn_pictures_are_laid_out_as_the_script_takes_them(world: Path) -> None:
    out = run(world, "drawn", "dpgbench", "--dpgbench.vqa-model", world / "judge")
    folder = out / "pictures" / "dpgbench"
    laid = np.asarray(Image.open(folder / "grids" / "b.png"))
    samples = [np.asarray(Image.open(folder / "00001" / "samples" / f"000{index}.png")) for index in range(4)]
    assert np.array_equal(laid, np.vstack([np.hstack(samples[:2]), np.hstack(samples[2:])]))
    again = run(
        world, "again", "dpgbench", "--dpgbench.vqa-model", world / "judge", "--dpgbench.pictures", folder / "grids",
        model=False,
    )  # fmt: skip
    said = [[row["said"] for row in lines(one / "dpgbench" / "rows.jsonl")] for one in (out, again)]
    assert said[0] == said[1]
    assert len({answer for answers in said[0] for answer in answers}) > 1


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("item_id,text\n", r"q.csv: no column 'proposition_id'"),
        (HEAD, "q.csv: no questions in this file"),
        (HEAD + "a,t,,one,0,,,x (y),q?\n", r"q.csv:2: expected numbers as proposition_id and dependency, found 'one'"),
        (HEAD + "a,t,,1,7,,,x (y),q?\n", r"q.csv: a: question 1 depends on 7, which is not there"),
        (HEAD + "../a,t,,1,0,,,x (y),q?\n", r"q.csv: item_id '../a': expected the name of a file"),
        (HEAD + "a,,,1,0,,,x (y),q?\n", r"q.csv: a: no prompt"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, table: str, complaint: str) -> None:
    (tmp_path / "q.csv").write_text(table)
    with pytest.raises(ValueError, match=complaint):
        dpg.read_items(tmp_path / "q.csv", None)


def test_prompts_come_from_their_files_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(TABLE)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"prompt {name}\n")
    assert [item.text for item in dpg.read_items(tmp_path / "q.csv", tmp_path)] == ["prompt a", "prompt b"]
    assert [item.text for item in dpg.read_items(tmp_path / "q.csv", None)] == ["A red square.", "Green, and blue."]
    (tmp_path / "b.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"b.txt: no such prompt"):
        dpg.read_items(tmp_path / "q.csv", tmp_path)


def test_probabilities_in_a_batch_are_those_of_one_question_alone(world: Path) -> None:
    picture = noise(5)
    questions = ["Is there a dog? Answer in one word.", "How many? Answer in one word."]
    forms = [["Yes", " yes"], ["four", "Four", " four", "4"]]
    found = Local(str(world / "judge"), "cpu").probabilities(picture, questions, forms)
    processor = AutoProcessor.from_pretrained(world / "judge")
    model = AutoModelForImageTextToText.from_pretrained(world / "judge").eval()
    for question, firsts, value in zip(questions, ({"Y", " "}, {"f", "F", " ", "4"}), found, strict=True):
        words = processor(text=f"<image_placeholder>{question}:", images=picture, return_tensors="pt")
        with torch.no_grad():
            shares = torch.softmax(model(**words).logits[0, -1], dim=-1)
        tokens = {processor.tokenizer.encode(first, add_special_tokens=False)[0] for first in firsts}
        assert value == pytest.approx(float(shares[sorted(tokens)].sum()), rel=1e-4)
        assert 0 < value < 1


def test_soft_tifa_by_hand() -> None:
    assert spellings("How many cows are in the image?", "four") == ["four", " four", "Four", " Four", "4", " 4"]
    assert spellings("Are the cows white?", "Yes") == ["yes", " yes", "Yes", " Yes"]
    assert geometric_mean([0.5, 0.125]) == pytest.approx(0.25)
    assert geometric_mean([0.0, 1.0]) == pytest.approx(1e-150)
    rows = [
        {"correct": 0.25, "probabilities": [0.5, 0.125], "skills": ["count", "object"], "atoms": 2, "unit": "0"},
        {"correct": 1.0, "probabilities": [1.0], "skills": ["object"], "atoms": 1, "unit": "1"},
    ]
    scores = {name: score.value for name, score in BENCHMARKS.load("geneval2").Benchmark().metrics(rows).items()}
    assert scores == {
        "soft_tifa_gm": pytest.approx(0.625), "soft_tifa_am": pytest.approx((0.3125 + 1) / 2),
        "count": 0.5, "object": pytest.approx(1.125 / 2), "1 atoms": 1.0, "2 atoms": 0.25,
    }  # fmt: skip


def test_geneval2_of_pictures_of_others(world: Path) -> None:
    folder = save(world / "theirs", {"x/cows.png": noise(1), "dog.png": noise(2)})
    paths = {"four white cows": "x/cows.png", "a dog": str(folder / "dog.png"), "another": "gone.png"}
    (folder / "paths.json").write_text(json.dumps(paths))
    options = ["--geneval2.vqa-model", world / "judge", "--geneval2.pictures", folder / "paths.json"]
    out = run(world, "geneval2", "geneval2", *options, model=False)
    rows = lines(out / "geneval2" / "rows.jsonl")
    assert [len(row["probabilities"]) for row in rows] == [3, 1]
    record = read_results(out)["benchmarks"]["geneval2"]
    assert record["scores"]["soft_tifa_gm"]["value"] == pytest.approx((rows[0]["correct"] + rows[1]["correct"]) / 2)
    assert record["protocol"].startswith("soft-tifa, judged by judge ")
    (folder / "paths.json").write_text(json.dumps({**paths, "a dog": "../../secret.png"}))
    with pytest.raises(ValueError, match=r"'a dog': ../../secret.png does not lie below "):
        run(world, "geneval2", "geneval2", *options, model=False)
    (folder / "paths.json").write_text(json.dumps({"a dog": "dog.png"}))
    with pytest.raises(ValueError, match="no path of a picture of 'four white cows'"):
        run(world, "geneval2", "geneval2", *options, model=False)


def test_one_judge_is_named(world: Path) -> None:
    for arguments, complaint in (
        (("", "", ""), "give one judge: --x.vqa-model, or --x.judge-url and --x.judge-model"),
        ((str(world / "judge"), "http://h/v1", "m"), "give one judge"),
        (("", "http://h/v1", ""), "one of them is missing"),
        (("", "h/v1", "m"), "expected an http or https address"),
    ):
        with pytest.raises(ValueError, match=complaint):
            vqa_name("--x", *arguments)
    shutil.copytree(world / "judge", world / "silent")
    (world / "silent" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="silent: no chat template in this folder"):
        Local(str(world / "silent"), "cpu")
    shutil.copytree(world / "judge", world / "other")
    (world / "other" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match="other: not an image-text model of transformers: "):
        Local(str(world / "other"), "cpu")
    with pytest.raises(ValueError, match=r"give --geneval2.vqa-model"):
        BENCHMARKS.load("geneval2").Benchmark().prompts(world / "data")


def ranked(world: str, out: str, options: list[str]) -> None:
    run(Path(world), out, "dpgbench", *options)


@pytest.mark.slow
def test_killed_or_in_two_processes_the_pictures_are_the_same(world: Path) -> None:
    words = ["--dpgbench.vqa-model", str(world / "judge")]
    whole = run(world, "undisturbed", "dpgbench", *words)
    killed = CONTEXT.Process(target=dies_drawing, args=(3, ranked, str(world), "killed", words))
    killed.start()
    killed.join()
    assert killed.exitcode == -9
    assert content(run(world, "killed", "dpgbench", *words)) == content(whole)
    run_ranks(2, ranked, str(world), "two", words)
    assert content(world / "two") == content(whole)
