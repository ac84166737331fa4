"""The passes in which pictures meet those of a like embedding (design D16); see dedup_passes.py and near_embedding.py.

best       writes, of every distinct picture of a part, its embedding, and some of them for the sample
cluster    the samples            → centroids
assign     a part of the pictures → the same by the places of their clusters
cosines    clusters of one place  → pairs that are similar enough

`cluster` is one worker's work per task: it holds at most 131,072 embeddings, however many rows there are.
"""

from __future__ import annotations

import numpy as np

from pipelines.steps.comparison import Comparison, PassWork
from pipelines.steps.dedup import rank, vector_type
from pipelines.steps.near import EDGE
from pipelines.steps.near_embedding import NEAREST, SAMPLE, alike, centroids_of, nearest
from storage.store import Store


def embedding_type(width: int) -> np.dtype:
    """A picture that is compared by its embedding: its hash, its place in the order of preference, its embedding."""
    return np.dtype([("hash", "<u8"), ("rank", "<u8"), ("vector", "<i2", (width,))])


def centroid_type(width: int) -> np.dtype:
    """A centroid."""
    return np.dtype([("vector", "<i2", (width,))])


def member_type(width: int) -> np.dtype:
    """A picture in a cluster."""
    return np.dtype([("cluster", "<u4"), ("of", embedding_type(width))])


def send_embeddings(c: Comparison, part: int, rows: np.ndarray) -> None:
    """Hand over the distinct pictures of a part, CANDIDATE[N], which have an embedding."""
    vectors = c.exchange("vectors", vector_type(c.width)).read(part, c.groups)
    uids, first = np.unique(vectors["uid"], return_index=True)  # a row that two sources have is there twice
    rows = rows[np.isin(rows["uid"], uids)]
    found = np.empty(len(rows), embedding_type(c.width))
    found["hash"], found["rank"] = rows["hash"], rank(rows)
    found["vector"] = vectors["vector"][first[np.searchsorted(uids, rows["uid"])]]
    whole = np.zeros(len(found), np.int64)
    c.exchange("embeddings", found.dtype).write(part, found, whole, 1)
    sample = _sampled(c, found)
    c.exchange("sample", found.dtype).write(part, sample, whole[: len(sample)], 1)


def _sampled(c: Comparison, found: np.ndarray) -> np.ndarray:
    """Those of the pictures that are in the sample, if these are all there are; in its order."""
    return found[np.argsort(c.mixed(found["hash"]))[: SAMPLE * c.clusters]]


def cluster(corpus: Store, work: PassWork) -> None:
    """The centroids of a task."""
    c = work.comparison
    sample = _sampled(c, c.exchange("sample", embedding_type(c.width)).read(0, c.parts))
    centroids = centroids_of(sample["vector"], c.clusters)
    found = np.empty(len(centroids), centroid_type(c.width))
    found["vector"] = centroids
    c.exchange("centroids", found.dtype).write(0, found, np.zeros(len(found), np.int64), 1)


def assign(corpus: Store, work: PassWork) -> None:
    """The pictures of a part, by the places of the clusters that they are in."""
    c = work.comparison
    centroids = c.exchange("centroids", centroid_type(c.width)).read(0, 1)["vector"]
    pictures = c.exchange("embeddings", embedding_type(c.width)).read_from(work.index, 0)
    clusters = nearest(pictures["vector"], centroids, NEAREST)
    found = np.empty(clusters.size, member_type(c.width))
    found["cluster"], found["of"] = clusters.ravel(), np.repeat(pictures, clusters.shape[1])
    place = clusters.ravel() % c.cluster_places
    c.exchange("members", found.dtype).write(work.index, found, place, c.cluster_places)


def cosines(corpus: Store, work: PassWork) -> None:
    """Pairs that are similar enough in the clusters of a place."""
    c = work.comparison
    assert c.dedup.embedding_cosine is not None
    members = c.exchange("members", member_type(c.width)).read(work.index, c.parts)
    members = members[np.lexsort((members["of"]["hash"], members["of"]["rank"], members["cluster"]))]
    starts = np.unique(members["cluster"], return_index=True)[1]
    pairs = [np.empty(0, EDGE)]
    for own in np.split(members["of"], starts[1:]):
        before, after = alike(own["vector"], c.dedup.embedding_cosine)
        edges = np.empty(len(before), EDGE)
        edges["one"], edges["other"] = own["hash"][before], own["hash"][after]
        pairs.append(edges)
    edges = np.concatenate(pairs)
    c.exchange("embedding edges", EDGE).write(work.index, edges, np.zeros(len(edges), np.int64), 1)
