"""Near texts: MinHash against Jaccard by sets, bands against their formula, the passes against every pair compared,
and real pages with edits in whole builds."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.build import build
from pipelines.duplicates import duplicates
from pipelines.ledger import open_input
from pipelines.row import Row
from pipelines.signals import load_signal
from pipelines.signals.minhash import PLACES
from pipelines.steps.dedup import CANDIDATE, TEXT, signatures_of
from pipelines.steps.near_text import BAND, LEADERS, band_keys, bands_for, meetings, similar
from schemas.manifest import Snapshot
from schemas.reasons import Drop
from schemas.spec import Dedup, Operations
from tests.pipelines.test_dedup import by_passes
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec


def signature(text: str, role: str = "document") -> np.ndarray | None:
    row = Row("text", bytes(16), "ok", [{"role": role, "text": text}], [], max_pixels=1)
    value = load_signal("minhash").measure(row)["signature"]
    return None if value is None else np.frombuffer(value, "<u2")


def runs(text: str) -> set[tuple[str, ...]]:
    said = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(said[at : at + 5]) for at in range(len(said) - 4)}


def edited(text: str, share: float, rng: random.Random) -> str:
    """The text with that share of its words replaced, dropped or doubled, capitals and spacing changed."""
    found = []
    for word in text.split():
        if rng.random() < share:
            found += rng.choice([["thing"], [], [word, word], [word[::-1]]])
        else:
            found.append(word.upper() if rng.random() < 0.02 else word)
    return rng.choice([" ", "\n"]).join(found)


def test_a_signature_estimates_the_jaccard_similarity_of_runs_of_words() -> None:
    rng = random.Random(0)
    errors = []
    for _ in range(60):
        one = " ".join(f"word{rng.randrange(10**6)}" for _ in range(200))
        other = edited(one, rng.uniform(0, 0.1), rng)
        first, second = signature(one), signature(other)
        assert first is not None
        assert second is not None
        both = runs(one), runs(other)
        errors.append((first == second).mean() - len(both[0] & both[1]) / len(both[0] | both[1]))
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 1.3 * np.sqrt(0.25 / PLACES)


def test_what_has_a_signature() -> None:
    assert signature("One two three, four five six.") is not None
    assert signature("A caption of some words.", role="caption") is None
    assert signature("?! --") is None
    for same in ("Yes.", "yes", " YES!"):
        assert np.array_equal(signature(same), signature("Yes"))  # type: ignore[arg-type]
    assert not np.array_equal(signature("Yes."), signature("No."))  # type: ignore[arg-type]


@pytest.mark.parametrize("jaccard", [0.5, 0.7, 0.8, 0.95, 1.0])
def test_bands_miss_one_pair_in_a_hundred_at_most(jaccard: float) -> None:
    count, length = bands_for(jaccard)
    assert count * length <= PLACES
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2**16, (4000, PLACES)).astype(np.uint16)
    other = np.where(rng.random(one.shape) < jaccard, one, ~one)
    none = np.zeros(len(one), np.uint64)
    keys = list(zip(band_keys(one, none, jaccard), band_keys(other, none, jaccard), strict=True))
    assert len(keys) == count
    met = np.any([a == b for a, b in keys], axis=0)
    assert met.mean() >= 0.985
    apart = list(band_keys(other, none + np.uint64(1), jaccard))
    assert not any((a == b).any() for (a, _), b in zip(keys, apart, strict=True)), "other pictures"


def test_each_text_of_a_full_band_meets_the_preferred_ones() -> None:
    found = np.zeros(300, BAND)
    found["key"] = np.arange(300) // 100
    found["rank"] = np.random.default_rng(0).permutation(300)
    found["hash"] = 1000 + np.arange(300)
    expected = set()
    for key in range(3):
        own = sorted(found[found["key"] == key].tolist(), key=lambda row: row[1])
        expected |= {tuple(sorted((a[2], b[2]))) for at, a in enumerate(own[:LEADERS]) for b in own[at + 1 :]}
    one, other = meetings(found[np.random.default_rng(1).permutation(300)])
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == sorted(expected)


def texts(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Candidates that are texts, many nearly the same, some with the same pictures."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**16, (20, PLACES)).astype(np.uint16)
    signatures = centres[rng.integers(0, len(centres), count)]
    changed = rng.random(signatures.shape) < rng.choice([0, 0.04, 0.5], (count, 1))
    signatures[changed] = rng.integers(0, 2**16, int(changed.sum()))
    pictures = rng.choice(np.array([b"", b"one", b"two"], "S32"), count)
    rows = np.zeros(count, CANDIDATE)
    found = signatures_of([row.astype("<u2").tobytes() for row in signatures], pictures)
    rows["near"], rows["hash"] = TEXT, found["hash"]
    rows["uid"] = [rng.bytes(15) + b"u" for _ in range(count)]
    rows["content"], rows["first_snapshot"] = rows["uid"], rng.integers(1, 3, count)
    rows["area"] = rng.integers(1, 5, count)
    rows["shard"], rows["row"] = np.arange(count) % 5, np.arange(count) // 5
    return rows, found


@pytest.mark.parametrize("parts", [1, 3])
def test_equals_comparing_all_with_all(parts: int) -> None:
    for seed in range(2):
        rows, signatures = texts(seed)
        order = np.lexsort((rows["uid"], -rows["area"], rows["first_snapshot"]))
        lost: dict[tuple[int, int], tuple[str, str]] = {}
        kept: list[int] = []
        for at in order.tolist():
            close = [
                k for k in kept
                if signatures["pictures"][k] == signatures["pictures"][at]
                and similar(signatures["signature"][[k]], signatures["signature"][[at]], 0.7)[0]
            ]  # fmt: skip
            if close:
                place = int(rows["shard"][at]), int(rows["row"][at])
                lost[place] = (Drop.DUPLICATE_TEXT, rows["uid"][close[0]].hex())
            else:
                kept.append(at)
        assert by_passes(rows, Dedup(text_jaccard=0.7), parts, seed, signatures) == lost
        assert 50 < len(lost) < 150


def text_source(folder: Path, pages: dict[str, str]) -> dict[str, Any]:
    """A source of one text a line, each with the name it has in `pages`."""
    folder.mkdir(parents=True)
    (folder / "pages.jsonl").write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in pages.items()))
    return {"name": "pages", "format": "text", "path": str(folder / "pages.jsonl"), "task": "text"}


def reasons(corpus: Path, snapshot: Snapshot) -> dict[str, str | None]:
    """Text of each row to the reason it was dropped for."""
    found = {}
    for shard in snapshot.shards:
        rows, decision = (open_input(corpus, shard.upstream[layer])[1].table() for layer in ("rows", "decision"))
        for messages, reason in zip(
            rows.column("messages").to_pylist(), decision.column("reason").to_pylist(), strict=True
        ):
            found[messages[0]["text"]] = reason
    return found


def test_pages_with_edits_are_found_and_others_kept(model: Path, tmp_path: Path, shared_data: Path) -> None:
    rng = random.Random(0)
    lines = (shared_data / "text" / "c4_150.jsonl").read_text().splitlines()
    pages = [text for text in (" ".join(json.loads(line)["text"].split()) for line in lines) if len(text) > 400][:40]
    copies = [edited(page, 0.02, rng) for page in pages[:30]]
    settings = {"dedup": {"text_jaccard": 0.6}, "tokenize": {"max_length": 100_000}, "shard_rows": 50}
    source = text_source(tmp_path / "pages", {str(at): text for at, text in enumerate([*pages, *copies])})
    snapshot = build(spec(model, [source], **settings), tmp_path / "c", Operations())
    found = reasons(tmp_path / "c", snapshot)
    dropped = {text for text, reason in found.items() if reason == Drop.DUPLICATE_TEXT}
    near = [(page in dropped) + (copy in dropped) for page, copy in zip(pages[:30], copies, strict=True)]
    assert max(near) == 1, "one of the two stays"
    assert sum(near) >= 0.95 * len(near)
    assert not dropped & set(pages[30:])
    assert not [pair for pair in combinations(pages, 2) if runs(pair[0]) == runs(pair[1])], "the case is fair"


def test_what_would_be_dropped_is_shown_and_nothing_changes(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2, 3])
    shutil.copy(photos / "1.jpg", photos / "copy.jpg")
    picture(2).resize((60, 50)).save(photos / "near.jpg")
    with (photos / "captions.jsonl").open("a") as captions:
        for name in ("copy", "near"):
            captions.write(f'{{"image": "{name}.jpg", "caption": "\\u001b[31m{name}."}}\n')
    long = "On the first day of the year we walked along the river until it was dark and cold outside"
    source = text_source(tmp_path / "pages", {"a": long + ".", "b": long + " again.", "c": "Something else."})
    settings = {"dedup": {"near_radius": False}, "filters": {"caption_length": {"min_chars": 4}}}
    corpus = tmp_path / "c"
    sources = [folder_source(photos), source]
    build(spec(model, sources, **settings), corpus, Operations())
    with pytest.raises(ValueError, match=re.escape("no text has a signature yet; add [signals.minhash]")):
        list(duplicates(corpus, Dedup(text_jaccard=0.7)))
    build(spec(model, sources, **settings, signals={"minhash": {}}), corpus, Operations())
    before = contents(corpus)
    out = tmp_path / "pairs.jsonl"
    command = [sys.executable, "-m", "pipelines.duplicates", str(corpus), "--text-jaccard", "0.7", "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert contents(corpus) == before
    assert ran.stdout.endswith("3 rows would be dropped as duplicates, 2 of them are kept now\n")
    assert "\x1b" not in ran.stdout
    pairs = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(row["source"], row["reason"], row["now"]) for row in pairs} == {
        ("photos", Drop.DUPLICATE_EXACT, Drop.DUPLICATE_EXACT),
        ("photos", Drop.DUPLICATE_NEAR, Drop.KEPT),
        ("pages", Drop.DUPLICATE_TEXT, Drop.KEPT),
    }
    settings["dedup"] = {"text_jaccard": 0.7}
    built = build(spec(model, sources, **settings, signals={"minhash": {}}), corpus, Operations())
    dropped = {
        (uid.hex(), reason)
        for shard in built.shards
        for table in [open_input(corpus, shard.upstream["decision"])[1].table()]
        for uid, reason in zip(table.column("uid").to_pylist(), table.column("reason").to_pylist(), strict=True)
        if reason is not None
    }
    assert {(row["uid"], row["reason"]) for row in pairs} == dropped, "as the build does"
    wrong = subprocess.run([*command, "--near-radius", "99"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    expected = "--near-radius: Input should be less than or equal to 16, found 99"
    assert wrong.stderr.strip().splitlines()[-1].endswith(expected)


def test_texts_are_compared_only_where_the_pictures_are_the_same(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])
    long = "On the first day of the year we walked along the river until it was dark and cold outside."
    pages = [(f"<image> {long}", 1), (f"<image> {long} Yes.", 1), (f"<image> {long} Yes.", 2)]
    written = [json.dumps({"text": text, "images": [f"{image}.jpg"]}) for text, image in pages]
    (photos / "pages.jsonl").write_text("\n".join(written) + "\n")
    source = {"name": "pages", "format": "interleaved", "path": str(photos), "task": "understanding",
              "options": {"files": ["pages.jsonl"]}}  # fmt: skip
    captioned = image_folder(tmp_path / "captioned", [3, 4], caption=long)
    sources = [source, folder_source(captioned, task="understanding")]
    without = build(spec(model, sources), tmp_path / "without", Operations())
    assert without.funnel["pages"] == {"rows": 3, Drop.KEPT: 3}
    before = contents(tmp_path / "without")
    snapshot = build(spec(model, sources, dedup={"text_jaccard": 0.8}), tmp_path / "without", Operations())
    assert snapshot.funnel["pages"] == {"rows": 3, Drop.KEPT: 2, Drop.DUPLICATE_TEXT: 1}
    assert snapshot.funnel["photos"] == {"rows": 2, Drop.KEPT: 2}
    new = contents(tmp_path / "without").keys() - before.keys()
    assert not [path for path in new if path.startswith(("rows/", "raw/"))], "nothing is loaded again"
    assert {path.split("/")[1] for path in new if path.startswith("signals/")} == {"minhash"}, "nor measured"
