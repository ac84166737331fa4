from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from janus.evaluate import __main__ as command
from janus.evaluate import draw
from janus.evaluate.benchmarks import geneval, geneval_facebook
from janus.evaluate.convert_detector import CLASSES, SOURCE, UNUSED, convert, converted
from janus.evaluate.detectors import detector_name, mask2former
from janus.evaluate.geneval import read_prompts
from janus.evaluate.results import read_results
from tests.evaluate.openmmlab import FULL, Sizes, forward, random_state
from tests.evaluate.worlds import write_lines

SMALL = Sizes()


def small_model(seed: int = 0) -> Mask2FormerForUniversalSegmentation:
    """A converted checkpoint of the small sizes."""
    backbone = SwinConfig(
        embed_dim=SMALL.embed,
        depths=list(SMALL.depths),
        num_heads=list(SMALL.heads),
        window_size=SMALL.window,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=SMALL.hidden,
        mask_feature_size=SMALL.hidden,
        hidden_dim=SMALL.hidden,
        encoder_layers=SMALL.encoder_layers,
        encoder_feedforward_dim=SMALL.encoder_ffn,
        decoder_layers=SMALL.decoder_layers + 1,
        dim_feedforward=SMALL.decoder_ffn,
        num_queries=SMALL.queries,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )
    config.weights_from = SOURCE
    model = Mask2FormerForUniversalSegmentation(config).eval()
    loaded = model.load_state_dict(converted(random_state(SMALL, seed)), strict=False)
    assert set(loaded.missing_keys) == set(UNUSED)
    assert not loaded.unexpected_keys
    return model


@pytest.mark.parametrize("size", [(64, 96), (160, 128)])  # both have maps smaller than a window
def test_a_converted_checkpoint_computes_what_openmmlabs_layout_says(size: tuple[int, int]) -> None:
    model = small_model().double()
    pixels = torch.randn(3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = {name: one.double() if one.is_floating_point() else one for name, one in random_state(SMALL).items()}
    classes, masks = forward(state, SMALL, pixels)
    with torch.inference_mode():
        found = model(pixel_values=pixels[None])
    assert classes.std() > 0.5  # the comparison is of something
    assert masks.std() > 0.5
    torch.testing.assert_close(found.class_queries_logits[0], classes, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.masks_queries_logits[0], masks, atol=1e-5, rtol=1e-5)


def test_instances_are_those_of_openmmlabs_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way from picture to boxes, masks by numpy; 50 x 70 becomes 91 x 128, padded to 96 x 128."""
    monkeypatch.setattr(mask2former, "SHORT_SIDE", 96)
    monkeypatch.setattr(mask2former, "LONG_SIDE", 128)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    boxes, labels, scores, masks = mask2former.Mask2FormerDetector(small_model()).instances(image)
    assert masks.shape == (100, 50, 70)

    pixels = torch.from_numpy((np.round(_bilinear(image.astype(float), 91, 128)) - mask2former.MEAN) / mask2former.STD)
    padded = functional.pad(pixels.permute(2, 0, 1), (0, 0, 0, 5)).float()
    classes, logits = forward(random_state(SMALL), SMALL, padded)
    shares = classes.softmax(-1)[:, :-1].numpy()
    best = np.argsort(-shares, axis=None)[:100]
    expected = []
    for query, label in zip(*np.unravel_index(best, shares.shape), strict=True):
        large = _bilinear(logits[query].numpy().astype(float)[..., None], 96, 128)[:91, :128]
        mask = _bilinear(large, 50, 70)[..., 0]
        inside = mask > 0
        sure = shares[query, label] * (1 / (1 + np.exp(-mask[inside]))).mean() if inside.any() else 0.0
        rows, columns = np.nonzero(inside)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if inside.any() else (0, 0, 0, 0)
        expected.append((float(sure), int(label), *map(int, box), int(inside.sum())))
    got = [
        (float(score), int(label), *map(int, box), int(mask.sum()))
        for score, label, box, mask in zip(scores, labels, boxes, masks, strict=True)
    ]
    expected, got = sorted(expected, reverse=True), sorted(got, reverse=True)
    for one, other in zip(got, expected, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-4)
    same = sum(one[1:6] == other[1:6] and abs(one[6] - other[6]) <= 2 for one, other in zip(got, expected, strict=True))
    assert same >= 95  # near ties may change places, and cells at 0 their side


def _bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W, C] to [height, width, C], pixel centres at halves."""

    def weights(size: int, wanted: int) -> np.ndarray:
        at = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
        low = np.minimum(np.floor(at).astype(int), size - 1)
        matrix = np.zeros((wanted, size))
        matrix[np.arange(wanted), low] += 1 - (at - low)
        matrix[np.arange(wanted), np.minimum(low + 1, size - 1)] += at - low
        return matrix

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("hr,rcx,wc->hwx", rows, image, columns, optimize=True)


def test_colours_see_the_object_alone_before_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask over the left half of its box: the cut is red there, #999 to the right of it, and nothing else."""
    image = np.full((20, 30, 3), (0, 0, 255), dtype=np.uint8)
    image[4:10, 5:9] = (255, 0, 0)
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:10, 5:9] = True
    cut = np.asarray(mask2former._cut_out(Image.fromarray(image), (5, 4, 13, 10), mask))
    assert cut.shape == (6, 8, 3)
    assert (cut[:, :4] == (255, 0, 0)).all()
    assert (cut[:, 4:] == 0x99).all()


