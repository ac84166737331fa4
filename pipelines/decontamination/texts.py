"""Texts as hashes of runs of words, alike whatever their case, punctuation, spacing and forms of letters."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Khmer, kana, Han: scripts without spaces between words. Each character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of a text: NFKC, case-folded; letters and digits only."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@lru_cache(1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _multiplier(place: int) -> int:
    return int.from_bytes(blake2b(place.to_bytes(4, "little"), digest_size=8).digest(), "little") | 1


def ngrams(found: list[str], length: int) -> U64:
    """A hash of every run of `length` words, in order: uint64[max(0, len(found) - length + 1)]."""
    if len(found) < length:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, found), np.uint64, len(found))
    runs = len(found) - length + 1
    total = np.zeros(runs, np.uint64)
    for place in range(length):  # sums modulo 2**64; a multiplier for each place tells orders of words apart
        total += hashes[place : place + runs] * np.uint64(_multiplier(place))
    return total


def whole(found: list[str]) -> int:
    """A hash of all words."""
    return int(ngrams(found, len(found))[0] ^ np.uint64(_multiplier(len(found))))
