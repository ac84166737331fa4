"""Packing: whole documents, each once, nearly no waste."""

from __future__ import annotations

import bisect
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from janus.data.pack import fullest, pack_stream


def fill(lengths: list[int], packs: list[list[int]], capacity: int) -> float:
    return sum(lengths) / (len(packs) * capacity)


def test_fullest_equals_trying_every_subset() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        lengths = generator.integers(1, 30, generator.integers(1, 9)).tolist()
        capacity = max(lengths[0], int(generator.integers(1, 80)))
        subsets = [
            (0, *others)
            for size in range(len(lengths))
            for others in itertools.combinations(range(1, len(lengths)), size)
        ]
        sums = {subset: sum(lengths[item] for item in subset) for subset in subsets}
        best = max(total for total in sums.values() if total <= capacity)
        chosen = tuple(fullest(lengths, capacity))
        assert sums[chosen] == best
        assert chosen == min((s for s in subsets if sums[s] == best), key=lambda subset: subset[::-1])


@pytest.mark.parametrize("seed", range(5))
def test_every_document_goes_whole_into_one_pack(seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(4, 1, 3000).astype(int), 1, 512).tolist()
    packs = pack_stream(lengths, 512)
    assert sorted(itertools.chain.from_iterable(packs)) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in pack) <= 512 for pack in packs)
    assert all(pack == sorted(pack) for pack in packs)


def test_no_document_waits_long() -> None:
    lengths = np.random.default_rng(1).integers(300, 1200, 5000).tolist()
    packs = pack_stream(lengths, 4096)
    mean = len(lengths) / len(packs)
    for number, pack in enumerate(packs):
        assert all(abs(index - number * mean) < 600 for index in pack)


def test_fill_of_384_pixel_mixtures() -> None:
    """Stage mixtures at paper shapes: 578 tokens of image and markers, plus captions; class names; text."""
    generator = np.random.default_rng(2)
    captions = 580 + np.clip(generator.lognormal(4.3, 0.7, 8000), 5, 400).astype(int)
    class_names = 580 + generator.integers(1, 9, 8000)
    text = np.clip(generator.lognormal(5.8, 1, 8000), 2, 4096).astype(int)
    for name, parts, ratio in [
        ("stage 1", (captions, class_names), (1, 1)),
        ("stage 2", (captions, text, captions[::-1]), (2, 3, 5)),
        ("stage 3", (captions, text, captions[::-1]), (7, 3, 10)),
    ]:
        count = min(len(part) // share for part, share in zip(parts, ratio, strict=True))
        lengths = np.concatenate([part[: count * share] for part, share in zip(parts, ratio, strict=True)])
        generator.shuffle(lengths)
        packs = pack_stream(lengths.tolist(), 4096)
        assert fill(lengths.tolist(), packs, 4096) >= 0.99, name


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """Packs that the standard offline rule needs when it may sort all documents: near the least possible."""
    room: list[int] = []
    packs = 0
    for length in sorted(lengths, reverse=True):
        place = bisect.bisect_left(room, length)
        if place == len(room):
            packs += 1
            bisect.insort(room, capacity - length)
        else:
            bisect.insort(room, room.pop(place) - length)
    return packs


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tokens(text: str) -> int:
    """A token has about 4 characters."""
    return len(text) // 4 + 1


def test_fill_of_real_lengths(shared_data: Path) -> None:
    """Interleaved MMC4 pages, C4 pages, chats and COCO captions, at 578 tokens an image, in the papers' ratios."""
    captions = [
        580 + tokens(caption)
        for item in read_jsonl(shared_data / "photos/coco/captions.jsonl")
        for caption in item["captions"]
    ]
    pages = [2 + tokens(page["text"]) for page in read_jsonl(shared_data / "text/c4_150.jsonl")]
    chats = [
        2 + sum(tokens(part["value"]) for message in chat["messages"] for part in message["content"])
        for chat in read_jsonl(shared_data / "text/sft_chat.jsonl")
    ]
    interleaved = [
        2 + 578 * len(page["image_info"]) + sum(map(tokens, page["text_list"]))
        for page in read_jsonl(shared_data / "text/interleaved_mmc4.jsonl")
    ]
    generator = np.random.default_rng(3)

    def mixture(parts: list[list[int]], ratio: tuple[int, int, int]) -> list[int]:
        kept = [[length for length in part if length <= 4096] for part in parts]
        drawn = [generator.choice(part, 1000 * share) for part, share in zip(kept, ratio, strict=True)]
        return generator.permutation(np.concatenate(drawn)).tolist()

    stage2 = mixture([interleaved, pages, captions], (2, 3, 5))
    assert fill(stage2, pack_stream(stage2, 4096), 4096) >= 0.98
    # Where lengths are all alike (short captions: 6 * 592 of 4096 tokens), no rule can fill packs: compare.
    for lengths in (
        stage2,
        mixture([captions, pages, captions], (1, 0, 1)),
        mixture([interleaved + captions, pages + chats, captions], (2, 3, 5)),
        mixture([interleaved + captions, chats, captions], (7, 3, 10)),
    ):
        assert len(pack_stream(lengths, 4096)) <= 1.01 * best_fit_decreasing(lengths, 4096)
