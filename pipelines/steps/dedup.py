"""Dedup: rows whose content, or whose picture, another row of the same task already brings (design D1, D4).

What a row is compared by is a matter of what it says. A picture to generate, or one with a caption, is its picture.
A page, a conversation or a text is the whole sample: several conversations about one picture are all wanted, and so
are two pages that share their pictures and not their text.

One row per group stays: of the earliest first snapshot (so that a refresh never takes back an older row), then one with
text before one without, then the largest picture, then the smallest uid. The rule is a total order over rows, so the
winners do not depend on sources, shards, workers or engine.

Near duplicates are decided as if rows were visited in that order, each kept unless a kept row lies within the Hamming
radius. Two 64-bit hashes that differ in at most r bits agree in at least one of r + 1 bands of bits, so candidates
meet in a GroupByKey by band value. What crosses it is 77 bytes per row, packed by shard: no pixel, no text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.filters import Filter
from pipelines.shardio import uid_array
from pipelines.steps.judge import fields_of, judge, standing
from pipelines.steps.signal_table import signal_table
from schemas.reasons import Drop, Outcome
from schemas.sample import Task
from schemas.spec import Dedup

ROWS_PER_PARTITION = 250_000
"""Of one group: what a worker holds in memory at a time (about 25 MB)."""

CANDIDATE = np.dtype(
    [
        ("content", "S32"),
        ("first_snapshot", "<i4"),
        ("wordless", "u1"),
        ("area", "<i8"),
        ("uid", "S16"),
        ("shard", "<u4"),
        ("row", "<u4"),
        ("phash", "<u8"),
    ]
)
RANK = ("row", "shard", "uid", "area", "wordless", "first_snapshot")
"""Fields of the order of preference, least significant first, as np.lexsort wants them; area counts downwards."""

LOSER = np.dtype([("shard", "<u4"), ("row", "<u4"), ("to_shard", "<u4"), ("to_row", "<u4"), ("winner", "S16")])
"""A row, the row it loses to, and that one's uid."""
EDGE = np.dtype([("one", "<u8"), ("other", "<u8")])


@dataclass(frozen=True)
class DedupWork:
    """One shard among those that are compared."""

    index: int
    """Its place in the order of all shards: the last tie-break."""
    paths: Mapping[str, str]
    """Of its layers."""
    task: Task
    first_snapshot: int
    filters: tuple[Filter, ...]
    gates: Mapping[str, Any]
    """What decides over its rows beside duplicates."""


@dataclass(frozen=True)
class Duplicate:
    """A row that loses to one that is kept."""

    row: int
    reason: Drop
    winner: str
    """Uid of the row that stays, hex."""


# ---------------------------------------------------------------------------------------------- on the workers


FIELDS = ("image.num_images", "image.width", "image.height", "image.sha256", "phash.hash", "text.chars")
"""Signals that rows are compared by."""


