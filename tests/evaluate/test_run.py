"""Whole evaluations of a toy model, by the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from janus.evaluate import __main__ as command
from janus.evaluate import draw, store
from janus.evaluate.results import read_results
from janus.model.checkpoints.model_folder import load_janus, save_janus
from tests.evaluate.worlds import write_data, write_lines, write_model
from tests.train.ranks import CONTEXT, run_ranks

COUNTING = ("--benchmarks", "counting", "--counting.questions")
GENEVAL = ("--geneval.detector", "shapes", "--geneval.images-per-prompt", "2", "--cfg-scale", "2")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "model")
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """An evaluation that nothing disturbed."""
    return run(world, "out", "pope", "counting", "geneval", *GENEVAL)


def words(world: Path, out: str, *rest: str, batch_size: int = 4) -> list[str]:
    options = next((index for index, word in enumerate(rest) if word.startswith("-")), len(rest))
    return [
        *("--model", str(world / "model"), "--data", str(world / "data"), "--out", str(world / out)),
        *("--benchmarks", *rest[:options], "--batch-size", str(batch_size), "--device", "cpu", *rest[options:]),
    ]


def run(world: Path, out: str, *rest: str, **options: Any) -> Path:
    main(words(world, out, *rest, **options))
    return world / out


def main(arguments: list[str]) -> None:
    """The command; on one thread, for models this small only wait for a second one."""
    threads, before = torch.get_num_threads(), sys.argv
    torch.set_num_threads(1)
    sys.argv = ["janus.evaluate", *arguments]
    try:
        command.main()
    finally:
        torch.set_num_threads(threads)
        sys.argv = before


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def content(out: Path) -> dict[str, bytes]:
    """What an evaluation comes to: rows, pictures, scores."""
    files = [*out.rglob("rows.jsonl"), *out.rglob("*.png")]
    scores = json.dumps(read_results(out)["benchmarks"]).encode()
    return {str(path.relative_to(out)): path.read_bytes() for path in files} | {"scores": scores}


def test_scores_are_those_of_the_rows_beside_them(whole: Path) -> None:
    results = read_results(whole)["benchmarks"]
    pope = lines(whole / "pope" / "rows.jsonl")
    assert len(pope) == 6 * 5  # the questions of two splits, each asked once
    assert sum(len(row["splits"]) for row in pope) == 6 * 7
    right = sum(row["correct"] * len(row["splits"]) for row in pope)
    assert results["pope"]["scores"]["accuracy"]["value"] == pytest.approx(right / (6 * 7))
    assert results["pope"]["split"] == "coco_pope_popular, coco_pope_random"
    drawn = lines(whole / "geneval" / "rows.jsonl")
    assert [row["id"] for row in drawn] == [f"{p:05d}/{s:04d}" for p in range(3) for s in range(2)]
    assert results["geneval"]["scores"]["overall"]["value"] == pytest.approx(
        (np.mean([row["correct"] for row in drawn if row["category"] == "single_object"]) + drawn[2]["correct"] / 2
         + drawn[3]["correct"] / 2) / 2
    )  # fmt: skip


def test_pictures_lie_in_the_benchmarks_own_layout_and_each_has_its_seed(whole: Path) -> None:
    folder = whole / "pictures" / "geneval"
    about = json.loads((folder / "00002" / "metadata.jsonl").read_text())
    assert (about["tag"], about["prompt"]) == ("single_object", "a red square in a corner")
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("samples/*.png"))]
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 6
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_result_says_what_it_depends_on(whole: Path) -> None:
    results = read_results(whole)
    assert set(results["run"]) >= {"model", "date", "git", "device", "packages", "command"}
    counting, geneval = results["benchmarks"]["counting"], results["benchmarks"]["geneval"]
    assert counting["prompts"] == {"short": "{question}\nAnswer the question using a single word or phrase."}
    assert counting["prompts_from"] == {"short": "protocol"}
    assert (counting["protocol"], counting["dtype"], counting["max_new_tokens"]) == ("vlmevalkit", "float32", 4)
    assert geneval["sampling"]["images_per_prompt"] == 2
    assert len(geneval["model"]) == 64
    assert counting["whole"]


def test_pictures_drawn_elsewhere_are_judged_without_a_model(whole: Path, world: Path) -> None:
    arguments = words(world, "judged", "geneval", *GENEVAL, "--geneval.pictures", str(whole / "pictures" / "geneval"))
    main(arguments[2:])
    judged, drawn = (read_results(out)["benchmarks"]["geneval"] for out in (world / "judged", whole))
    assert judged["scores"] == drawn["scores"]
    assert judged["model"] is None
    assert "Pictures drawn elsewhere" in judged["notes"][0]


def dies(place: str, after: int, world: str, out: str) -> None:
    """An evaluation that kills its own process before it stores batch, or picture, number `after`."""
    left = after

    def mortal(function: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                if place == "add":  # with half a line on disk
                    with arguments[0]._path.open("a") as file:
                        file.write('{"id": "')
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments)

        return wrapped

    if place == "add":
        store.AnswerStore.add = mortal(store.AnswerStore.add)  # type: ignore[method-assign]
    else:
        draw._save = mortal(draw._save)
    run(Path(world), out, "pope", "counting", "geneval", *GENEVAL)


def dies_drawing(after: int, run: Any, *arguments: Any) -> None:
    """Call `run`, killing this process before it stores picture number `after`."""
    left, save = after, draw._save

    def mortal(*picture: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        save(*picture)

    draw._save = mortal
    run(*arguments)


@pytest.mark.parametrize(("place", "after"), [("add", 3), ("save", 3)])
def test_a_killed_evaluation_goes_on_to_the_same_result(world: Path, whole: Path, place: str, after: int) -> None:
    out = world / f"killed-{place}"
    process = CONTEXT.Process(target=dies, args=(place, after, str(world), out.name))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = sum(path.read_bytes().count(b"\n") for path in out.rglob("answers-*.jsonl"))
    assert 0 < before < 30 if place == "add" else before == 36
    assert len(list(out.rglob("0*/samples/*.png"))) == {"add": 0, "save": 3}[place]
    run(world, out.name, "pope", "counting", "geneval", *GENEVAL)
    assert content(out) == content(whole)


def test_a_batch_that_lacks_an_answer_is_asked_whole(world: Path, whole: Path) -> None:
    out = world / "torn"
    shutil.copytree(whole / "counting", out / "counting")
    stored = out / "counting" / "answers-0.jsonl"
    stored.write_text("".join(stored.read_text().splitlines(keepends=True)[:-1]))
    run(world, out.name, "counting")
    assert (out / "counting" / "rows.jsonl").read_bytes() == (whole / "counting" / "rows.jsonl").read_bytes()


def ranked(world: str, out: str) -> None:
    """One process of an evaluation of several."""
    run(Path(world), out, "pope", "counting", "geneval", *GENEVAL)


def test_two_processes_give_the_answers_of_one(world: Path, whole: Path) -> None:
    run_ranks(2, ranked, str(world), "ranks")
    out = world / "ranks"
    counts = [len(lines(out / "pope" / f"answers-{rank}.jsonl")) for rank in (0, 1)]
    assert sum(counts) == 30
    assert min(counts) > 8
    assert content(out) == content(whole)


def test_answers_of_two_runs_never_mix(world: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=r"out.counting holds what another run made: max_new_tokens was 4, now 3"):
        run(world, "out", "counting", "--max-new-tokens", "3")


def test_a_limited_run_says_that_it_is_not_the_benchmark(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(world, "limited", "counting", "--limit", "2")
    record = read_results(out)["benchmarks"]["counting"]
    assert (record["items"], record["whole"]) == (2, False)
    assert "Not the benchmark: 2 of 6 items." in record["notes"]
    assert "Not the benchmark" in capsys.readouterr().err


def test_unreadable_answers_are_warned_of(world: Path, whole: Path) -> None:
    (note,) = read_results(whole)["benchmarks"]["pope"]["notes"]
    assert note.startswith("WARNING: 30 of 30 answers could not be read, the first is ")
    assert "--prompt" in note


def test_a_model_brings_its_own_prompt_templates_and_the_command_line_comes_first(world: Path) -> None:
    write_model(world / "worded" / "model", prompts={"short": "Q: {question}"}, max_new_tokens=2)
    (world / "worded" / "data").symlink_to(world / "data")
    save_janus(world / "worded" / "model", *load_janus(world / "worded" / "model"))  # as training does
    record = read_results(run(world / "worded", "out", "counting"))["benchmarks"]["counting"]
    assert (record["prompts"], record["prompts_from"]) == ({"short": "Q: {question}"}, {"short": "model"})
    assert record["max_new_tokens"] == 2
    out = run(world / "worded", "other", "counting", "--prompt", "short={question}!", "--max-new-tokens", "3")
    record = read_results(out)["benchmarks"]["counting"]
    assert (record["prompts"], record["prompts_from"]) == ({"short": "{question}!"}, {"short": "command line"})


def test_a_model_may_be_a_hub_id_and_of_another_type(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world / "hub" / "models--someone--janus-small"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).symlink_to(world / "model")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(world / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    out = run(world, "of-hub", "counting", "--model", "someone/janus-small", "--dtype", "bfloat16")
    results = read_results(out)
    assert results["run"]["model"] == "someone/janus-small"
    assert results["benchmarks"]["counting"]["dtype"] == "bfloat16"
    with pytest.raises(FileNotFoundError, match="someone/other: no such folder, and not to be had from the hub"):
        run(world, "of-hub-2", "counting", "--model", "someone/other")


def test_a_baseline_is_compared_pair_by_pair(world: Path) -> None:
    write_model(world / "model-b", seed=1)
    out = run(world, "compared", "counting", "geneval", *GENEVAL, "--baseline", str(world / "model-b"))
    results = read_results(out)
    scores = results["comparisons"]["baseline"]["counting"]["scores"]
    other = read_results(out / "baseline")["benchmarks"]["counting"]["scores"]
    ours = results["benchmarks"]["counting"]["scores"]
    for name, found in scores.items():
        assert found["value"] == pytest.approx(ours[name]["value"] - other[name]["value"])
        assert 0 < found["p"] <= 1
    again = run(world, "compared", "counting", "--compare", str(world / "limited"))
    differs = read_results(again)["comparisons"][str(world / "limited")]["counting"]["differs"]
    assert differs == ["items"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--benchmarks"], "nothing to measure"),
        (["--benchmarks", "pop"], "no benchmark 'pop' (did you mean pope?)"),
        (["--benchmarks", "pope", "--data", "nowhere"], "pope: nowhere: no pope/*_pope_*.json or pope.jsonl there"),
        ([*COUNTING, "{bad}"], "counting: {bad}:2: not a counting question: no field 'label'"),
        ([*COUNTING, "{good}", "--prompt", "short=no mark"], "'no mark' has no {question} in it"),
        ([*COUNTING, "{good}", "--prompt", "long=x"], "--prompt long: no such template"),
        ([*COUNTING, "{good}", "--limit", "0"], "--limit 0: expected 1"),
        (["--benchmarks", "geneval"], "geneval: give --geneval.detector, one of: mask2former, shapes"),
        ([*COUNTING, "{good}"], "--model is missing"),
    ],
)
def test_user_errors_are_one_line_before_any_model_is_loaded(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_lines(tmp_path / "good.jsonl", [{"image": "x", "text": "?", "label": 1}])
    bad = write_lines(tmp_path / "bad.jsonl", [{"image": "x", "text": "?", "label": 1}, {"image": "x", "text": "?"}])

    def filled(word: str) -> str:
        return word.replace("{good}", str(good)).replace("{bad}", str(bad))

    monkeypatch.chdir(tmp_path)  # no workspace file says which model is meant
    monkeypatch.setattr(sys, "argv", ["", "--out", str(tmp_path / "out"), *map(filled, arguments)])
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        command.main()
    assert filled(complaint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_missing_names_its_question(world: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "q.jsonl", [{"image": "gone.png", "text": "how many?", "label": 1, "question_id": 7}])
    with pytest.raises(ValueError, match=r"question 7: .*gone.png: no such image"):
        run(world, "missing", "counting", "--counting.questions", str(tmp_path / "q.jsonl"))
