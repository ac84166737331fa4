"""Whole builds: the funnel, the same bytes whatever the order, refresh, changed specs, garbage."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import pipelines.steps.plan
from pipelines import ledger
from pipelines.build import STEPS, build, finish, opened
from pipelines.engine import Progress
from pipelines.selection import ALWAYS
from pipelines.steps.collect_garbage import collect_garbage
from pipelines.verify import verify
from schemas.digest import canonical_json
from schemas.layers import LAYERS, ROWS
from schemas.manifest import ShardManifest, Snapshot, load_snapshot
from schemas.reasons import Drop, Outcome
from schemas.sample import TASKS
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec

MEASURED = [f"signals/{name}" for name in ALWAYS]
ALL_LAYERS = ["rows", "raw", *MEASURED, "decision", "train"]


def world(root: Path) -> list[dict[str, Any]]:
    """Four sources: with duplicates within and across, small and damaged pictures, a missing file, text."""
    photos = image_folder(root / "photos", list(range(20)))
    with (photos / "captions.jsonl").open("a") as captions:
        shutil.copy(photos / "3.jpg", photos / "copy.jpg")
        picture(4).resize((60, 50)).save(photos / "near.jpg")
        picture("small", 12, 12).save(photos / "small.jpg")
        (photos / "cut.jpg").write_bytes((photos / "5.jpg").read_bytes()[:400])
        (photos / "page.jpg").write_text("<html>not found</html>")
        for name in ("copy", "near", "small", "cut", "page", "gone"):
            captions.write(f'{{"image": "{name}.jpg", "caption": "One more, called {name}."}}\n')
    image_folder(root / "more", [*range(15, 20), *range(30, 36)])
    image_folder(root / "dense", [*range(10, 24)], caption="A picture. " + "Very long. " * 20)
    texts = [f'{{"text": "Document number {n} is about colours."}}' for n in [*range(9), 3]]
    (root / "text").mkdir()
    (root / "text/pages.jsonl").write_text("\n".join(texts) + "\n")
    return [
        folder_source(root / "photos", filters={"size": {"min_side": 20}}, group="imagenet"),
        folder_source(root / "more", "more", licence="CC0-1.0"),
        folder_source(root / "dense", "dense", "understanding", template="describe"),
        {"name": "text", "format": "text", "path": str(root / "text"), "task": "text"},
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return world(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def corpus(sources: list[dict[str, Any]], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed build. Tests that change it copy it."""
    folder = tmp_path_factory.mktemp("corpus") / "c"
    build(spec(model, sources), folder, Operations())
    return folder


def rows_of(corpus: Path, snapshot: Snapshot, layer: str) -> list[dict[str, Any]]:
    """All rows of a layer, each with its source."""
    rows = []
    for entry in snapshot.shards:
        path = entry.path if layer == "train" else entry.upstream[layer]
        table = ledger.open_input(corpus, path)[1].table()
        rows += [{"source": entry.source, **row} for row in table.to_pylist()]
    return rows


def test_the_funnel_adds_up_and_names_every_fate(corpus: Path) -> None:
    snapshot = load_snapshot(corpus)
    assert snapshot.funnel == {
        "photos": {
            "rows": 26,
            Drop.KEPT: 15,
            "too_small": 1,
            Drop.DUPLICATE_EXACT: 6,  # the copy of picture 3, and pictures 15 to 19, which `more` has too
            Drop.DUPLICATE_NEAR: 1,  # picture 4, of which `near` is a larger version
            Outcome.BAD_IMAGE: 1,
            Outcome.NOT_AN_IMAGE: 1,
            Outcome.MISSING_FILE: 1,
        },
        "more": {"rows": 11, Drop.KEPT: 11},
        "dense": {"rows": 14, Drop.KEPT: 14},  # pictures of another task
        "text": {"rows": 10, Drop.KEPT: 9, Drop.DUPLICATE_EXACT: 1},
    }
    for counts in snapshot.funnel.values():
        assert counts["rows"] == sum(count for name, count in counts.items() if name != "rows")


