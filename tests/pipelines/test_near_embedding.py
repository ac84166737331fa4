"""Near pictures by embedding: exact arithmetic, the passes against every pair compared, and a whole build."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.build import build
from pipelines.duplicates import duplicates
from pipelines.steps.dedup import EMBEDDING, hashes_of, vector_type
from pipelines.steps.near_embedding import LEADERS, NORM, alike, centroids_of, nearest, rounded
from schemas.reasons import Drop
from schemas.spec import Dedup, Operations
from tests.pipelines.test_dedup import by_passes, crowd
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec

COSINE = 0.9


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    found = rng.normal(size=shape)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def near_some(rng: np.random.Generator, count: int, centres: int, width: int = 24, spread: float = 0.25) -> np.ndarray:
    """float16[count, width] of unit length, in bunches."""
    found = unit(rng, centres, width)[rng.integers(0, centres, count)] + spread * unit(rng, count, width)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    a, b = [int(x) for x in one], [int(x) for x in other]
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def test_dot_products_are_exact_in_float32() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng, 200, 1024)
    vectors[:4] = 0
    vectors[0, 0] = vectors[1, :2] = 1
    vectors[2], vectors[3] = 1, np.where(np.arange(1024) % 2, 1, -1)
    vectors[:4] /= np.linalg.norm(vectors[:4], axis=1, keepdims=True)
    found, usable = rounded(vectors.astype(np.float16))
    assert usable.all()
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    assert abs(lengths - NORM).max() < 16
    assert lengths.max() ** 2 < 2**24
    expected = found.astype(np.int64) @ found.astype(np.int64).T
    backwards = found[:, ::-1].astype(np.float32) @ found[:, ::-1].astype(np.float32).T
    assert np.array_equal(found.astype(np.float32) @ found.astype(np.float32).T, expected)
    assert np.array_equal(backwards, expected)
    np.testing.assert_allclose(expected / np.outer(lengths, lengths), vectors @ vectors.T, atol=6e-4)


def test_what_is_no_direction_has_no_embedding() -> None:
    vectors = np.array([[1, 0], [0, 0], [np.nan, 1], [np.inf, 0], [0.6, 0.8]], np.float16)
    found, usable = rounded(vectors)
    assert usable.tolist() == [True, False, False, False, True]
    assert found[0].tolist() == [NORM, 0]


def test_pairs_are_all_those_over_the_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.steps.near_embedding.BLOCK", 37)
    vectors = rounded(near_some(np.random.default_rng(0), 200, 30))[0]
    vectors[150] = vectors[20]
    expected = {
        (a, b) for b in range(len(vectors)) for a in range(b) if cosine(vectors[a], vectors[b]) >= COSINE
    }  # fmt: skip
    before, after = alike(vectors, COSINE)
    assert set(zip(before.tolist(), after.tolist(), strict=True)) == expected
    assert len(before) == len(expected) > 200
    before, after = alike(vectors, 1.0)
    assert list(zip(before.tolist(), after.tolist(), strict=True)) == [(20, 150)], "equal ones have cosine 1"


def test_one_of_very_many_is_paired_with_the_preferred_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.steps.near_embedding.BLOCK", 10)
    before, after = alike(np.tile(np.array([[NORM, 0]], np.int16), (50, 1)), 0.99)
    expected = {(a, b) for b in range(50) for a in range(min(b, LEADERS))}
    assert set(zip(before.tolist(), after.tolist(), strict=True)) == expected


def test_clusters_are_the_bunches() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng, 8, 24)
    of = np.concatenate([np.arange(8), rng.integers(0, 8, 392)])
    sample = rounded((centres[of] + 0.05 * unit(rng, 400, 24)).astype(np.float16))[0]
    centroids = centroids_of(sample, 8)
    assert np.array_equal(nearest(sample, centroids, 1)[:, 0], of)
    for number, centroid in enumerate(centroids):
        mean = sample[of == number].astype(np.float64).mean(axis=0)
        assert cosine(np.rint(mean * 10), centroid) > 0.99999
    two = nearest(sample, centroids, 2)
    dots = sample.astype(np.int64) @ centroids.astype(np.int64).T
    assert np.array_equal(two, np.argsort(-dots, axis=1, kind="stable")[:, :2])
    assert len(centroids_of(sample[:3], 8)) == 3


def pictures(seed: int, radius: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Candidates with copies and near hashes, and their embeddings, many of them near; some have none."""
    rng = np.random.default_rng([seed, 1])
    rows = crowd(seed)
    if radius is not None:  # some near by hash only, some by embedding only
        rows["hash"] ^= rng.integers(0, 2, len(rows)).astype(np.uint64) * np.uint64(0x5555000000000000)
    own = near_some(rng, len(rows), 80)
    _, first = np.unique(rows["content"], return_index=True)
    for copies in (np.flatnonzero(rows["content"] == rows["content"][at]) for at in first):
        own[copies] = own[copies[0]]
        rows["hash"][copies] = rows["hash"][copies[0]]
    vectors = np.zeros(len(rows), vector_type(24))
    vectors["vector"] = rounded(own)[0]
    without = np.zeros(len(rows), bool)
    if radius is None:
        rows["near"], rows["hash"] = EMBEDDING, hashes_of(vectors["vector"])
    else:
        without = np.isin(rows["content"], rows["content"][rng.integers(0, len(rows), 30)])
    vectors["uid"], vectors["hash"] = rows["uid"], rows["hash"]
    return rows, vectors[~without]


