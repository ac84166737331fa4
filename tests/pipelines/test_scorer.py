"""Caption scores against open_clip used by hand, from a local JSON config and safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines import ledger
from pipelines.build import build
from pipelines.steps.device import Device
from pipelines.steps.scorer import CaptionScorer, check, fingerprint
from schemas.manifest import load_snapshot
from schemas.spec import Operations, Scorer
from tests.pipelines.world import TOY_CLIP, folder_source, image_folder, picture, spec


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / "toy-clip.json").write_text(json.dumps(TOY_CLIP))
    open_clip.add_model_config(folder / "toy-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("toy-clip")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "w.safetensors")
    return {"model": str(folder / "toy-clip.json"), "pretrained": str(folder / "w.safetensors")}


def scores_by_hand(scorer: dict[str, str], images: list[Any], captions: list[str]) -> list[float]:
    """One pair at a time."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms("toy-clip", pretrained=scorer["pretrained"])
    tokenize = open_clip.get_tokenizer("toy-clip")
    values = []
    with torch.inference_mode():
        for image, caption in zip(images, captions, strict=True):
            one = model.eval().encode_image(preprocess(image).unsqueeze(0))[0]
            other = model.encode_text(tokenize([caption]))[0]
            values.append(torch.nn.functional.cosine_similarity(one, other, dim=0).item())
    return values


def test_scores_are_cosines_and_thresholds_use_them(model: Path, scorer: dict[str, str], tmp_path: Path) -> None:
    import io

    from PIL import Image

    photos = image_folder(tmp_path / "photos", list(range(20)))
    classes = image_folder(tmp_path / "classes", list(range(50, 54)))
    sources = [
        folder_source(photos, filters={"keep_top": 0.25}),
        folder_source(classes, "classes", score=False),
    ]
    models = {"janus": str(model), "scorer": scorer}
    settings = spec(model, sources, models=models, dedup={"near_radius": None})
    corpus = tmp_path / "c"
    snapshot = build(settings, corpus, Operations())
    assert snapshot.funnel == {
        "photos": {"rows": 20, "kept": 5, "score_rank": 15},
        "classes": {"rows": 4, "kept": 4},
    }
    measured: dict[str, float] = {}
    kept: list[float] = []
    pairs: list[tuple[Any, str]] = []
    for entry in load_snapshot(corpus).shards:
        signals = ledger.open_input(corpus, entry.upstream["signals"])[1].table().to_pylist()
        decisions = ledger.open_input(corpus, entry.upstream["decision"])[1].table().to_pylist()
        raw = ledger.open_input(corpus, entry.upstream["raw"])[1].table().to_pylist()
        for row, decision, original in zip(signals, decisions, raw, strict=True):
            if entry.source == "classes":
                assert row["caption_score"] is None
                continue
            caption = original["messages"][0]["text"]
            measured[caption] = row["caption_score"]
            pairs.append((Image.open(io.BytesIO(original["images"][0]["bytes"])).convert("RGB"), caption))
            kept += [row["caption_score"]] * (decision["reason"] is None)
    expected = scores_by_hand(scorer, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert list(measured.values()) == pytest.approx(expected, abs=1e-4)
    assert sorted(kept) == sorted(measured.values())[-5:]


def test_the_score_does_not_depend_on_the_batch(scorer: dict[str, str]) -> None:
    loaded = CaptionScorer(Scorer(**scorer), Device("cpu", 16, 1))
    pixels = [loaded.preprocess(picture(n)) for n in range(9)]
    captions = [f"picture {n}" for n in range(9)]
    together = loaded.scores(pixels, captions)
    alone = [loaded.scores([p], [c])[0] for p, c in zip(pixels, captions, strict=True)]
    assert together == alone
    assert all(value == round(value, 4) for value in together)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "ViT-Q-99"}, "open_clip has no architecture 'ViT-Q-99'"),
        ({"model": "ViT-B-32", "pretrained": "nope"}, "'nope' is no local file and no open_clip tag of ViT-B-32"),
        ({"pretrained": "/no/such.safetensors"}, "/no/such.safetensors: no such file"),
        ({"model": "/no/such.json"}, "/no/such.json: no such file"),
    ],
)
def test_a_scorer_that_is_not_there_is_one_line(scorer: dict[str, str], change: dict[str, str], says: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        check(Scorer(**(scorer | change)))
    check(Scorer(**scorer))


def test_a_fingerprint_names_content_and_not_place(scorer: dict[str, str], tmp_path: Path) -> None:
    import shutil

    from pipelines.steps.scorer import fingerprint

    moved = {name: shutil.copy(path, tmp_path) for name, path in scorer.items()}
    assert fingerprint(Scorer(**moved)) == fingerprint(Scorer(**scorer))
    with Path(moved["pretrained"]).open("ab") as file:
        file.write(b"x")
    assert fingerprint(Scorer(**moved)) != fingerprint(Scorer(**scorer))


def test_another_precision_is_another_scorer(scorer: dict[str, str]) -> None:
    assert fingerprint(Scorer(**scorer)) != fingerprint(Scorer(**scorer, precision="bf16"))


def test_bf16_scores_are_near_those_of_fp32_but_not_the_same(scorer: dict[str, str]) -> None:
    captions = [f"picture number {number}" for number in range(8)]
    found = {}
    for precision in ("fp32", "bf16"):
        loaded = CaptionScorer(Scorer(**scorer, precision=precision), Device("cpu", 16, 1))
        found[precision] = loaded.scores([loaded.preprocess(picture(seed)) for seed in range(8)], captions)
    assert found["fp32"] != found["bf16"] == pytest.approx(found["fp32"], abs=0.05)