def test_all_classes_of_the_benchmark_are_the_detectors(shared_data: Path) -> None:
    prompts = read_prompts(shared_data / "benchmarks" / "geneval" / "prompts" / "evaluation_metadata.jsonl")
    assert {one["class"] for prompt in prompts for one in prompt.metadata["include"]} <= set(CLASSES)
    assert {one["color"] for prompt in prompts for one in prompt.metadata["include"] if "color" in one} <= set(
        mask2former.COLORS
    )
    assert len(set(CLASSES)) == 80


@pytest.fixture
def colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of a small CLIP in place of ViT-L/14, and small pictures in place of 800 pixels."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "colour-toy.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "colour-toy.json")
    torch.manual_seed(0)
    save_file(open_clip.create_model("colour-toy").state_dict(), tmp_path / "colours.safetensors")
    monkeypatch.setattr(mask2former, "COLOR_MODEL", "colour-toy")
    monkeypatch.setattr(mask2former, "SHORT_SIDE", 64)
    return tmp_path / "colours.safetensors"


@pytest.mark.parametrize("number", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_prompts_are_judged_end_to_end(
    number: int, tmp_path: Path, colors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ("single_object", "colors", "position", "counting")
    prompts: list[dict[str, Any]] = []
    for index in range(number):
        wanted: dict[str, Any] = {"class": CLASSES[index], "count": 1}
        if tasks[index % 4] == "colors":
            wanted["color"] = "red"
        prompts.append({"tag": tasks[index % 4], "prompt": f"a photo of a {CLASSES[index]}", "include": [wanted]})
        path = draw.path_of(tmp_path / "pictures", f"{index:05d}/0000")
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    metadata = write_lines(tmp_path / "prompts.jsonl", prompts)
    for seed, name in enumerate(("first", "second")):
        model = small_model(seed)
        model.class_predictor.weight.data *= 20  # random weights are sure of nothing
        model.save_pretrained(tmp_path / name)

    def run(name: str, *more: str) -> dict[str, Any]:
        words = ["--benchmarks", "geneval", "--geneval.metadata", metadata, "--geneval.detector", "mask2former"]
        words += [
            "--geneval.weights",
            tmp_path / name,
            "--geneval.color-weights",
            colors,
            "--out",
            tmp_path / f"out-{name}",
        ]
        words += [
            "--geneval.pictures",
            tmp_path / "pictures",
            "--geneval.images-per-prompt",
            1,
            "--device",
            "cpu",
            *more,
        ]
        monkeypatch.setattr(sys, "argv", ["", *map(str, words)])
        command.main()
        return read_results(tmp_path / f"out-{name}")

    first = run("first")["benchmarks"]["geneval"]
    assert first["protocol"].startswith("geneval, mask2former OpenMMLab ")
    rows = [json.loads(line) for line in (tmp_path / "out-first/geneval/rows.jsonl").read_text().splitlines()]
    assert len(rows) == number
    found = [one for row in rows for one in row["found"]]
    assert found
    assert {one["color"] for one in found} <= set(mask2former.COLORS)
    second = run("second", "--compare", str(tmp_path / "out-first"))
    assert second["comparisons"][str(tmp_path / "out-first")]["geneval"] == {"differs": ["protocol"]}


def test_facebooks_weights_judge_the_same_pictures(tmp_path: Path, colors: Path) -> None:
    """One set of pictures, two columns whose protocols differ; messages name the column's own options."""
    ours = geneval.Benchmark(detector="mask2former", weights=str(tmp_path / "a"), color_weights=str(colors))
    small_model(0).save_pretrained(tmp_path / "a")
    config = small_model(1)
    del config.config.weights_from
    config.save_pretrained(tmp_path / "facebook")
    theirs = geneval_facebook.Benchmark(weights=str(tmp_path / "facebook"), color_weights=str(colors))
    assert draw.folder_of(ours, tmp_path) == draw.folder_of(theirs, tmp_path)
    assert ours.images_per_prompt == theirs.images_per_prompt
    assert ours.judged_by().startswith("geneval, mask2former OpenMMLab ")
    assert theirs.judged_by().startswith("geneval, mask2former facebook ")
    with pytest.raises(FileNotFoundError, match=r"give --geneval-facebook\.metadata"):
        theirs.prompts(tmp_path)


def test_what_is_wrong_with_weights_is_one_line(tmp_path: Path, colors: Path) -> None:
    def complaint(*arguments: Any) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            mask2former.load("cpu", *map(str, arguments))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert r"needs weights (--geneval.weights)" in complaint("")
    assert "no such folder" in complaint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "config.json: not found" in complaint(tmp_path / "empty")
    (tmp_path / "empty/config.json").write_text('{"model_type": "janus"}')
    assert "model_type 'janus', expected 'mask2former'" in complaint(tmp_path / "empty")
    model = small_model()
    model.save_pretrained(tmp_path / "model")
    assert "no such file, and no tag" in complaint(tmp_path / "model", "colours.pt")
    state = {name: one for name, one in model.state_dict().items() if name != "class_predictor.weight"}
    model.save_pretrained(tmp_path / "lacking", state_dict=state)
    assert "the weights lack class_predictor.weight" in complaint(tmp_path / "lacking", colors)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    assert "not weights of colour-toy" in complaint(tmp_path / "model", tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="the detector shapes takes no weights"):
        detector_name("shapes", "x")


def test_what_is_wrong_with_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    def complaint(content: Any) -> str:
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ValueError, match=r"x\.pth: ") as caught:
            convert(tmp_path / "x.pth", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    assert "not a checkpoint of tensors" in complaint(Code())
    assert not (tmp_path / "ran").exists()
    assert "expected a state_dict of tensors" in complaint({"state_dict": {"a": 1}})
    assert "no tensor of Mask2Former" in complaint({"state_dict": {"backbone.other": torch.zeros(1)}})
    assert "not this detector (Swin-S, COCO)" in complaint({"state_dict": random_state(SMALL)})
    with pytest.raises(FileNotFoundError, match="no such file"):
        convert(tmp_path / "none.pth", tmp_path / "out")


@pytest.mark.slow
def test_the_published_size_is_converted_and_detects(tmp_path: Path) -> None:
    state = random_state(FULL)
    torch.save({"meta": {"epoch": 50}, "state_dict": state}, tmp_path / "openmmlab.pth")
    convert(tmp_path / "openmmlab.pth", tmp_path / "detector")
    with pytest.raises(FileExistsError, match="exists already"):
        convert(tmp_path / "openmmlab.pth", tmp_path / "detector")
    model = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "detector").eval()
    assert model.config.id2label[79] == "toothbrush"
    pixels = torch.randn(3, 256, 288, generator=torch.Generator().manual_seed(1))
    classes, masks = forward(state, FULL, pixels)
    with torch.inference_mode():
        found = model(pixel_values=pixels[None])
    # float32: a mask at the edge of 0.5 opens or closes a cell of the masked attention, for few queries.
    near = (found.class_queries_logits[0] - classes).abs().amax(1) < 0.01
    assert near.float().mean() > 0.9
    assert ((found.masks_queries_logits[0] - masks).abs().amax((1, 2)) < 0.05)[near].float().mean() > 0.9
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    boxes, _, _, found_masks = mask2former.Mask2FormerDetector(model).instances(picture)
    assert boxes.shape == (100, 4)
    assert found_masks.shape == (100, 96, 96)
