"""Near pictures by embedding: pairs of at least a cosine, looked for within clusters (SemDeDup, arXiv 2303.09540).

K-means over a sample of the vectors gives clusters of some CLUSTER_ROWS vectors; a vector is compared with those that
share one of its NEAREST nearest clusters. Pairs that share none are missed: few at the cosines of duplicates. A corpus
of less than CLUSTER_ROWS rows is one cluster.

The outcome must not depend on the BLAS, its threads or the order of rows. So vectors are scaled to length NORM and
rounded to integers: by Cauchy-Schwarz each partial sum of a dot product is an integer below 2^24 (for up to 30,000
components, whose rounding adds 87 to the length at most), which float32 holds exactly, in whatever order it is summed.
The rounding changes a cosine by some 1e-4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]

NORM = 4000
NEAREST = 2
CLUSTER_ROWS = 4096
MOST_CLUSTERS = 8192
SAMPLE = 16
"""Vectors of the sample for each cluster."""
ITERATIONS = 10
LEADERS = 16
"""Most edges of a vector to those preferred to it in one cluster."""
BLOCK = 2048
"""Vectors that are multiplied with as many at a time."""


def clusters_for(rows: int) -> int:
    """Number of clusters for a corpus of so many rows."""
    return min(MOST_CLUSTERS, 1 + rows // CLUSTER_ROWS)


def rounded(vectors: npt.NDArray[np.float16]) -> tuple[I16, npt.NDArray[np.bool_]]:
    """Vectors float16[N, D] of about unit length as integers.

    Returns:
        int16[M, D]; which of the N they are: bool[N]. Those with NaN or infinity, or of zeros, are left out.
    """
    exact = vectors.astype(np.float64)
    # Squares of float16 are multiples of 2^-48: float64 adds them without rounding.
    squares = (exact * exact).sum(axis=1)
    usable = np.isfinite(squares) & (squares > 0)
    return _scaled(exact[usable], np.sqrt(squares[usable])), usable


def _scaled(vectors: npt.NDArray[np.float64], lengths: npt.NDArray[np.float64]) -> I16:
    return np.rint(vectors * (NORM / lengths)[:, None]).astype(np.int16)


def centroids_of(sample: I16, count: int) -> I16:
    """Spherical k-means over int16[S, D], from its first `count` vectors: int16[K, D], K = min(count, S)."""
    found = sample[:count].copy()
    for _ in range(ITERATIONS):
        own = nearest(sample, found, 1)[:, 0]
        order = np.argsort(own, kind="stable")
        clusters, starts = np.unique(own[order], return_index=True)
        for cluster, members in zip(clusters.tolist(), np.split(order, starts[1:]), strict=True):
            total = sample[members].sum(axis=0, dtype=np.int64)
            if square := int((total * total).sum()):
                found[cluster] = _scaled(total[None].astype(np.float64), np.sqrt([float(square)]))[0]
    return found


def nearest(vectors: I16, centroids: I16, count: int) -> I64:
    """The `count` nearest of K centroids of each of N vectors, at most all: int64[N, min(count, K)].

    Of equally near ones the first.
    """
    found = np.empty((len(vectors), min(count, len(centroids))), np.int64)
    transposed = centroids.astype(np.float32).T
    for start in range(0, len(vectors), BLOCK):
        dots = vectors[start : start + BLOCK].astype(np.float32) @ transposed
        for place in range(found.shape[1]):
            best = dots.argmax(axis=1)
            found[start : start + BLOCK, place] = best
            dots[np.arange(len(dots)), best] = -np.inf
    return found


def alike(vectors: I16, cosine: float) -> tuple[I64, I64]:
    """Pairs of at least that cosine among int16[N, D] in order of preference.

    Of a vector with more than LEADERS such before it, the pairs with the first of these: duplicates in great number (a
    placeholder on every page) make no more than so many edges each.

    Returns:
        int64[P], int64[P]: the place of the preferred one of each pair, and of the other.
    """
    lengths = np.sqrt(np.square(vectors, dtype=np.int64).sum(axis=1).astype(np.float64))
    low = cosine * float(lengths.min(initial=NORM)) ** 2 - 2  # float32 rounds it: what is over it is looked at again
    before, after = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(vectors), BLOCK):
        own = vectors[start : start + BLOCK].astype(np.float32)
        taken = np.zeros(len(own), np.int64)
        for first in range(0, start + len(own), BLOCK):
            dots = own @ vectors[first : first + BLOCK].astype(np.float32).T
            row, column = np.nonzero(dots > low)
            least = cosine * lengths[start + row] * lengths[first + column] * (1 - 1e-12)
            close = (dots[row, column] >= least) & (first + column < start + row)
            row, column = row[close], column[close]
            place = taken[row] + np.arange(len(row)) - np.searchsorted(row, row)
            taken += np.bincount(row, minlength=len(own))
            leading = place < LEADERS
            before.append(first + column[leading])
            after.append(start + row[leading])
    return np.concatenate(before), np.concatenate(after)
