"""Dedup against brute force (every pair compared, rows visited one by one), and what whole builds keep."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.build import build
from pipelines.steps.comparison import Comparison, Pass, PassWork
from pipelines.steps.dedup import (
    CANDIDATE,
    NOT,
    PICTURE,
    SIGNATURE,
    DedupWork,
    by_picture,
    duplicates_digest,
    vector_type,
)
from pipelines.steps.dedup_passes import DuplicatesOf, gather, run_passes, send
from schemas.layers import MESSAGES
from schemas.reasons import Drop
from schemas.sample import Task
from schemas.spec import Dedup, Operations
from storage.local import LocalStore
from tests.pipelines.world import folder_source, image_folder, picture, spec


def crowd(seed: int, count: int = 300) -> np.ndarray:
    """Candidates with many exact, equal-hash and near duplicates, chains among them."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, dtype=CANDIDATE)
    rows["near"] = 1
    centres = rng.integers(0, 2**63, size=12, dtype=np.uint64)
    for index in range(count):
        value = int(rng.choice(centres))
        for bit in rng.integers(0, 64, size=int(rng.integers(0, 6))):
            value ^= 1 << int(bit)
        rows[index]["hash"] = value
        copy = rng.random() < 0.2 and index > 0
        other = int(rng.integers(0, index)) if copy else index
        rows[index]["content"] = bytes([1, *int(other).to_bytes(4, "big")]) if not copy else rows[other]["content"]
        if copy:
            rows[index]["hash"] = rows[other]["hash"]
        rows[index]["first_snapshot"] = rng.integers(1, 3)
        rows[index]["wordless"] = rng.random() < 0.3
        rows[index]["area"] = rng.integers(1, 4) * 100
        rows[index]["uid"] = rng.bytes(15) + b"u"
        rows[index]["shard"], rows[index]["row"] = index % 5, index // 5
    return rows


def by_brute_force(rows: np.ndarray, radius: int | None, exact: bool = True) -> dict[tuple[int, int], tuple[str, str]]:
    """(shard, row) to (reason, winner's uid)."""

    def preference(row: Any) -> Any:
        return (bool(row["wordless"]), row["first_snapshot"], -row["area"], row["uid"], row["shard"], row["row"])

    lost: dict[tuple[int, int], tuple[str, str]] = {}
    ordered = sorted(rows, key=preference)
    kept: list[Any] = []
    stays: dict[bytes, Any] = {}  # content to the kept row that stands for it
    for row in ordered:
        place = int(row["shard"]), int(row["row"])
        if exact and row["content"] in stays:
            lost[place] = (Drop.DUPLICATE_EXACT, stays[row["content"]]["uid"].hex())
            continue
        close = [k for k in kept if radius is not None and (int(k["hash"]) ^ int(row["hash"])).bit_count() <= radius]
        if close:
            lost[place] = (Drop.DUPLICATE_NEAR, close[0]["uid"].hex())
        else:
            kept.append(row)
        stays[row["content"]] = close[0] if close else row
    return lost


def by_passes(
    rows: np.ndarray,
    dedup: Dedup,
    parts: int = 1,
    seed: int = 0,
    signatures: np.ndarray | None = None,
    vectors: np.ndarray | None = None,
    clusters: int = 1,
) -> dict[tuple[int, int], tuple[str, str]]:
    """What the passes find among `rows` of five shards, in groups of two, the elements of each pass in random order.

    `signatures` are those of the rows, SIGNATURE[N], if they are texts; `vectors` their embeddings, vector_type(D)[N],
    in so many `clusters`.
    """
    signatures = np.empty(0, SIGNATURE) if signatures is None else signatures
    width = 0 if vectors is None else vectors.dtype["vector"].shape[0]
    vectors = np.empty(0, vector_type(0)) if vectors is None else vectors
    rng = np.random.default_rng(seed)
    order = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        shards = [DedupWork(index, {}, "generation", 1, (), {}) for index in range(5)]
        groups = [tuple(shards[:2]), tuple(shards[2:4]), tuple(shards[4:])]
        pieces = 0 if dedup.near_radius is None else dedup.near_radius + 1 + seed % 3
        comparison = Comparison(
            LocalStore(Path(folder)), "generation", dedup, (0, 2, 4), parts, pieces, parts, width, clusters
        )
        works = [PassWork(comparison, index, group) for index, group in enumerate(groups)]

        def run(name: str, do: Pass, items: Sequence[PassWork]) -> list[Any]:
            found = {}
            for item in order.sample(list(items), len(items)):
                if do is gather:
                    own = rows[np.isin(rows["shard"], [shard.index for shard in item.shards])]
                    if dedup.near_radius is None:
                        own["near"][own["near"] == PICTURE] = NOT
                    send(
                        comparison,
                        item.index,
                        own[rng.permutation(len(own))],
                        signatures[np.isin(signatures["hash"], own["hash"])],
                        vectors[np.isin(vectors["uid"], own["uid"])],
                    )
                else:
                    found[item.index] = do(Path(folder), item)
            return [found[item.index] for item in items if item.index in found]

        digests = run_passes([works], run)
        lost = {}
        for group, of_group in zip(works, digests, strict=True):
            for place, (shard, shard_digest) in enumerate(zip(group.shards, of_group, strict=True)):
                items = DuplicatesOf(shard_digest, comparison, group.index, place).read()
                assert shard_digest == duplicates_digest(items)
                assert [item.row for item in items] == sorted(item.row for item in items)
                lost |= {(shard.index, item.row): (item.reason, item.winner) for item in items}
        return lost


