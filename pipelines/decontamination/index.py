"""What rows are looked up in: hashes of the pictures and texts of evaluation sets, each with the item it is of.

Where several items match, the first of them counts, in the order of the sets' names, their files and their rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.decontamination.sets import Item, items_of
from pipelines.decontamination.texts import U64, ngrams, whole, words
from pipelines.steps.near import piece_values, pieces_of
from schemas.sample import IMAGE_MARK
from schemas.spec import Decontaminate

NONE = np.iinfo(np.int64).max
"""Stands for no item."""
LEAST_BITS = 24
"""Set in a perceptual hash that is compared: half of 64 are above the median, but of a flat picture, where nearly all
coefficients are equal. Flat pictures hash alike, so they are compared by their bytes alone."""


@dataclass(frozen=True)
class Table:
    """Distinct hashes, sorted, and the first item of each."""

    hashes: U64
    items: npt.NDArray[np.int64]

    @classmethod
    def of(cls, hashes: U64, items: npt.NDArray[np.int64]) -> Table:
        """From hashes in any order, uint64[N], and the item of each, int64[N]."""
        order = np.lexsort((items, hashes))
        hashes, items = hashes[order], items[order]
        first = np.ones(len(hashes), bool)
        first[1:] = hashes[1:] != hashes[:-1]
        return cls(hashes[first], items[first])

    def first(self, values: U64) -> int:
        """The first item that has one of `values`, or NONE."""
        if not len(self.hashes) or not len(values):
            return NONE
        at = np.searchsorted(self.hashes, values).clip(max=len(self.hashes) - 1)
        hit = at[self.hashes[at] == values]
        return int(self.items[hit].min()) if len(hit) else NONE


@dataclass
class Index:
    """All evaluation sets of a corpus."""

    names: tuple[str, ...]
    """Of the items."""
    sha256: dict[bytes, int]
    phash: Table
    runs: Table
    """Of n-grams."""
    lines: Table
    """Of texts shorter than an n-gram."""
    settings: Decontaminate
    _by_piece: list[tuple[U64, npt.NDArray[np.int64]]] = field(default_factory=list)

    def by_text(self, texts: Iterable[str]) -> int:
        """The first item that one of the messages of a row holds, or NONE."""
        found = NONE
        for text in texts:
            text = text.replace(IMAGE_MARK, "\n")
            said = words(text)
            found = min(found, self.runs.first(ngrams(said, self.settings.ngram)))
            if len(self.lines.hashes):
                short = [said, *(words(line) for line in text.split("\n"))] if "\n" in text else [said]
                hashes = [whole(one) for one in short if self.settings.min_words <= len(one) < self.settings.ngram]
                found = min(found, self.lines.first(np.array(hashes, np.uint64)))
        return found

    def by_phash(self, hashes: U64) -> npt.NDArray[np.int64]:
        """For each of `hashes`, uint64[N], the first item within the radius, or NONE: int64[N].

        Two hashes that differ in at most r bits agree in one of r + 1 pieces at least.
        """
        found = np.full(len(hashes), NONE)
        radius, theirs = self.settings.phash_radius, self.phash
        if radius is None or not len(theirs.hashes):
            return found
        pieces = pieces_of(radius + 1)
        if not self._by_piece:
            for piece in pieces:
                values = piece_values(theirs.hashes, piece)
                order = np.argsort(values, kind="stable")
                self._by_piece.append((values[order], order))
        for piece, (values, order) in zip(pieces, self._by_piece, strict=True):
            own = piece_values(hashes, piece)
            begin, end = np.searchsorted(values, own, "left"), np.searchsorted(values, own, "right")
            counts = end - begin
            row = np.repeat(np.arange(len(hashes)), counts)
            at = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[row]
            other = order[at]
            close = np.bitwise_count(hashes[row] ^ theirs.hashes[other]) <= radius
            np.minimum.at(found, row[close], theirs.items[other[close]])
        return found

    def to_bytes(self) -> bytes:
        """For workers; see `from_bytes`."""
        file = io.BytesIO()
        arrays = {
            "names": np.frombuffer("\n".join(self.names).encode(), np.uint8),
            "sha256": np.frombuffer(b"".join(self.sha256), np.uint8),
            "sha256_items": np.array(list(self.sha256.values()), np.int64),
        }
        for name in ("phash", "runs", "lines"):
            table: Table = getattr(self, name)
            arrays |= {name: table.hashes, f"{name}_items": table.items}
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes each for `allow_pickle`
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, settings: Decontaminate) -> Index:
        """What `to_bytes` of an index with these settings gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            phash, runs, lines = (Table(arrays[name], arrays[f"{name}_items"]) for name in ("phash", "runs", "lines"))
            hashes = arrays["sha256"].tobytes()
            sha256 = {hashes[32 * at : 32 * at + 32]: int(item) for at, item in enumerate(arrays["sha256_items"])}
            return cls(tuple(arrays["names"].tobytes().decode().split("\n")), sha256, phash, runs, lines, settings)


def make_index(settings: Decontaminate) -> Index:
    """The index of the sets of a spec.

    Raises ValueError or FileNotFoundError with one line: a set cannot be read, or has nothing to compare.
    """
    names: list[str] = []
    sha256: dict[bytes, int] = {}
    kinds: Mapping[str, tuple[list[U64], list[int]]] = {kind: ([], []) for kind in ("phash", "runs", "lines")}

    def note(kind: str, hashes: U64, item: int) -> bool:
        kinds[kind][0].append(hashes)
        kinds[kind][1].append(item)
        return True

    def add(item: Item) -> bool:
        """Whether anything of it can be compared."""
        number, some = len(names), False
        names.append(" ".join(item.name.split("\n")))
        if item.sha256 is not None:
            sha256.setdefault(item.sha256, number)
            some = True
        if item.phash is not None and item.phash.bit_count() >= LEAST_BITS:
            some = note("phash", np.array([item.phash], np.uint64), number)
        for text in item.texts:
            said = words(text)
            if len(said) >= settings.ngram:
                some = note("runs", ngrams(said, settings.ngram), number)
            elif len(said) >= settings.min_words:
                some = note("lines", np.array([whole(said)], np.uint64), number)
        return some

    for name, path in sorted(settings.sets.items()):
        if not sum(add(item) for item in items_of(name, path)):
            raise ValueError(
                f"decontaminate.sets.{name}: {path}: nothing to compare in it: no pictures, and all texts are shorter "
                f"than {settings.min_words} words (decontaminate.min_words)"
            )
    phash, runs, lines = (_table(*found) for found in kinds.values())
    return Index(tuple(names), sha256, phash, runs, lines, settings)


def _table(hashes: Sequence[U64], items: Sequence[int]) -> Table:
    """From some hashes of each item."""
    lengths = np.array([len(one) for one in hashes], np.int64)
    return Table.of(np.concatenate([np.empty(0, np.uint64), *hashes]), np.repeat(np.array(items, np.int64), lengths))
