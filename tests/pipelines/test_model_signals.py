"""Signals with models, against the same models used by hand: tiny ones of random weights in the published layouts."""

from __future__ import annotations

import io
import itertools
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import ledger
from pipelines.build import build
from pipelines.filters import load_filter
from pipelines.models.clip import Clip
from pipelines.row import Row
from pipelines.signals import field_type, load_signal
from pipelines.steps.device import Device
from schemas.manifest import load_snapshot
from schemas.spec import Operations
from tests.pipelines.test_conditions import dropped, table
from tests.pipelines.world import folder_source, image_folder, picture, spec

CPU = Device("cpu", 16, 1)
LABELS = {"a watermark": "a photo with a watermark", "clean": "a photo"}


def png(seed: object, **size: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed, **size).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int) -> list[Row]:
    captions = [{"role": "caption", "text": f"picture number {n} " * (n + 1)} for n in range(count)]
    images = [{"bytes": png(n)} for n in range(count)]
    pairs = zip(captions, images, strict=True)
    return [Row("generation", bytes(16), "ok", [one], [other], max_pixels=10**6) for one, other in pairs]


def measured(name: str, options: dict[str, Any], of: list[Row]) -> list[Any]:
    signal = load_signal(name, options)
    model = signal.module.Model(signal.options, CPU)
    return list(model.measure([model.prepare(row) for row in of]))


@pytest.fixture(scope="module")
def features(toy_clip: dict[str, str]) -> np.ndarray:
    """float64[4, 16]: unit embeddings of four pictures by open_clip itself, one at a time."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms("toy-clip", pretrained=toy_clip["pretrained"])
    with torch.inference_mode():
        found = [model.eval().encode_image(preprocess(picture(n)).unsqueeze(0))[0].double().numpy() for n in range(4)]
    return np.stack([one / np.linalg.norm(one) for one in found])


def head(path: Path, *sizes: int, numbers: tuple[int, ...] | None = (0, 2, 4, 6, 7)) -> dict[str, np.ndarray]:
    """A head of random weights, saved as torch saves one."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for place, (width, height) in enumerate(itertools.pairwise(sizes)):
        prefix = "" if numbers is None else f"layers.{numbers[place]}."
        tensors[f"{prefix}weight"] = torch.randn(height, width, generator=generator)
        tensors[f"{prefix}bias"] = torch.randn(height, generator=generator)
    torch.save(tensors, path)
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


V2 = (16, 12, 8, 6, 4, 1)


def test_an_embedding_is_that_of_open_clip_as_float16(toy_clip: dict[str, str], features: np.ndarray) -> None:
    signal = load_signal("clip_embedding", toy_clip)
    assert str(signal.schema.field("vector").type) == "fixed_size_list<item: halffloat>[16]"
    vectors = np.stack([one["vector"] for one in measured("clip_embedding", toy_clip, rows(4))])
    assert vectors.dtype == np.float16
    np.testing.assert_allclose(vectors, features, atol=1e-3)
    assert field_type("clip_embedding.vector") is not None


@pytest.mark.parametrize(("sizes", "numbers"), [(V2, (0, 2, 4, 6, 7)), ((16, 1), None)], ids=["V2", "V1"])
def test_an_aesthetic_score_is_that_of_its_head_by_numpy(
    toy_clip: dict[str, str], features: np.ndarray, tmp_path: Path, sizes: tuple[int, ...], numbers: Any
) -> None:
    tensors = head(tmp_path / "head.pth", *sizes, numbers=numbers)
    expected = features
    for name in (name for name in tensors if name.endswith("weight")):
        expected = expected @ tensors[name].T + tensors[name.replace("weight", "bias")]
    found = measured("aesthetic", toy_clip | {"head": str(tmp_path / "head.pth")}, rows(4))
    np.testing.assert_allclose([one["score"] for one in found], expected[:, 0], atol=2e-3)