def test_rows_in_are_rows_out_at_every_step(corpus: Path) -> None:
    snapshot = load_snapshot(corpus)
    uids = {
        layer: Counter(row["uid"] for row in rows_of(corpus, snapshot, layer))
        for layer in LAYERS.keys() - {"contamination", "recaption"}
    }
    assert uids["rows"].total() == 61
    assert uids["rows"] == uids["raw"] == uids["decision"]
    for signal in ("signals/image", "signals/text"):
        assert uids["rows"] == Counter(row["uid"] for row in rows_of(corpus, snapshot, signal))
    kept = Counter(r["uid"] for r in rows_of(corpus, snapshot, "decision") if r["outcome"] == "ok" and not r["reason"])
    assert uids["train"] == kept
    for entry in snapshot.shards:
        for path in (*entry.upstream.values(), entry.path):
            assert (
                sum(ledger.load_manifest(corpus, path).counts.values())
                == ledger.load_manifest(corpus, entry.upstream["rows"]).rows
            )


def test_train_rows_hold_what_the_tokenizers_give(corpus: Path, model: Path) -> None:
    import io

    import numpy as np
    import simplejpeg
    import torch
    from PIL import Image

    from janus.model.checkpoints.model_folder import load_processor, load_vq
    from janus.model.templates import encode_sample
    from janus.model.vq import encode_codes
    from schemas.sample import Message

    processor, vq = load_processor(model), load_vq(model)
    snapshot = load_snapshot(corpus)
    raw = {(row["source"], row["uid"]): row for row in rows_of(corpus, snapshot, "raw")}
    templates = {"photos": "plain", "more": "plain", "dense": "describe", "text": "plain"}
    tasks = {entry.source: entry.task for entry in snapshot.shards}
    for row in rows_of(corpus, snapshot, "train"):
        source = row["source"]
        original = raw[source, row["uid"]]
        messages = [Message(**message) for message in original["messages"]]
        encoded = encode_sample(processor, task=tasks[source], template=templates[source], messages=messages)
        assert (row["input_ids"], row["loss_mask"]) == (encoded.input_ids, encoded.loss_mask)
        assert row["short_ids"] == encoded.short_ids
        assert (row["length"], row["short_length"]) == (
            len(encoded.input_ids), len(encoded.short_ids or encoded.input_ids),
        )  # fmt: skip
        images = [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in original["images"]]
        if tasks[source] == "generation":
            pixels = torch.from_numpy(np.stack([processor.generation_pixels(image) for image in images]))
            assert row["codes"] == encode_codes(vq, processor.normalize(pixels)).flatten().tolist()
            assert row["pixels"] is None
        elif tasks[source] == "understanding":
            stored = simplejpeg.decode_jpeg(row["pixels"][0])
            difference = np.abs(stored.astype(int) - processor.understanding_pixels(images[0])).mean()
            assert difference < 3, "JPEG of quality 95"
            assert row["codes"] is None
        else:
            assert (row["codes"], row["pixels"]) == (None, None)