@pytest.mark.parametrize("radius", [0, 2, 4, 9])
@pytest.mark.parametrize("parts", [1, 3])
def test_equals_brute_force(radius: int, parts: int) -> None:
    for seed in range(3):
        rows = crowd(seed)
        expected = by_brute_force(rows, radius)
        assert by_passes(rows, Dedup(near_radius=radius), parts, seed) == expected
        assert {reason for reason, _ in expected.values()} == {Drop.DUPLICATE_EXACT, Drop.DUPLICATE_NEAR}


def test_a_winner_is_kept() -> None:
    rows = crowd(0, 3)
    kept, near, copy = rows
    rows["first_snapshot"], rows["wordless"], rows["area"] = 1, 0, [300, 200, 100]
    kept["hash"], near["hash"], copy["hash"] = 0b0000, 0b0001, 0b0001
    kept["content"], near["content"], copy["content"] = b"one", b"other", b"other"
    uid = kept["uid"].hex()
    assert by_passes(rows, Dedup(near_radius=1), 1) == {
        (1, 0): (Drop.DUPLICATE_NEAR, uid),
        (2, 0): (Drop.DUPLICATE_EXACT, uid),
    }


@pytest.mark.parametrize(
    ("roles", "task", "expected"),
    [
        (["caption"], "understanding", True),
        (["caption"], "generation", True),
        (["document"], "understanding", False),
        (["document"], "generation", True),
        (["user", "assistant"], "understanding", False),
        (["system", "caption"], "understanding", False),
        (["document"], "text", False),
    ],
)
def test_what_a_row_is_compared_by(roles: list[str], task: Task, expected: bool) -> None:
    rows = [
        [{"role": role, "text": "t"} for role in turns] for turns in (["caption"], roles, ["user", "assistant"], roles)
    ]
    found = by_picture(pa.chunked_array([pa.array(rows, MESSAGES)]), task)
    assert found[[1, 3]].tolist() == [expected, expected]


def test_a_row_without_words_never_wins_over_one_with() -> None:
    rows = crowd(0, 4)
    rows["first_snapshot"], rows["wordless"], rows["area"] = 1, [1, 0, 1, 0], [900, 100, 800, 50]
    rows["content"], rows["hash"] = [b"one", b"one", b"two", b"three"], [0, 0, 0b11, 0b01]
    lost = by_passes(rows, Dedup(near_radius=1), 1)
    captioned = rows[1]["uid"].hex()
    assert lost[0, 0] == (Drop.DUPLICATE_EXACT, captioned)
    assert lost[3, 0] == (Drop.DUPLICATE_NEAR, captioned)
    assert (1, 0) not in lost
    assert lost == by_brute_force(rows, 1)
    rows["first_snapshot"] = [1, 2, 2, 2]
    assert by_passes(rows, Dedup(near_radius=1), 1) == lost, "nor over one that a refresh brings"


def test_either_kind_can_be_off() -> None:
    rows = crowd(1)
    assert by_passes(rows, Dedup(near_radius=None), 2) == by_brute_force(rows, None)
    assert by_passes(rows, Dedup(exact=False, near_radius=3), 2) == by_brute_force(rows, 3, exact=False)


def test_a_refresh_takes_nothing_back() -> None:
    rows = crowd(2)
    rows["wordless"] = 0
    rows["first_snapshot"] = 1 + (np.arange(len(rows)) >= 200)
    old = rows[rows["first_snapshot"] == 1]
    before, after = by_passes(old, Dedup(), 1), by_passes(rows, Dedup(), 1)
    places = {(int(row["shard"]), int(row["row"])) for row in old}
    assert before == {place: verdict for place, verdict in after.items() if place in places}
    assert len(after) > len(before)


def test_uids_that_end_in_zeros_survive() -> None:
    rows = crowd(0, 10)
    rows["content"] = b"same"
    rows["hash"] = 7
    rows["uid"] = [bytes([9, index]) + bytes(14) for index in range(10)]
    winners = {winner for _, winner in by_passes(rows, Dedup(), 1).values()}
    assert len(winners) == 1
    assert len(winners.pop()) == 32