def test_a_head_that_does_not_fit_is_one_line_before_anything_is_done(toy_clip: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "head.pth"
    options = toy_clip | {"head": str(path)}

    def says() -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            load_signal("aesthetic", options).fingerprint()
        assert "\n" not in str(error.value)
        return str(error.value)

    assert says() == f"signals.aesthetic: head: {path}: not found"
    head(path, *V2, numbers=(0, 3, 6, 9, 11))  # with ReLUs between its layers
    assert "not the layers of a linear aesthetic head (found layers.0.weight [12, 16]" in says()
    head(path, 16, 3, numbers=None)
    assert "not the layers of a linear aesthetic head" in says()
    head(path, 24, 1, numbers=None)
    assert says().endswith("for embeddings of 24 numbers; those of the model have 16")
    torch.save({"weight": print}, path)
    assert "holds more than tensors, which is refused (weights_only)" in says()
    head(path, *V2)
    assert load_signal("aesthetic", options).fingerprint().keys() == {"model", "pretrained", "head"}


def test_zero_shot_is_cosine_and_softmax_by_label(toy_clip: dict[str, str], features: np.ndarray) -> None:
    import open_clip

    model = open_clip.create_model("toy-clip", pretrained=toy_clip["pretrained"]).eval()
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer("toy-clip")([*LABELS.values()])).double().numpy()
        scale = float(model.logit_scale.exp())
    cosines = features @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T
    powers = np.exp(scale * cosines)
    found = measured("zero_shot", toy_clip | {"labels": LABELS}, rows(4))
    for place, one in enumerate(found):
        assert [*one["cosine"]] == [*one["probability"]] == [*LABELS]
        np.testing.assert_allclose([*one["cosine"].values()], cosines[place], atol=1e-4)
        np.testing.assert_allclose([*one["probability"].values()], powers[place] / powers[place].sum(), atol=1e-3)


def make_classifier(folder: Path, kind: str, labels: list[str], **settings: Any) -> dict[str, Any]:
    """A classifier of transformers of random weights: options of its signal."""
    import transformers as hf

    torch.manual_seed(0)
    numbers = {name: number for number, name in enumerate(labels)}
    names: dict[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": numbers}
    small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16) | names | settings
    if kind == "image":
        model: Any = hf.ViTForImageClassification(hf.ViTConfig(image_size=32, patch_size=16, **small))
        hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    else:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "picture", "number", *map(str, range(10))]
        (folder / "vocab.txt").parent.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
        hf.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
        model = hf.BertForSequenceClassification(hf.BertConfig(vocab_size=20, max_position_embeddings=8, **small))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return {"model": str(folder)}


@pytest.mark.parametrize(("name", "labels"), [("nsfw", ["normal", "nsfw"]), ("watermark", ["watermark", "no", "text"])])
def test_a_picture_is_classified_as_transformers_does(tmp_path: Path, name: str, labels: list[str]) -> None:
    import transformers as hf

    options = make_classifier(tmp_path / "m", "image", labels)
    pipe = hf.pipeline("image-classification", model=str(tmp_path / "m"), device="cpu")
    expected = [{one["label"]: one["score"] for one in pipe(picture(n), top_k=9)} for n in range(4)]
    found = [one["score"] for one in measured(name, options, rows(4))]
    np.testing.assert_allclose(found, [one[name] for one in expected], atol=1e-4)
    assert len({*found}) == 4
    other = [one["score"] for one in measured(name, options | {"label": labels[1]}, rows(4))]
    np.testing.assert_allclose(other, [one[labels[1]] for one in expected], atol=1e-4)
    assert found == [measured(name, options, [row])[0]["score"] for row in rows(4)], "whatever the batch"


@pytest.mark.parametrize("settings", [{}, {"problem_type": "multi_label_classification"}])
def test_a_text_is_classified_as_transformers_does(tmp_path: Path, settings: dict[str, str]) -> None:
    import transformers as hf

    options = make_classifier(tmp_path / "m", "text", ["toxic", "insult", "threat"], **settings)
    pipe = hf.pipeline("text-classification", model=str(tmp_path / "m"), device="cpu")
    texts = [row.text for row in rows(4)]  # the last have more than the 8 tokens that the model takes
    activation = "sigmoid" if settings else "softmax"
    found = [one["score"] for one in measured("toxicity", options, rows(4))]
    for text, score in zip(texts, found, strict=True):
        answers = pipe([text], top_k=None, function_to_apply=activation, truncation=True, max_length=8)[0]
        assert score == pytest.approx({one["label"]: one["score"] for one in answers}["toxic"], abs=1e-4)
    assert found == [measured("toxicity", options, [row])[0]["score"] for row in rows(4)], "padding changes nothing"