def test_snapshot_says_what_is_in_it(corpus: Path) -> None:
    snapshot = load_snapshot(corpus)
    rows = rows_of(corpus, snapshot, "train")
    task_of = {entry.source: entry.task for entry in snapshot.shards}
    for task in TASKS:
        lengths = [row["length"] for row in rows if task_of[row["source"]] == task]
        assert sum(snapshot.length_histogram[task].values()) == len(lengths) == snapshot.rows(task)
        for bound, count in snapshot.length_histogram[task].items():
            assert count == sum(int(bound) // 2 < length <= int(bound) for length in lengths)
    assert snapshot.licences == {"": 38, "CC0-1.0": 11}
    assert {entry.group for entry in snapshot.shards if entry.source == "photos"} == {"imagenet"}
    assert {entry.first_snapshot for entry in snapshot.shards} == {1}


def test_duplicates_name_their_winner(corpus: Path) -> None:
    snapshot = load_snapshot(corpus)
    decisions = rows_of(corpus, snapshot, "decision")
    kept = {row["uid"] for row in decisions if row["outcome"] == "ok" and row["reason"] is None}
    for row in decisions:
        duplicate = (row["reason"] or "").startswith("duplicate")
        assert (row["duplicate_of"] in kept) == duplicate


def test_sources_in_another_order_and_place_give_the_same_bytes(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(Path(sources[0]["path"]).parent, tmp_path / "moved"))
    elsewhere = [source | {"path": str(moved / Path(source["path"]).name)} for source in reversed(sources)]
    build(spec(model, elsewhere), tmp_path / "c", Operations())
    assert contents(tmp_path / "c") == contents(corpus)


def test_a_second_build_changes_nothing(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    seen: list[Progress] = []
    snapshot = build(spec(model, sources), copy, Operations(), seen.append)
    assert snapshot == load_snapshot(corpus)
    assert contents(copy) == contents(corpus)
    assert {progress.step for progress in seen} == {"plan", "dedup"}, "publishing reads manifests alone"


def test_lost_shards_are_made_again_with_the_same_bytes(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    victims = [
        shards[index % len(shards)]
        for index, layer in enumerate(ALL_LAYERS[1:])
        for shards in [sorted((copy / layer / "photos").glob("*.arrow"))]
    ]
    for victim in victims:
        victim.unlink()
    build(spec(model, sources), copy, Operations())
    assert contents(copy) == contents(corpus)


def test_damaged_shards_are_made_again_with_the_same_bytes(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    for layer in ALL_LAYERS[1:]:
        victim = min((copy / layer / "photos").glob("*.arrow"))
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1  # the size stays
        victim.write_bytes(data)
    build(spec(model, sources), copy, Operations())
    assert contents(copy) == contents(corpus)


@pytest.mark.parametrize("new", [[], [200, 201, 202]])
def test_damaged_rows_shards_are_made_again_with_the_same_bytes(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path, new: list[int]
) -> None:
    moved = Path(shutil.copytree(Path(sources[0]["path"]).parent, tmp_path / "moved"))
    settings = spec(model, [source | {"path": str(moved / Path(source["path"]).name)} for source in sources])
    whole, damaged = (Path(shutil.copytree(corpus, tmp_path / name)) for name in ("whole", "damaged"))
    grow(moved / "photos", new)
    # In every order of damage: 26 photos are three full shards and one of 2 rows, which new rows must not join. Of the
    # texts, the last row repeats one of the first shard.
    photos, texts = (sorted((damaged / "rows" / name).glob("*.arrow")) for name in ("photos", "text"))
    data = bytearray(photos[0].read_bytes())
    data[len(data) // 2] ^= 1
    photos[0].write_bytes(data)
    photos[1].unlink()
    photos[2].with_suffix(".json").unlink()
    photos[3].with_suffix(".json").write_text("{")
    texts[0].write_bytes(texts[0].read_bytes()[:100])
    expected = build(settings, whole, Operations())
    assert build(settings, damaged, Operations()) == expected
    assert contents(damaged) == contents(whole)


def test_a_rows_shard_lost_with_its_raw_shard_is_planned_with_the_new_rows(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    entry = next(entry for entry in load_snapshot(copy).shards if entry.source == "dense")
    for layer in ("rows", "raw"):
        (copy / entry.upstream[layer]).unlink()
    assert build(spec(model, sources), copy, Operations()).funnel == load_snapshot(corpus).funnel


def test_a_train_shard_without_a_summary_is_not_published(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    file = sorted((copy / "train/photos").glob("*.json"))[0]
    unsummed = ShardManifest.model_validate_json(file.read_bytes()).model_copy(update={"summary": None})
    file.write_bytes(canonical_json(unsummed.sealed()))
    with pytest.raises(ValueError, match=rf"train/photos/{file.name}: holds no summary; delete it and build again"):
        build(spec(model, sources), copy, Operations())
    file.unlink()
    build(spec(model, sources), copy, Operations())
    assert contents(copy) == contents(corpus)


def made(before: dict[str, str], after: dict[str, str]) -> Counter[str]:
    """New shard files by layer. Nothing that was there may differ."""
    assert {path: sha for path, sha in after.items() if path in before and path != "LATEST"} == {
        path: sha for path, sha in before.items() if path != "LATEST"
    }
    new = [path for path in after if path not in before and path.endswith(".arrow")]
    return Counter("/".join(path.split("/")[:-2]) for path in new)


def test_a_changed_threshold_rewrites_only_decision_and_later(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    stricter = [sources[0] | {"filters": {"size": {"min_side": 20}, "caption_length": {"min_words": 5}}}, *sources[1:]]
    snapshot = build(spec(model, stricter), copy, Operations())
    new = made(contents(corpus), contents(copy))
    photos = sum(entry.source == "photos" for entry in snapshot.shards)
    assert set(new) == {"decision", "train"}
    assert new["decision"] == photos, "only the source whose threshold changed"
    assert (snapshot.number, snapshot.parent) == (2, load_snapshot(corpus).name)
    assert snapshot.funnel["photos"]["caption_length"] > 0
    assert load_snapshot(copy, snapshot.parent) == load_snapshot(corpus), "the older snapshot stays whole"


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        ({"limits": {"max_pixels": 2500}}, {"raw", *MEASURED, "decision", "train"}),
        ({"limits": {"user_agent": "other"}}, {"raw"}),
        ({"tokenize": {"pixels": "raw"}}, {"train"}),
        ({"tokenize": {"max_length": 60}}, {"train"}),
        ({"dedup": {"exact": False, "near_radius": None}}, {"decision", "train"}),
    ],
)
def test_a_changed_spec_never_reuses_stale_results(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path, change: dict[str, Any], layers: set[str]
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    changed = spec(model, sources, **change)
    build(changed, copy, Operations())
    assert set(made(contents(corpus), contents(copy))) == layers
    if layers == {"decision", "train"}:
        build(changed, tmp_path / "fresh", Operations())
        latest, anew = load_snapshot(copy), load_snapshot(tmp_path / "fresh")
        assert [(e.path, e.sha256) for e in latest.shards] == [(e.path, e.sha256) for e in anew.shards]
        assert latest.funnel == anew.funnel


def test_another_source_setting_plans_the_source_anew(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    snapshot = build(spec(model, [sources[0] | {"limit": 10}, *sources[1:]]), copy, Operations())
    assert snapshot.funnel["photos"]["rows"] == 10
    new = made(contents(corpus), contents(copy))
    assert new["raw"] == 1, "the first shard of 8 rows is found again, the second now has 2"


@pytest.mark.parametrize("left", [b"{}", None])
def test_what_a_snapshot_asked_for_is_written_again(
    left: bytes | None, corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    (file,) = (copy / "specs").iterdir()
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    build(spec(model, sources), copy, Operations())
    assert contents(copy) == contents(corpus)


def test_the_steps_can_be_called_one_by_one(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    layers = []
    with opened(spec(model, sources), tmp_path / "c", Operations()) as context:
        shards: list[Any] = []
        for step in STEPS.values():
            shards = step(context, shards)
            layers.append(list(shards[0].layers))
        snapshot = finish(context, shards)
    assert layers == [ALL_LAYERS[:count] for count in (1, 2, 2, 5, 6, 7)]
    assert snapshot == load_snapshot(corpus)


def grow(root: Path, names: list[int]) -> None:
    with (root / "captions.jsonl").open("a") as captions:
        for name in names:
            picture(name).save(root / f"{name}.jpg", quality=90)
            captions.write(f'{{"image": "{name}.jpg", "caption": "A new picture, number {name}."}}\n')


def check_refresh(root: Path, model: Path, old: int, new: int, shard_rows: int) -> None:
    """Build `old` rows, add `new` of which one repeats an old picture, refresh: only the new ones are processed."""
    photos = image_folder(root / "photos", list(range(old)))
    settings = spec(model, [folder_source(photos)], shard_rows=shard_rows, dedup={"near_radius": None})
    corpus = root / "corpus"
    first = build(settings, corpus, Operations())
    before = contents(corpus)
    grow(photos, [0, *range(old, old + new - 1)])
    seen: dict[str, Progress] = {}
    second = build(settings, corpus, Operations(), lambda progress: seen.__setitem__(progress.step, progress))
    for step in ("plan", "download", "measure", "decide", "tokenize"):
        assert seen[step].rows == new - (step == "tokenize"), step
    shards = -(-new // shard_rows)
    assert made(before, contents(corpus)) == dict.fromkeys(ALL_LAYERS, shards)
    assert second.funnel["photos"] == {"rows": old + new, Drop.KEPT: old + new - 1, Drop.DUPLICATE_EXACT: 1}
    assert [entry for entry in second.shards if entry.first_snapshot == 1] == list(first.shards)
    assert [entry.first_snapshot for entry in second.shards if entry not in first.shards] == [2] * shards
    assert (second.number, second.parent) == (2, first.name)
    assert load_snapshot(corpus, first.name) == first
    assert build(settings, corpus, Operations()) == second, "nothing new, no new snapshot"


def test_refresh_processes_only_new_rows(model: Path, tmp_path: Path) -> None:
    check_refresh(tmp_path, model, old=40, new=4, shard_rows=16)


@pytest.mark.slow
def test_refresh_of_five_percent_of_20000_rows(model: Path, tmp_path: Path) -> None:
    check_refresh(tmp_path, model, old=20_000, new=1_000, shard_rows=2048)


def test_keep_last_deletes_what_no_kept_snapshot_needs(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(20)))
    corpus = tmp_path / "c"

    def settings(words: int) -> CorpusSpec:
        source = folder_source(photos, allow_empty=True)
        return spec(model, [source], filters={"caption_length": {"min_words": words}})

    first = build(settings(0), corpus, Operations())
    second = build(settings(99), corpus, Operations())
    grow(photos, [100])
    third = build(settings(99), corpus, Operations(keep_last=2))
    assert [path.stem for path in sorted((corpus / "snapshots").iterdir())] == [second.name, third.name]
    assert verify(corpus).differences == ()
    used = {path for s in (second, third) for e in s.shards for path in (e.path, *e.upstream.values())}
    on_disk = {path.relative_to(corpus).as_posix() for path in corpus.rglob("*.arrow")}
    assert on_disk == used
    assert {entry.path for entry in first.shards}.isdisjoint(on_disk)
    assert {entry.upstream["raw"] for entry in first.shards} <= on_disk, "shared with the later ones"


@pytest.mark.parametrize("before", [True, False])
def test_the_newest_snapshot_is_the_one_latest_names(corpus: Path, tmp_path: Path, before: bool) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    latest = load_snapshot(copy)
    # What a kill between the two writes of publish leaves, with a name on either side of that of LATEST.
    left = (latest.model_copy(update={"spec": str(number)}) for number in range(1000))
    orphan = next(snapshot for snapshot in left if (snapshot.name < latest.name) == before)
    (copy / "snapshots" / f"{orphan.name}.json").write_bytes(canonical_json(orphan))
    assert collect_garbage(copy, 1) == [f"snapshots/{orphan.name}.json"]
    assert contents(copy) == contents(corpus)


def test_no_spec_or_answer_outlives_its_snapshots(corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    left = ["specs/" + "0" * 64 + ".json", "answers/recaption/photos/0123.4567.jsonl"]
    for name in left:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("{}")
    assert collect_garbage(copy, 1) == left
    assert contents(copy) == contents(corpus)


def test_a_folder_holds_one_corpus(corpus: Path, sources: list[dict[str, Any]], model: Path) -> None:
    with pytest.raises(ValueError, match="holds corpus 'test'; build 'other' into another folder"):
        build(spec(model, sources, name="other"), corpus, Operations())


def test_a_snapshot_with_an_empty_train_shard_can_be_trained_on(model: Path, tmp_path: Path) -> None:
    from janus.data.config import DataConfig, TokenIds
    from janus.data.loader import Loader
    from janus.model.checkpoints.model_folder import load_processor

    (tmp_path / "text").mkdir()
    lines = [f'{{"text": "Document {n}{" is about many colours" if n >= 8 else ""}."}}' for n in range(16)]
    (tmp_path / "text/pages.jsonl").write_text("\n".join(lines) + "\n")
    source = {"name": "text", "format": "text", "path": str(tmp_path / "text"), "task": "text"}
    snapshot = build(spec(model, [source], filters={"caption_length": {"min_words": 3}}), tmp_path / "c", Operations())
    assert sorted(entry.rows for entry in snapshot.shards) == [0, 8]
    assert verify(tmp_path / "c").differences == ()
    processor = load_processor(model)
    tokens = TokenIds(
        bos=processor.bos_id, eos=processor.eos_id, pad=processor.pad_id, boi=processor.boi_id, eoi=processor.eoi_id,
        image=processor.image_id,
    )  # fmt: skip
    data = DataConfig(ratio=(0, 1, 0), sequences=4, seq_len=128, micro_batch=4, verify=True)
    loader = Loader(tmp_path / "c", snapshot, data=data, tokens=tokens, steps=4)
    seen = {uid for batches in loader for batch in batches for uid in batch.uids}
    assert seen == {row["uid"] for row in rows_of(tmp_path / "c", snapshot, "train")}


def test_a_reason_that_no_filter_has_is_named(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.verify.reasons", lambda: frozenset({"caption_length"}))
    (line,) = verify(corpus).differences
    assert line.startswith("decision/photos/")
    assert line.endswith(": no filter here has the reason too_small; install the package that has it")


def test_a_corpus_of_another_format_is_refused_with_what_to_do(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    (snapshot,) = (copy / "snapshots").iterdir()
    for file in (snapshot, *copy.rglob("*/*/*.json")):
        file.write_bytes(canonical_json(json.loads(file.read_bytes()) | {"format": 1}))
    says = rf"{snapshot.name}: corpus format 1, and this version reads 2: build the corpus again into a new folder"
    with pytest.raises(ValueError, match=says) as error:
        build(spec(model, sources), copy, Operations())
    assert "\n" not in str(error.value)
    assert all("corpus format 1" in line for line in verify(copy).differences)


def test_rows_shards_of_another_version_are_planned_anew(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    newer = ROWS.with_metadata({"janus_forge.layer": "rows", "janus_forge.version": "99"})
    monkeypatch.setitem(LAYERS, "rows", newer)
    monkeypatch.setattr(pipelines.steps.plan, "ROWS", newer)
    snapshot = build(spec(model, sources), copy, Operations())
    assert snapshot.funnel == load_snapshot(corpus).funnel
    paths = {path for entry in load_snapshot(corpus).shards for path in (entry.path, *entry.upstream.values())}
    assert not {entry.upstream["rows"] for entry in snapshot.shards} & paths
    assert {entry.upstream["signals/text"] for entry in snapshot.shards} <= paths, "the same raw bytes"


def test_what_a_spec_says_of_itself_publishes_nothing(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    build(spec(model, sources, description="Other words."), copy, Operations())
    assert contents(copy) == contents(corpus)


def test_settings_written_out_at_their_defaults_change_nothing(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    limits = {"max_bytes": 32 * 1024 * 1024, "redirects": 5}
    defaults = {"limits": limits, "tokenize": {"pixels": "jpeg"}, "dedup": {"exact": True, "near_radius": 4}}
    build(spec(model, sources, **defaults, signals={"phash": {}}), copy, Operations())
    assert contents(copy) == contents(corpus)


def test_a_signal_that_nothing_reads_changes_no_decision(
    corpus: Path, sources: list[dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "c"))
    snapshot = build(spec(model, sources, signals={"language": {}}), copy, Operations())
    assert set(made(contents(corpus), contents(copy))) == {"signals/language"}
    assert [entry.path for entry in snapshot.shards] == [entry.path for entry in load_snapshot(corpus).shards]
    assert all("signals/language" in entry.upstream for entry in snapshot.shards), "so that it is kept as garbage goes"
    assert verify(copy).differences == ()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"filters": {"caption_score": {"min": 0.2}}}, "filter caption_score reads caption_score.cosine: signals.capt"),
        ({"models": {"janus": "/no/such/model"}}, "/no/such/model"),
    ],
)
def test_a_spec_that_cannot_work_is_one_line(model: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    photos = image_folder(tmp_path / "photos", [1])
    with pytest.raises((ValueError, FileNotFoundError), match=says) as error:
        build(spec(model, [folder_source(photos)], **settings), tmp_path / "c", Operations())
    assert "\n" not in str(error.value)


def test_a_loosened_threshold_encodes_only_the_rows_that_come_in(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.steps.tokenize import TokenizeStep

    photos = image_folder(tmp_path / "photos", list(range(24)))
    prepared: list[bytes] = []
    prepare = TokenizeStep._prepare

    def counting(self: TokenizeStep, row: dict[str, Any], *arguments: Any) -> Any:
        prepared.append(row["uid"])
        return prepare(self, row, *arguments)

    monkeypatch.setattr(TokenizeStep, "_prepare", counting)
    # "... the number 7." is a character shorter than "... the number 17."
    strict = spec(model, [folder_source(photos)], filters={"caption_length": {"min_chars": 50}})
    loose = spec(model, [folder_source(photos)])
    build(strict, tmp_path / "c", Operations())
    assert len(prepared) == 14
    snapshot = build(loose, tmp_path / "c", Operations())
    assert len(prepared) == len(set(prepared)) == 24, "10 more, and none twice"
    build(loose, tmp_path / "fresh", Operations())
    latest = load_snapshot(tmp_path / "fresh")
    assert [(e.path, e.sha256) for e in snapshot.shards] == [(e.path, e.sha256) for e in latest.shards]