def test_combinations_are_not_missed_in_one_big_bucket() -> None:
    rows = crowd(5, 120)
    rows["hash"] = (rows["hash"] & np.uint64(0xFF)) | np.uint64(0xABCDEF00)
    expected = by_brute_force(rows, 2)
    assert by_passes(rows, Dedup(near_radius=2), 4) == expected
    pairs = [pair for pair in combinations(set(rows["hash"].tolist()), 2) if (pair[0] ^ pair[1]).bit_count() <= 2]
    assert pairs, "the case is not empty"


def test_several_conversations_about_one_picture_are_all_kept(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])

    def talk(image: int, question: str) -> dict[str, Any]:
        return {
            "id": f"{image}{question}",
            "image": f"{image}.jpg",
            "conversations": [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": "Red."}],
        }

    rows = [talk(1, "Which colour?"), talk(1, "What is it?"), talk(1, "Which colour?"), talk(2, "Which colour?")]
    (photos / "chat.json").write_text(json.dumps(rows))
    source = {"name": "chat", "format": "llava", "path": str(photos / "chat.json"), "task": "understanding",
              "template": "chat"}  # fmt: skip
    snapshot = build(spec(model, [source]), tmp_path / "c", Operations())
    assert snapshot.funnel["chat"] == {"rows": 4, Drop.KEPT: 3, Drop.DUPLICATE_EXACT: 1}


def test_pages_with_the_same_pictures_and_other_text_are_all_kept(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])

    def page(text: str, *images: int) -> dict[str, Any]:
        return {"text": text, "images": [f"{image}.jpg" for image in images]}

    pages = [
        page("One. <image> About colours.", 1),
        page("Two. <image> About shapes.", 1),
        page("One. <image> About colours.", 1),
        page("<image> A pair <image>", 1, 2),
        page("<image> Another pair <image>", 1, 2),
        page("<image> A pair <image>", 1, 2),
    ]
    (photos / "pages.jsonl").write_text("\n".join(map(json.dumps, pages)) + "\n")
    source = {"name": "pages", "format": "interleaved", "path": str(photos), "task": "understanding",
              "options": {"files": ["pages.jsonl"]}}  # fmt: skip
    snapshot = build(spec(model, [source]), tmp_path / "c", Operations())
    assert snapshot.funnel["pages"] == {"rows": 6, Drop.KEPT: 4, Drop.DUPLICATE_EXACT: 2}


def test_a_picture_to_generate_is_compared_by_itself_whatever_the_template(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])
    shutil.copy(photos / "1.jpg", photos / "copy.jpg")
    picture(2).resize((60, 50)).save(photos / "near.jpg")
    with (photos / "captions.jsonl").open("a") as captions:
        for name in ("copy", "near"):
            captions.write(f'{{"image": "{name}.jpg", "caption": "Other words, {name}."}}\n')
    snapshot = build(spec(model, [folder_source(photos, template="chat")], stage=3), tmp_path / "c", Operations())
    assert snapshot.funnel["photos"] == {"rows": 4, Drop.KEPT: 2, Drop.DUPLICATE_EXACT: 1, Drop.DUPLICATE_NEAR: 1}


def test_pictures_come_with_their_captions_however_many_have_none(model: Path, tmp_path: Path) -> None:
    for name in ("captioned", "bare"):
        image_folder(tmp_path / name, list(range(8)))
        (tmp_path / name / "captions.jsonl").unlink()
    for number in range(8):
        (tmp_path / "captioned" / f"{number}.txt").write_text(f"A picture with the number {number}.")
        (tmp_path / "bare" / f"{number}.txt").write_text("")
    sources = [folder_source(tmp_path / name, name) for name in ("captioned", "bare")]
    snapshot = build(spec(model, sources), tmp_path / "c", Operations())
    assert snapshot.funnel == {
        "bare": {"rows": 8, Drop.KEPT: 0, Drop.DUPLICATE_EXACT: 8},
        "captioned": {"rows": 8, Drop.KEPT: 8},
    }


@pytest.mark.parametrize(("radius", "kept"), [(0, 2), (None, 3), (4, 2)])
def test_radius_0_compares_hashes_and_none_compares_nothing(
    model: Path, tmp_path: Path, radius: int | None, kept: int
) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])
    picture(2).save(photos / "2.png")  # other bytes, the same picture
    with (photos / "captions.jsonl").open("a") as captions:
        captions.write('{"image": "2.png", "caption": "Once more, as PNG."}\n')
    settings = spec(model, [folder_source(photos)], dedup={"near_radius": radius})
    assert build(settings, tmp_path / "c", Operations()).funnel["photos"][Drop.KEPT] == kept
