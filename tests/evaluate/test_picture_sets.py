"""CMMD, CLIP score, moments of features, and the benchmarks of whole sets. FID itself: test_fid.py."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop
from transformers import CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

from janus.evaluate import clip
from janus.evaluate.benchmark import BENCHMARKS
from janus.evaluate.clip import Clip, clip_name, cmmd
from janus.evaluate.fid import Moments, inception_name
from janus.evaluate.picture_sets import WHOLE, in_folder
from janus.evaluate.results import read_results
from janus.evaluate.squares import square
from tests.evaluate.sets import noise, run, save, write_sets
from tests.evaluate.test_run import content, dies_drawing, lines
from tests.train.ranks import CONTEXT, run_ranks


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def test_moments_are_those_of_all_features_whatever_the_batches() -> None:
    features = np.random.default_rng(0).standard_normal((30_000, 24)).astype(np.float32) * 0.1 + 3
    moments = Moments(24)
    for start in range(0, 30_000, 700):
        moments.add(features[start : start + 700])
    found = moments.statistics()
    assert np.allclose(found["mu"], features.astype(np.float64).mean(0), rtol=1e-12)
    assert np.allclose(found["sigma"], np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-12)
    first, second = Moments(24), Moments(24)
    first.add(features[:100])
    second.add(features[100:])
    first += second
    assert np.allclose(first.statistics()["sigma"], found["sigma"])
    alone = Moments(24)
    alone.add(features[:1])
    with pytest.raises(ValueError, match="FID of 1 pictures: expected two or more"):
        alone.statistics()


def test_what_a_measure_needs_is_said_in_one_line(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a model of type 'janus'; expected 'clip'"):
        clip_name(str(world / "model"))

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(ValueError, match=r"FID needs torch-fidelity: pip install 'janus-forge\[fid\]'"):
        inception_name(Path("weights.pth"))


def test_thirty_thousand_features_take_the_memory_of_a_batch() -> None:
    random, moments = np.random.default_rng(0), Moments(256)

    def peak(batches: int) -> int:
        tracemalloc.start()
        for _ in range(batches):
            moments.add(random.standard_normal((500, 256), dtype=np.float32))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few = peak(3)
    assert peak(60) < 1.1 * few
    assert moments.count == 31_500


def test_cmmd_is_the_mean_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    first, second = random.standard_normal((23, 6)), random.standard_normal((17, 6)) + 1

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[np.exp(-np.sum((x - y) ** 2) / 200) for y in b] for x in a]))

    expected = 1000 * (kernel(first, first) + kernel(second, second) - 2 * kernel(first, second))
    assert cmmd(first, second) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(clip, "_ROWS", 5)
    assert cmmd(first, second) == pytest.approx(expected, rel=1e-9)
    assert cmmd(first, first) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [(40, 53), (53, 40), (47, 48), (64, 64)])
def test_squares_are_cropped_as_torchvision_crops(size: tuple[int, int]) -> None:
    picture = noise(3, *size)
    expected = center_crop(picture, min(size)).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(square(picture, 32, Image.Resampling.LANCZOS)), np.asarray(expected))


def test_embeddings_are_those_of_transformers_own_processor(world: Path) -> None:
    folder = world / "clip-toy"
    pictures, texts = (
        [noise(1), noise(2)],
        ["a dog", "a text that is far too long for the twenty-four places there are"],
    )
    ours = Clip(str(folder), "cpu")
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")["pixel_values"]
    words = PreTrainedTokenizerFast.from_pretrained(folder)(
        texts, return_tensors="pt", padding=True, truncation=True, max_length=24
    )
    with torch.no_grad():
        outputs = model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
    assert np.allclose(ours.pictures(pictures), outputs.image_embeds.numpy(), atol=2e-3)  # they resize as floats
    assert np.allclose(ours.texts(texts), outputs.text_embeds.numpy(), atol=1e-5)
    assert not np.allclose(*ours.pictures(pictures), atol=0.05)


def benchmark(name: str, **options: Any) -> Any:
    return BENCHMARKS.load(name).Benchmark(**options)


def test_coco_takes_the_same_thirty_thousand_captions_everywhere(tmp_path: Path, world: Path) -> None:
    rows = [{"id": index, "image_id": 1, "caption": f"c{index}"} for index in range(30_500)]
    path, real = tmp_path / "captions.json", world / "data" / "coco" / "val2014"
    coco = benchmark("coco30k", captions=path, real=real, clip_model=str(world / "clip-toy"))

    def chosen(content: object) -> list[str]:
        path.write_text(json.dumps(content))
        return [prompt.text for prompt in coco.prompts(tmp_path)]

    first = chosen({"annotations": rows})
    assert len(set(first)) == 30_000
    assert chosen({"annotations": rows[::-1]}) == first
    assert first[:4] == ["c8521", "c14746", "c12142", "c11256"]  # the choice must never change
    with pytest.raises(ValueError, match="expected an object with a list 'annotations'"):
        chosen([])


def clips(world: Path, name: str) -> list[object]:
    return [f"--{name}.cmmd-model", world / "clip-toy", f"--{name}.clip-model", world / "clip-toy"]


def test_a_set_is_drawn_and_measured_by_clip(world: Path) -> None:
    out = run(world, "coco", "coco30k", *clips(world, "coco30k"))
    record = read_results(out)["benchmarks"]["coco30k"]
    rows = lines(out / "coco30k" / "rows.jsonl")
    assert [row["id"] for row in rows] == [*(f"{index:05d}/0000" for index in range(6)), WHOLE]
    judge = Clip(str(world / "clip-toy"), "cpu")
    drawn = [Image.open(out / "pictures" / "coco30k" / f"{index:05d}" / "samples" / "0000.png") for index in range(6)]
    real = [Image.open(path) for path in sorted((world / "data" / "coco" / "val2014").iterdir())]
    assert record["scores"]["cmmd"]["value"] == pytest.approx(cmmd(judge.pictures(drawn), judge.pictures(real)))
    cosines = (judge.pictures(drawn) * judge.texts([row["prompt"] for row in rows[:-1]])).sum(1)
    score = record["scores"]["clip_score"]
    assert score["value"] == pytest.approx(100 * cosines.mean(), rel=1e-5)
    assert score["low"] < score["value"] < score["high"]
    assert {row["prompt"] for row in rows[:-1]} == {f"thing {index}" for index in range(6)}
    assert record["split"] == "5 real pictures"
    assert record["protocol"].startswith("CMMD by clip-toy ")
    assert record["notes"] == ["Not the benchmark: 6 of 30000 items."]
    page = (out / "report.html").read_text()
    assert "<h3>Pictures</h3>" in page
    assert "not scored" in page  # FID, which had no weights


def test_pictures_of_others_are_measured_in_the_layouts_of_the_benchmarks(world: Path) -> None:
    drawn = save(world / "gigagan", {f"fake_images/{index}.png": noise(index) for index in (0, 1, 2, 10)})
    (drawn / "captions.txt").write_text("zero\none\ntwo\nten\n")
    options = ["--coco30k.pictures", drawn]
    out = run(world, "theirs", "coco30k", *clips(world, "coco30k"), *options, model=False)
    rows = lines(out / "coco30k" / "rows.jsonl")[:-1]
    assert [(row["id"], row["prompt"]) for row in rows] == [
        ("fake_images/0.png", "zero"), ("fake_images/1.png", "one"), ("fake_images/2.png", "two"),
        ("fake_images/10.png", "ten"),
    ]  # fmt: skip
    (drawn / "captions.txt").write_text("zero\n")
    with pytest.raises(ValueError, match=r"captions.txt: 1 lines for 4 pictures"):
        run(world, "theirs", "coco30k", *clips(world, "coco30k"), *options, model=False)

    real = world / "data" / "mjhq30k" / "mjhq30k_imgs"
    out = run(world, "mj", "mjhq30k", *clips(world, "mjhq30k"), "--mjhq30k.pictures", real, model=False)
    scores = read_results(out)["benchmarks"]["mjhq30k"]["scores"]
    assert scores["cmmd"]["value"] == pytest.approx(0, abs=1e-9)
    assert lines(out / "mjhq30k" / "rows.jsonl")[3]["id"] == "art/art0.jpg"
    shutil.copytree(real, world / "fewer")
    (world / "fewer" / "art" / "art1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"mjhq30k: .*art/art1: no such picture"):
        run(world, "mj2", "mjhq30k", *clips(world, "mjhq30k"), "--mjhq30k.pictures", world / "fewer", model=False)


def test_what_is_missing_is_said_before_anything_is_drawn(world: Path, tmp_path: Path) -> None:
    data = world / "data"
    with pytest.raises(
        ValueError, match=r"give --coco30k.inception \(FID\), --coco30k.cmmd-model or --coco30k.clip-mod"
    ):
        benchmark("coco30k").prompts(data)
    with pytest.raises(FileNotFoundError, match=r"no folder coco/val2014 or val2014 there; give --coco30k.real"):
        benchmark("coco30k", clip_model=str(world / "clip-toy")).prompts(tmp_path)
    (tmp_path / "meta_data.json").write_text(json.dumps({"../x": {"category": "art", "prompt": "p"}}))
    with pytest.raises(ValueError, match=r"meta_data.json:../x: category 'art': expected category and id to be names"):
        benchmark(
            "mjhq30k",
            metadata=tmp_path / "meta_data.json",
            real=data / "mjhq30k" / "mjhq30k_imgs",
            clip_model=str(world / "clip-toy"),
        ).prompts(data)
    with pytest.raises(FileNotFoundError, match=r"no pictures \(.jpg, .jpeg, .png, .webp\) there; give --x"):
        in_folder(tmp_path, "--x")


def ranked(world: str, out: str, options: list[str]) -> None:
    run(Path(world), out, "coco30k", *options)


@pytest.mark.slow
def test_killed_or_in_two_processes_a_set_comes_to_the_same(world: Path) -> None:
    options = clips(world, "coco30k")
    words = [str(word) for word in options]
    whole = run(world, "undisturbed", "coco30k", *options)
    killed = CONTEXT.Process(target=dies_drawing, args=(3, ranked, str(world), "killed", words))
    killed.start()
    killed.join()
    assert killed.exitcode == -9
    assert len(list((world / "killed").rglob("samples/*.png"))) == 3
    assert content(run(world, "killed", "coco30k", *options)) == content(whole)
    run_ranks(2, ranked, str(world), "two", words)
    assert content(world / "two") == content(whole)
