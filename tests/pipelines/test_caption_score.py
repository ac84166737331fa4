"""Caption scores against open_clip used by hand, from a local JSON config and safetensors."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines import ledger
from pipelines.build import build
from pipelines.row import Row
from pipelines.signals import load_signal
from pipelines.signals.caption_score import Model, Options, fingerprint
from pipelines.steps.device import Device
from schemas.manifest import load_snapshot
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, picture, scores_by_hand, spec


def row(seed: object, caption: str) -> Row:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    message = {"role": "caption", "text": caption}
    return Row("generation", bytes(16), "ok", [message], [{"bytes": buffer.getvalue()}], max_pixels=10**6)


def scores(options: Options, rows: list[Row]) -> list[float]:
    """Together."""
    loaded = Model(options, Device("cpu", 16, 1))
    return [values["cosine"] for values in loaded.measure([loaded.prepare(row) for row in rows])]


def test_scores_are_cosines_and_thresholds_use_them(model: Path, toy_clip: dict[str, str], tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(20)))
    classes = image_folder(tmp_path / "classes", list(range(50, 54)))
    sources = [
        folder_source(photos, filters={"rank": {"by": "caption_score.cosine", "keep": 0.25}}),
        folder_source(classes, "classes", skip_signals=["caption_score"]),
    ]
    settings = spec(model, sources, signals={"caption_score": toy_clip}, dedup={"near_radius": None})
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
        if entry.source == "classes":
            assert "signals/caption_score" not in entry.upstream
            continue
        signals = ledger.open_input(corpus, entry.upstream["signals/caption_score"])[1].table().to_pylist()
        decisions = ledger.open_input(corpus, entry.upstream["decision"])[1].table().to_pylist()
        raw = ledger.open_input(corpus, entry.upstream["raw"])[1].table().to_pylist()
        for row, decision, original in zip(signals, decisions, raw, strict=True):
            caption = original["messages"][0]["text"]
            measured[caption] = row["cosine"]
            pairs.append((Image.open(io.BytesIO(original["images"][0]["bytes"])).convert("RGB"), caption))
            kept += [row["cosine"]] * (decision["reason"] is None)
    expected = scores_by_hand(toy_clip, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert list(measured.values()) == pytest.approx(expected, abs=1e-4)
    assert sorted(kept) == sorted(measured.values())[-5:]


def test_the_score_does_not_depend_on_the_batch(toy_clip: dict[str, str]) -> None:
    rows = [row(n, f"picture {n}") for n in range(9)]
    together = scores(Options(**toy_clip), rows)
    assert together == [scores(Options(**toy_clip), [one])[0] for one in rows]
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
def test_a_scorer_that_is_not_there_is_one_line(toy_clip: dict[str, str], change: dict[str, str], says: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=f"signals.caption_score: .*{says}"):
        load_signal("caption_score", toy_clip | change).fingerprint()
    assert load_signal("caption_score", toy_clip).fingerprint().keys() == {"model", "pretrained"}


def test_a_fingerprint_names_content_and_not_place(toy_clip: dict[str, str], tmp_path: Path) -> None:
    moved = {name: shutil.copy(path, tmp_path) for name, path in toy_clip.items()}
    assert fingerprint(Options(**moved)) == fingerprint(Options(**toy_clip))
    with Path(moved["pretrained"]).open("ab") as file:
        file.write(b"x")
    assert fingerprint(Options(**moved)) != fingerprint(Options(**toy_clip))


def test_places_do_not_enter_the_key_and_the_precision_does(toy_clip: dict[str, str], tmp_path: Path) -> None:
    from pipelines.steps.context import signal_spec

    moved = {name: shutil.copy(path, tmp_path) for name, path in toy_clip.items()}
    specs = [
        signal_spec(load_signal("caption_score", options))
        for options in (toy_clip, moved, toy_clip | {"precision": "bf16"})
    ]
    assert specs[0] == specs[1] != specs[2]
    assert [one.config for one in specs] == [{}, {}, {"precision": "bf16"}]


def test_bf16_scores_are_near_those_of_fp32_but_not_the_same(toy_clip: dict[str, str]) -> None:
    rows = [row(seed, f"picture number {seed}") for seed in range(8)]
    found = {precision: scores(Options(**toy_clip, precision=precision), rows) for precision in ("fp32", "bf16")}
    assert found["fp32"] != found["bf16"] == pytest.approx(found["fp32"], abs=0.05)