def candidates(corpus: Path, work: DedupWork) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a shard that pass its filters: CANDIDATE[N], and whether each takes part in the near comparison: bool[N].

    Only rows that are compared by exactly one picture do, and have a perceptual hash.
    """
    signals = signal_table(corpus, work.paths, {*FIELDS, *fields_of(work.filters)})
    messages = ledger.open_input(corpus, work.paths["rows"])[1].table(["messages"]).column("messages")
    ok = np.array(signals.column("image.outcome").to_pylist(), dtype=object) == Outcome.OK.value
    rows = np.flatnonzero(ok & standing(judge(signals, work.filters, work.gates)))
    picture = by_picture(messages, work.task)[rows]
    signals = signals.take(pa.array(rows))
    found = np.zeros(len(rows), dtype=CANDIDATE)
    uids = uid_array(signals.column("uid"))
    width = signals.column("image.width").fill_null(0).to_numpy().astype(np.int64)
    pictures = np.array(signals.column("image.sha256").to_pylist(), dtype="S32")
    found["content"] = np.where(picture, pictures, uids.astype("S32"))
    found["first_snapshot"] = work.first_snapshot
    found["wordless"] = signals.column("text.chars").to_numpy() == 0
    found["area"] = width * signals.column("image.height").fill_null(0).to_numpy()
    found["uid"] = uids
    found["shard"] = work.index
    found["row"] = rows
    found["phash"] = signals.column("phash.hash").fill_null(0).to_numpy()
    hashed = signals.column("phash.hash").is_valid().to_numpy()
    return found, picture & hashed & (signals.column("image.num_images").to_numpy() == 1)


def by_picture(messages: pa.ChunkedArray, task: Task) -> np.ndarray:
    """Which rows are compared by their pictures: those that generate one, and those of a single caption. bool[N]."""
    if task == "generation":
        return np.ones(len(messages), dtype=bool)
    lists = messages.combine_chunks()
    turns = pc.list_value_length(lists).to_numpy()
    caption = pc.equal(pc.struct_field(pc.list_flatten(lists), "role"), "caption").to_numpy(zero_copy_only=False)
    single = turns == 1
    found = single.copy()
    found[single] = caption[(np.cumsum(turns) - turns)[single]]
    return found


def bands(radius: int) -> list[tuple[int, int]]:
    """(shift, width) of the radius + 1 groups of bits that a 64-bit hash is cut into."""
    edges = np.linspace(0, 64, radius + 2).round().astype(int)
    return [(int(low), int(high - low)) for low, high in pairwise(edges)]


def band_values(hashes: np.ndarray, band: tuple[int, int]) -> np.ndarray:
    """The bits of `hashes` in `band`: uint64[N]."""
    shift, width = band
    return (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)


def parts(
    found: np.ndarray, near: np.ndarray, task: str, dedup: Dedup, partitions: int
) -> Iterator[tuple[tuple[str, int, int], bytes]]:
    """Key the candidates of one shard for the groups they must meet others in.

    The key is (task, band, partition), with band -1 for the exact comparison; the value holds packed CANDIDATEs.
    """
    if dedup.exact:
        start = np.ascontiguousarray(found["content"]).view("<u8")[::4]
        yield from _split((task, -1), found, start, partitions)
    if dedup.near_radius is not None:
        pictures = found[near]
        for index, band in enumerate(bands(dedup.near_radius)):
            yield from _split((task, index), pictures, band_values(pictures["phash"], band), partitions)


def _split(
    key: tuple[str, int], rows: np.ndarray, values: np.ndarray, partitions: int
) -> Iterator[tuple[tuple[str, int, int], bytes]]:
    place = values % np.uint64(partitions)
    for partition in np.unique(place):
        yield (*key, int(partition)), rows[place == partition].tobytes()


def preference(rows: np.ndarray, *first: np.ndarray) -> np.ndarray:
    """Indices that sort CANDIDATE rows by `first`, then by the order of preference (best first)."""
    keys = [-rows["area"] if name == "area" else rows[name] for name in RANK]
    return np.lexsort((*keys, *first))


def _leaders(rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `rows` sorted by `values`: the index of each row's leader (the first of its value), and who is one."""
    first = np.ones(len(rows), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0)), first


