"""Download: the original bytes of every image, one outcome per row, and where they came from.

A row's images are fetched or read, checked from their headers only, and stored as they arrived. What cannot be had is
a row too: its outcome says why.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janus.images import ImageProblem, inspect
from pipelines import ledger
from pipelines.fetch import Fetcher, make_fetcher
from pipelines.shardio import ShardWriter
from pipelines.sources.refs import read_image_bytes, root_of
from pipelines.steps.context import Build, LayerWork, Shard, judge_layer, make_layer
from pipelines.steps.prefetch import chunks
from schemas.manifest import ShardManifest
from schemas.reasons import Outcome
from schemas.sample import ImageRef
from schemas.spec import Limits, Operations, Source

VERSION = 1
FETCH_ROWS = 256
"""Rows whose images are fetched together and held in memory: enough to keep all connections busy."""

Image = dict[str, Any]
"""One entry of the column `images` of the raw layer."""


@dataclass(frozen=True)
class DownloadStep:
    """Makes one raw shard from one rows shard."""

    corpus: Path
    sources: Mapping[str, Source]
    limits: Limits
    operations: Operations

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: LayerWork, advance: Callable[[int], None]) -> None:
        """Fetch, check and commit one shard; `work.extra` is the path of an earlier attempt to improve on, or None."""
        shard = work.shard
        _, reader = ledger.open_input(self.corpus, shard.path("rows"))
        earlier = _rows(self.corpus, work.extra) if work.extra else None
        # img2dataset takes seconds to start, so it is started once per shard.
        size = shard.rows if self.operations.download_engine == "img2dataset" else FETCH_ROWS
        counts: Counter[str] = Counter()
        output = self.corpus / work.output
        fetcher = make_fetcher(self.limits, self.operations)
        with contextlib.closing(fetcher), ShardWriter(output, "raw") as writer:
            for rows in chunks((row for batch in reader.batches() for row in batch.to_pylist()), max(1, size)):
                for row in self._load(fetcher, rows, earlier, self.sources[shard.source]):
                    writer.write(row)
                    counts[row["outcome"]] += 1
                advance(len(rows))
        if work.extra and transient(counts) == transient(ledger.load_manifest(self.corpus, work.extra).counts):
            output.unlink()
            return
        work.commit(self.corpus, writer.written, counts)

    def _load(
        self, fetcher: Fetcher, rows: Sequence[dict[str, Any]], earlier: Iterable[dict[str, Any]] | None, source: Source
    ) -> Iterable[dict[str, Any]]:
        """Raw rows for `rows`. Of `earlier` (the same rows, an attempt before) all but transient failures are kept."""
        kept: list[dict[str, Any] | None] = [None] * len(rows)
        if earlier is not None:
            iterator = iter(earlier)
            kept = [None if Outcome(row["outcome"]).transient else row for row in (next(iterator) for _ in rows)]
        wanted = [
            ref["url"]
            for row, old in zip(rows, kept, strict=True)
            if old is None
            for ref in row["images"]
            if ref["url"]
        ]
        fetched = iter(fetcher.fetch_many(wanted) if wanted else ())
        for row, old in zip(rows, kept, strict=True):
            if old is not None:
                yield old
                continue
            images = []
            for fields in row["images"]:
                ref = ImageRef.model_validate(fields)
                if ref.url is None:
                    outcome, data = read_local(ref, source, self.limits)
                    image = _image(outcome, data, None, None, None)
                else:
                    result = next(fetched)
                    image = _image(result.outcome, result.data, ref.url, result.final_url, result.http_status)
                images.append(_checked(image, ref, self.limits))
            failed = [image["outcome"] for image in images if image["outcome"] != Outcome.OK]
            yield {
                "uid": row["uid"],
                "key": row["key"],
                "messages": row["messages"],
                "licence": row["licence"],
                "outcome": failed[0] if failed else Outcome.OK.value,
                "images": images,
            }


def read_local(ref: ImageRef, source: Source, limits: Limits) -> tuple[Outcome, bytes | None]:
    """Read a local image within the byte cap."""
    try:
        data = read_image_bytes(ref, root_of(source))
    except FileNotFoundError:
        return Outcome.MISSING_FILE, None
    return (Outcome.TOO_LARGE, None) if len(data) > limits.max_bytes else (Outcome.OK, data)


def _image(outcome: Outcome, data: bytes | None, url: str | None, final_url: str | None, status: int | None) -> Image:
    return {
        "bytes": data,
        "outcome": outcome.value,
        "sha256": None,
        "url": url,
        "final_url": final_url,
        "http_status": status,
    }


def _checked(image: Image, ref: ImageRef, limits: Limits) -> Image:
    """`image` with its hash, and with its bytes let go if they are not an image or not the one that was named."""
    if image["outcome"] != Outcome.OK:
        return {**image, "bytes": None}
    data = image["bytes"]
    sha256 = hashlib.sha256(data)
    image = {**image, "sha256": sha256.digest()}
    if ref.sha256 is not None and ref.sha256 != sha256.hexdigest():
        return {**image, "outcome": Outcome.HASH_MISMATCH.value, "bytes": None}
    try:
        inspect(data, max_pixels=limits.max_pixels)
    except ImageProblem as problem:
        return {**image, "outcome": problem.outcome.value, "bytes": None}
    return image


def _rows(corpus: Path, path: str) -> Iterable[dict[str, Any]]:
    _, reader = ledger.open_input(corpus, path)
    for batch in reader.batches():
        yield from batch.to_pylist()


def recipe(limits: Limits) -> ledger.Recipe:
    """What raw shards depend on, besides their rows and the world. The download engine is not among it."""
    return ledger.Recipe("raw", VERSION, limits.model_dump(mode="json"))


def latest_attempt(attempts: Sequence[ShardManifest], rows_sha256: str, config: str) -> ShardManifest | None:
    """The last of a chain of attempts at one shard.

    The first attempt's input is the rows shard; each retry's inputs are the rows shard and the attempt it improves on.
    So attempts are content-addressed like everything else, and the last one is the one that is no other's input.
    """
    chain = [m for m in attempts if m.inputs.get("rows") == rows_sha256 and m.config == config]
    superseded = {manifest.inputs.get("raw") for manifest in chain}
    heads = [manifest for manifest in chain if manifest.sha256 not in superseded]
    return min(heads, key=lambda manifest: manifest.key) if heads else None


def transient(counts: Mapping[str, int]) -> int:
    """Rows that a retry could help."""
    return sum(count for name, count in counts.items() if Outcome(name).transient)


def download(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the raw layer. With `operations.retry_transient`, rows whose outcome was transient are tried once more."""
    how = recipe(build.spec.limits)
    attempts = {source.name: ledger.manifests(build.corpus, "raw", source.name) for source in build.spec.sources}
    heads = {
        shard.path("rows"): latest_attempt(
            attempts[shard.source].get(shard.name, ()), shard.layers["rows"].sha256, how.config_digest
        )
        for shard in shards
    }
    step = DownloadStep(
        build.corpus,
        {source.name: source for source in build.spec.sources},
        build.spec.limits,
        build.operations,
    )
    first = [build.work(shard, how, shard.inputs("rows")) for shard in shards if heads[shard.path("rows")] is None]
    done = {shard.path("rows"): shard for shard in make_layer(build, "download", lambda: step, first)}
    retries = []
    for shard in shards:
        head = heads[shard.path("rows")]
        if head is not None:
            done[shard.path("rows")] = shard.with_layer(head)
            if build.operations.retry_transient and transient(head.counts):
                inputs = {**shard.inputs("rows"), "raw": head.sha256}
                retries.append(build.work(shard, how, inputs, ledger.path_of(head)))
    build.run("retry", step, [(work.shard.label, work) for work in retries])
    for work in retries:
        # Absent where no row did better: then the earlier attempt stands.
        if (better := ledger.find(build.corpus, work.output)) is not None:
            done[work.shard.path("rows")] = work.shard.with_layer(better)
    found = [done[shard.path("rows")] for shard in shards]
    judge_layer(build, "download", found, "raw")
    return found