def by_brute_force(rows: np.ndarray, vectors: np.ndarray, radius: int | None) -> dict[tuple[int, int], tuple[str, str]]:
    """(shard, row) to (reason, winner's uid)."""
    embedding = {row["uid"]: row["vector"] for row in vectors}
    order = np.lexsort((rows["row"], rows["shard"], rows["uid"], -rows["area"], rows["first_snapshot"]))
    order = order[np.argsort(rows["wordless"][order], kind="stable")]
    kept: list[np.void] = []
    said: dict[int, tuple[str | None, str]] = {}  # hash to why it goes, if it does, and which row stays
    seen = set()
    lost = {}
    for row in rows[order]:
        code, place = int(row["hash"]), (int(row["shard"]), int(row["row"]))
        if code not in said:
            said[code] = (None, row["uid"].hex())
            for other in kept:
                if radius is not None and (code ^ int(other["hash"])).bit_count() <= radius:
                    said[code] = (Drop.DUPLICATE_NEAR, other["uid"].hex())
                    break
                both = [embedding.get(one["uid"]) for one in (row, other)]
                if all(one is not None for one in both) and cosine(*both) >= COSINE:  # type: ignore[arg-type]
                    said[code] = (Drop.DUPLICATE_EMBEDDING, other["uid"].hex())
                    break
            if said[code][0] is None:
                kept.append(row)
            else:
                lost[place] = said[code]
        else:
            same = Drop.DUPLICATE_EMBEDDING if radius is None else Drop.DUPLICATE_NEAR
            reason = Drop.DUPLICATE_EXACT if row["content"] in seen else said[code][0] or same
            lost[place] = (reason, said[code][1])
        seen.add(row["content"])
    return lost  # type: ignore[return-value]


@pytest.mark.parametrize(("radius", "parts"), [(None, 1), (None, 3), (3, 1), (3, 3)])
def test_equals_comparing_all_with_all(radius: int | None, parts: int) -> None:
    for seed in range(2):
        rows, vectors = pictures(seed, radius)
        expected = by_brute_force(rows, vectors, radius)
        dedup = Dedup(near_radius=radius, embedding_cosine=COSINE)
        assert by_passes(rows, dedup, parts, seed, vectors=vectors) == expected
        kinds = {reason for reason, _ in expected.values()}
        near = {Drop.DUPLICATE_NEAR} if radius is not None else set()
        assert kinds == {Drop.DUPLICATE_EXACT, Drop.DUPLICATE_EMBEDDING, *near}
        assert len(rows) - len(expected) > 20


def test_clusters_lose_few_pairs_and_depend_on_the_rows_alone() -> None:
    rows, vectors = pictures(0, None)
    dedup = Dedup(near_radius=None, embedding_cosine=COSINE)
    all_pairs = by_brute_force(rows, vectors, None)
    found = by_passes(rows, dedup, 1, 0, vectors=vectors, clusters=6)
    assert found == by_passes(rows[::-1], dedup, 3, 1, vectors=vectors[::-1], clusters=6)
    assert len(found) >= 0.95 * len(all_pairs)
    assert len(found.keys() - all_pairs.keys()) < 0.02 * len(all_pairs)


def test_pictures_of_one_embedding_are_dropped_and_the_dry_run_says_so(
    model: Path, tmp_path: Path, toy_clip: dict[str, str]
) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2, 3])
    shutil.copy(photos / "1.jpg", photos / "copy.jpg")
    Image.open(photos / "2.jpg").save(photos / "as_png.png")
    picture(9).save(photos / "other.jpg")
    with (photos / "captions.jsonl").open("a") as captions:
        for name in ("copy.jpg", "as_png.png", "other.jpg"):
            captions.write(f'{{"image": "{name}", "caption": "A picture."}}\n')
    sources = [folder_source(photos)]
    off, on = {"near_radius": False}, {"near_radius": False, "embedding_cosine": 1.0}
    with pytest.raises(ValueError, match=r"signals\.clip_embedding") as error:
        build(spec(model, sources, dedup=on), tmp_path / "none", Operations())
    assert "\n" not in str(error.value)
    corpus = tmp_path / "c"
    build(spec(model, sources, dedup=off), corpus, Operations())
    with pytest.raises(ValueError, match=re.escape("no picture has an embedding yet; add [signals.clip_embedding]")):
        list(duplicates(corpus, Dedup(embedding_cosine=1)))
    build(spec(model, sources, dedup=off, signals={"clip_embedding": toy_clip}), corpus, Operations())
    before = contents(corpus)
    shown = {lost.reason: lost for lost in duplicates(corpus, Dedup(near_radius=None, embedding_cosine=1))}
    assert contents(corpus) == before
    assert shown.keys() == {Drop.DUPLICATE_EXACT, Drop.DUPLICATE_EMBEDDING}
    assert shown[Drop.DUPLICATE_EMBEDDING].now == Drop.KEPT
    snapshot = build(spec(model, sources, dedup=on, signals={"clip_embedding": toy_clip}), corpus, Operations())
    expected = {"rows": 6, Drop.KEPT: 4, Drop.DUPLICATE_EXACT: 1, Drop.DUPLICATE_EMBEDDING: 1}
    assert snapshot.funnel["photos"] == expected
    new = contents(corpus).keys() - before.keys()
    assert not [path for path in new if path.startswith("signals/")], "nothing is measured again"