def test_a_classifier_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    options = make_classifier(tmp_path / "m", "image", ["normal", "nsfw"])

    def says(changed: dict[str, Any]) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            load_signal("nsfw", changed).fingerprint()
        return str(error.value)

    assert says(options | {"label": "nfsw"}) == (
        "signals.nsfw: label: the model has no label 'nfsw' (did you mean nsfw?); there are: normal, nsfw"
    )
    assert says({"model": "/no/such"}) == "signals.nsfw: model: /no/such: no such folder"
    moved = shutil.copytree(tmp_path / "m", tmp_path / "moved")
    before = load_signal("nsfw", options).fingerprint()
    assert load_signal("nsfw", {"model": str(moved)}).fingerprint() == before
    (moved / "preprocessor_config.json").write_text("{}")
    assert load_signal("nsfw", {"model": str(moved)}).fingerprint() != before
    (moved / "model.safetensors").unlink()
    assert says({"model": str(moved)}) == f"signals.nsfw: model: {moved}: has no model.safetensors"


def test_the_filters_of_scores() -> None:
    for name, field in (("nsfw", "score"), ("watermark", "score"), ("toxicity", "score")):
        signals = table(**{f"{name}__{field}": [0.2, 0.7, 0.70001, None]})
        assert dropped(name, {"max": 0.7}, signals) == [False, False, True, False]
    signals = table(aesthetic__score=[4.9, 4.999, 5.0, None])
    assert dropped("aesthetic", {"min": 5}, signals) == [True, True, False, False]
    assert load_filter("zero_shot", {"max": {"a watermark": 0.5}}).reads == ("zero_shot.probability.a watermark",)


def test_signals_of_one_model_share_its_passes_and_a_threshold_measures_nothing(
    toy_clip: dict[str, str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    images, load = Clip.images, Clip.__init__

    def counting(self: Clip, pixels: Any) -> Any:
        if not hasattr(self._model, "counted"):
            encode = self._model.encode_image

            def counted(batch: Any, **rest: Any) -> Any:
                seen["pictures"] += len(batch)
                return encode(batch, **rest)

            self._model.encode_image = self._model.counted = counted
        return images(self, pixels)

    def loading(self: Clip, *arguments: Any) -> None:
        seen["models"] += 1
        load(self, *arguments)

    monkeypatch.setattr(Clip, "images", counting)
    monkeypatch.setattr(Clip, "__init__", loading)
    head(tmp_path / "head.pth", *V2)
    photos = image_folder(tmp_path / "photos", list(range(20)))
    settings: dict[str, Any] = {"caption_score": toy_clip, "zero_shot": toy_clip | {"labels": LABELS}}

    def run(least: float, **more: Any) -> tuple[dict[str, int], set[str]]:
        before = {*(tmp_path / "c" / "signals").rglob("*.arrow")}
        seen.clear()
        filters = {"where": {"keep": f"zero_shot.cosine.'a watermark' >= {least}"}}
        source = folder_source(photos, filters=filters, allow_empty=True)
        corpus_spec = spec(model, [source], signals=settings | more, dedup={"near_radius": None})
        made = build(corpus_spec, tmp_path / "c", Operations())
        new = {*(tmp_path / "c" / "signals").rglob("*.arrow")} - before
        return dict(made.funnel["photos"]), {path.parent.parent.name for path in new}

    funnel, new = run(-1)
    assert funnel == {"rows": 20, "kept": 20}
    assert {"zero_shot", "caption_score"} < new
    assert seen == {"models": 1, "pictures": 20}, "two signals, one model, each picture through it once"
    cosines: list[float] = []
    for entry in load_snapshot(tmp_path / "c").shards:
        layer = ledger.open_input(tmp_path / "c", entry.upstream["signals/zero_shot"])[1].table()
        cosines += [dict(one)["a watermark"] for one in layer["cosine"].to_pylist()]
    limit = sorted(cosines)[5]
    funnel, new = run(round(limit, 4))
    assert funnel == {"rows": 20, "condition": 5, "kept": 15}
    assert (new, seen) == (set(), {}), "another threshold measures nothing"
    funnel, new = run(round(limit, 4), aesthetic=toy_clip | {"head": str(tmp_path / "head.pth")})
    assert (new, seen) == ({"aesthetic"}, {"models": 1, "pictures": 20}), "a new signal measures itself alone"
