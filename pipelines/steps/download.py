"""Download: the original bytes of every image, one outcome per row, and where they came from.

A row's images are fetched or read, checked from their headers only, and stored as they arrived. What cannot be had is
a row too: its outcome says why. Rows are written one by one while the engine fetches ahead, so that memory holds what
the engine has ready and what the writer gathers for a batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janus.images import ImageProblem
from pipelines import ledger
from pipelines.fetch import Fetched, Fetcher, check_picture, make_fetcher
from pipelines.reading.local import LocalImages, TooLarge
from pipelines.reading.refs import root_of
from pipelines.shardio import ShardReader, ShardWriter
from pipelines.steps.context import Build, LayerWork, Shard, judge_layer, make_layer
from schemas.layers import RAW
from schemas.manifest import ShardManifest
from schemas.reasons import Outcome
from schemas.sample import ImageRef
from schemas.spec import Limits, Operations, Source

VERSION = 3

Image = dict[str, Any]
"""One entry of the column `images` of the raw layer."""


@dataclass(frozen=True)
class DownloadStep:
    """Makes one raw shard from one rows shard."""

    corpus: Path
    sources: Mapping[str, Source]
    limits: Limits
    operations: Operations
    notes: Path
    """Folder in which the workers of this build share what they learn about hosts."""

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: LayerWork[str | None], advance: Callable[[int], None]) -> None:
        """Fetch, check and commit one shard; `work.extra` is the path of an earlier attempt to improve on, or None."""
        counts: Counter[str] = Counter()
        output = self.corpus / work.output
        fetcher = make_fetcher(self.limits, self.operations, self.notes)
        with contextlib.closing(fetcher), ShardWriter(output, RAW) as writer:
            for row in self._rows(work, fetcher):
                writer.write(row)
                counts[row["outcome"]] += 1
                advance(1)
        if work.extra and transient(counts) == transient(ledger.load_manifest(self.corpus, work.extra).counts):
            output.unlink()
            return
        work.commit(self.corpus, writer.written, counts)

    def _rows(self, work: LayerWork[str | None], fetcher: Fetcher) -> Iterator[dict[str, Any]]:
        """The raw rows of a shard. Of an earlier attempt, all but transient failures are kept."""
        _, reader = ledger.open_input(self.corpus, work.shard.path("rows"))
        earlier: Iterable[dict[str, Any] | None] = itertools.repeat(None, reader.rows)
        keep = [False] * reader.rows
        if work.extra:
            _, attempt = ledger.open_input(self.corpus, work.extra)
            keep = [not Outcome(name).transient for name in attempt.table(["outcome"])["outcome"].to_pylist()]
            earlier = _one_by_one(attempt)
        wanted = [
            ImageRef.model_validate(fields)
            for images, kept in zip(reader.table(["images"])["images"].to_pylist(), keep, strict=True)
            if not kept
            for fields in images
        ]
        source = self.sources[work.shard.source]
        root = root_of(source) if any(ref.path is not None for ref in wanted) else Path(source.path)
        refs, fetched = iter(wanted), fetcher.fetch_many([ref.url for ref in wanted if ref.url is not None])
        folder = (self.corpus / work.output).parent
        with contextlib.closing(LocalImages(wanted, root, folder, self.limits.max_bytes)) as local:
            rows = (row for batch in reader.batches() for row in batch.to_pylist())
            for row, old, kept in zip(rows, earlier, keep, strict=True):
                if kept and old is not None:
                    yield old
                else:
                    images = [self._load(ref, fetched, local) for ref in itertools.islice(refs, len(row["images"]))]
                    failed = [image["outcome"] for image in images if image["outcome"] != Outcome.OK]
                    yield {
                        "uid": row["uid"],
                        "key": row["key"],
                        "messages": row["messages"],
                        "licence": row["licence"],
                        "outcome": failed[0] if failed else Outcome.OK.value,
                        "images": images,
                    }

    def _load(self, ref: ImageRef, fetched: Iterator[Fetched], local: LocalImages) -> Image:
        """The entry for one image; `fetched` has the answer to its address next, if it has one."""
        if ref.url is None:
            outcome, data = read_local(ref, local)
            image = _image(Fetched("", outcome, data), None)
        else:
            image = _image(next(fetched), ref.url)
        return _checked(image, ref, self.limits)


def read_local(ref: ImageRef, local: LocalImages) -> tuple[Outcome, bytes | None]:
    """Read a local image."""
    try:
        return Outcome.OK, local.read(ref)
    except FileNotFoundError:
        return Outcome.MISSING_FILE, None
    except TooLarge:
        return Outcome.TOO_LARGE, None


def _image(result: Fetched, url: str | None) -> Image:
    return {
        "bytes": result.data,
        "outcome": result.outcome.value,
        "sha256": None,
        "url": url,
        "final_url": result.final_url,
        "http_status": result.http_status,
        "detail": result.detail,
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
        reserved = check_picture(data, limits)
    except ImageProblem as problem:
        return {**image, "outcome": problem.outcome.value, "bytes": None}
    if reserved is not None:
        return {**image, "outcome": Outcome.OPTED_OUT.value, "bytes": None, "detail": reserved}
    return image


def _one_by_one(reader: ShardReader) -> Iterator[dict[str, Any]]:
    """The rows of a shard, with one at a time in memory."""
    for batch in reader.batches():
        for index in range(batch.num_rows):
            yield batch.slice(index, 1).to_pylist()[0]


def step_spec(limits: Limits) -> ledger.StepSpec:
    """What raw shards depend on, besides their rows and the world. The download engine is not among it."""
    return ledger.StepSpec("raw", VERSION, limits.model_dump(mode="json", exclude_defaults=True))


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
    spec = step_spec(build.spec.limits)
    attempts = {source.name: ledger.manifests(build.corpus, "raw", source.name) for source in build.spec.sources}
    heads = {
        shard.path("rows"): latest_attempt(
            attempts[shard.source].get(shard.name, ()), shard.layers["rows"].sha256, spec.config_digest
        )
        for shard in shards
    }
    step = DownloadStep(
        build.corpus,
        {source.name: source for source in build.spec.sources},
        build.spec.limits,
        build.operations,
        build.scratch / "hosts",
    )
    first: list[LayerWork[str | None]] = [
        build.work(shard, spec, shard.inputs("rows"), None) for shard in shards if heads[shard.path("rows")] is None
    ]
    done = {shard.path("rows"): shard for shard in make_layer(build, "download", lambda: step, first)}
    retries = []
    for shard in shards:
        head = heads[shard.path("rows")]
        if head is not None:
            done[shard.path("rows")] = shard.with_layers(head)
            if build.operations.retry_transient and transient(head.counts):
                inputs = {**shard.inputs("rows"), "raw": head.sha256}
                retries.append(build.work(shard, spec, inputs, ledger.path_of(head)))
    build.run("retry", step, [(work.shard.label, work) for work in retries])
    for work in retries:
        # Absent where no row did better: then the earlier attempt stands.
        if (better := ledger.find(build.corpus, work.output)) is not None:
            done[work.shard.path("rows")] = work.shard.with_layers(better)
    found = [done[shard.path("rows")] for shard in shards]
    judge_layer(build, "download", found, "raw")
    return found
