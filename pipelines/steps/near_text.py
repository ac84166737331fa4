"""Near texts: pairs of MinHash signatures that agree in a share of their places, at bounded cost per text (design D16).

Locality-sensitive hashing (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3): a signature is cut into
bands of some places each. Texts of Jaccard similarity s agree in a whole band of r places with probability s^r, and in
one of b bands with 1 - (1 - s^r)^b. `bands_for` takes the longest bands that miss no more than MISSED of the pairs at
the threshold. What agrees in a band is then compared by the whole signature.

In a band on which many texts agree (a page that a thousand sites repeat, with small changes), each is compared with the
LEADERS preferred ones only: those are the ones that it can lose to.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipelines.signals.minhash import PLACES

U64 = npt.NDArray[np.uint64]

BAND = np.dtype([("key", "<u8"), ("rank", "<u8"), ("hash", "<u8")])
"""A text where it meets others: of its band, its place in the order of preference, itself."""
MISSED = 0.01
LEADERS = 16
_MULTIPLIERS = np.random.default_rng(0).integers(0, 2**64, PLACES + 2, np.uint64) | np.uint64(1)


def bands_for(jaccard: float) -> tuple[int, int]:
    """Number of bands and their length, for pairs of at least this similarity."""
    for length in range(PLACES, 1, -1):
        if (1 - jaccard**length) ** (PLACES // length) <= MISSED:
            return PLACES // length, length
    return PLACES, 1


def band_keys(signatures: npt.NDArray[np.uint16], pictures: U64, jaccard: float) -> Iterator[U64]:
    """What texts agree in if they agree in a band and have the same pictures: uint64[N] for each band.

    Args:
        signatures: uint16[N, PLACES].
        pictures: uint64[N], a hash of the pictures of each.
        jaccard: the threshold.
    """
    count, length = bands_for(jaccard)
    for band in range(count):
        own = slice(band * length, (band + 1) * length)
        key = (signatures[:, own].astype(np.uint64) * _MULTIPLIERS[own]).sum(axis=1, dtype=np.uint64)
        yield (key + pictures * _MULTIPLIERS[PLACES]) * _MULTIPLIERS[PLACES + 1] + np.uint64(band)


def meetings(found: np.ndarray) -> tuple[U64, U64]:
    """Pairs to compare among the texts of a place.

    Args:
        found: BAND[N], all that have one of some keys.

    Returns:
        uint64[P], uint64[P]: the hashes of both, the smaller first; each pair once.
    """
    found = found[np.lexsort((found["hash"], found["rank"], found["key"]))]
    start = np.ones(len(found), bool)
    start[1:] = found["key"][1:] != found["key"][:-1]
    first = np.maximum.accumulate(np.where(start, np.arange(len(found)), 0))
    pairs = []
    for leader in range(LEADERS):
        at = np.flatnonzero(np.arange(len(found)) - first > leader)
        if not len(at):
            break
        one, other = found["hash"][first[at] + leader], found["hash"][at]
        pairs.append(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1))
    both = np.unique(np.concatenate([np.empty((0, 2), np.uint64), *pairs]), axis=0)
    return both[:, 0], both[:, 1]


def similar(ones: npt.NDArray[np.uint16], others: npt.NDArray[np.uint16], jaccard: float) -> npt.NDArray[np.bool_]:
    """Whether signatures uint16[N, PLACES] agree in at least that share of their places: bool[N]."""
    return (ones == others).sum(axis=1) >= jaccard * PLACES - 1e-9