def losers(rows: np.ndarray, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Group CANDIDATE rows by `field`: LOSER[L] for all but the best of each group, and the best: CANDIDATE[G]."""
    rows = rows[preference(rows, rows[field])]
    leader, first = _leaders(rows, rows[field])
    lost = np.zeros(int((~first).sum()), dtype=LOSER)
    winners = rows[leader[~first]]
    for name in ("shard", "row"):
        lost[name], lost[f"to_{name}"] = rows[name][~first], winners[name]
    lost["winner"] = winners["uid"]
    return lost, rows[first]


def close_pairs(hashes: np.ndarray, band: tuple[int, int], radius: int) -> np.ndarray:
    """Pairs of distinct `hashes` that agree in `band` and differ in at most `radius` bits: EDGE[E]."""
    values = band_values(hashes, band)
    order = np.argsort(values, kind="stable")
    hashes, values = hashes[order], values[order]
    found = []
    at = np.arange(len(hashes))
    for step in range(1, len(hashes)):
        at = at[at + step < len(hashes)]
        at = at[values[at] == values[at + step]]
        if not len(at):
            break
        close = at[np.bitwise_count(hashes[at] ^ hashes[at + step]) <= radius]
        edges = np.zeros(len(close), dtype=EDGE)
        edges["one"], edges["other"] = hashes[close], hashes[close + step]
        found.append(edges)
    return np.concatenate(found) if found else np.empty(0, dtype=EDGE)


def match(band: int, packed: Iterable[bytes], radius: int | None) -> dict[str, np.ndarray]:
    """Compare the rows of one group. Returns `rows` (how many came), and

    - band -1: `losers` among rows of the same content;
    - other bands: `edges` between close hashes and `best`, the preferred row of every hash in one; from band 0, which
      holds every hash once, also `losers` among rows of the same hash.
    """
    rows = np.frombuffer(b"".join(packed), dtype=CANDIDATE)
    if band < 0:
        lost, _ = losers(rows, "content")
        return {"rows": np.array(len(rows)), "losers": lost}
    assert radius is not None
    lost, best = losers(rows, "phash")
    edges = close_pairs(best["phash"], bands(radius)[band], radius)
    involved = np.isin(best["phash"], np.concatenate([edges["one"], edges["other"]]))
    result = {"rows": np.array(len(rows)), "edges": edges, "best": best[involved]}
    return result | ({"losers": lost} if band == 0 else {})


# ------------------------------------------------------------------------------------------ in the main process


def resolve(best: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Visit hashes in order of preference; each is kept unless close to a kept one: LOSER[L], of the rows in `best`.

    Args:
        best: CANDIDATE[H], the preferred row of each hash; may repeat.
        edges: EDGE[E], may repeat.
    """
    best = best[np.unique(best["phash"], return_index=True)[1]]
    best = best[preference(best)]
    place = {int(value): index for index, value in enumerate(best["phash"])}
    neighbours: dict[int, set[int]] = defaultdict(set)
    for one, other in np.unique(edges).tolist():
        a, b = sorted((place[one], place[other]))
        neighbours[b].add(a)
    winners: dict[int, int] = {}
    for index in range(len(best)):
        kept = [before for before in neighbours[index] if before not in winners]
        if kept:
            winners[index] = min(kept)
    lost = np.zeros(len(winners), dtype=LOSER)
    losing, winning = best[list(winners)], best[list(winners.values())]
    for name in ("shard", "row"):
        lost[name], lost[f"to_{name}"] = losing[name], winning[name]
    lost["winner"] = winning["uid"]
    return lost


def combine(groups: Iterable[tuple[str, int, dict[str, np.ndarray]]]) -> dict[int, list[Duplicate]]:
    """Duplicates by shard index from the matched groups (task, band, arrays). An exact one is called exact.

    A row may lose to one that loses itself: an exact copy of a picture that is close to a third. It is a duplicate of
    the one at the end, which is kept. There is an end, for each is preferred to the one before.
    """
    near: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    exact: list[np.ndarray] = []
    for task, band, arrays in groups:
        if band < 0:
            exact.append(arrays["losers"])
            continue
        for name in ("losers", "edges", "best"):
            if name in arrays:
                near[task][name].append(arrays[name])
    verdicts: dict[tuple[int, int], tuple[Drop, tuple[int, int], bytes]] = {}
    losing = [
        (Drop.DUPLICATE_NEAR, resolve(np.concatenate(found_by["best"]), np.concatenate(found_by["edges"])))
        for found_by in near.values()
    ]
    losing += [(Drop.DUPLICATE_NEAR, lost) for found_by in near.values() for lost in found_by["losers"]]
    losing += [(Drop.DUPLICATE_EXACT, lost) for lost in exact]
    for reason, lost in losing:
        for shard, row, to_shard, to_row, winner in lost.tolist():
            verdicts[shard, row] = reason, (to_shard, to_row), winner
    found: dict[int, list[Duplicate]] = defaultdict(list)
    for (shard, row), (reason, place, winner) in sorted(verdicts.items()):
        while place in verdicts:
            _, place, winner = verdicts[place]
        found[shard].append(Duplicate(row, reason, winner.ljust(16, b"\0").hex()))
    return found
