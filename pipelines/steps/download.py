"""Download: the original bytes of every image, one outcome per row, and where they came from.

A row's images are fetched or read, checked from their headers only, and stored as they arrived. What cannot be had is
a row too: its outcome says why. Rows are written one by one while the engine fetches ahead, so that memory holds what
the engine has ready and what the writer gathers for a batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janus.images import ImageProblem
from pipelines import ledger
from pipelines.fetch import Fetched, Fetcher, check_picture, make_fetcher
from pipelines.reading.errors import RowError
from pipelines.reading.local import LocalImages, TooLarge, gates_of
from pipelines.shardio import ShardReader, ShardWriter
from pipelines.steps.context import Build, LayerWork, Shard, judge_layer, make_layer
from pipelines.steps.lost_images import check_lost, raw_row
from schemas.layers import RAW
from schemas.manifest import ShardManifest
from schemas.reasons import Outcome
from schemas.sample import ImageRef
from schemas.spec import Limits, Operations, Source
from storage.store import Store

VERSION = 3

Image = dict[str, Any]
"""One entry of the column `images` of the raw layer."""


@dataclass(frozen=True)
class DownloadStep:
    """Makes one raw shard from one rows shard."""

    corpus: Store
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
        lost = images = 0
        fetcher = make_fetcher(self.limits, self.operations, self.notes)
        with contextlib.closing(fetcher), ShardWriter(self.corpus, work.output, RAW) as writer:
            for row in self._rows(work, fetcher):
                writer.write(row)
                counts[row["outcome"]] += 1
                lost += len(row["lost_images"])
                images += len(row["images"]) + len(row["lost_images"])
                advance(1)
            check_lost(lost, images, work.max_failed_share)  # in here, so that no file is left of such a shard
        if work.extra and transient(counts) == transient(ledger.load_manifest(self.corpus, work.extra).counts):
            assert writer.written is not None
            self.corpus.delete_content(work.output, writer.written.sha256)
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
        gates = gates_of(source) if any(ref.path is not None for ref in wanted) else {}
        refs, fetched = iter(wanted), fetcher.fetch_many([ref.url for ref in wanted if ref.url is not None])
        with contextlib.closing(LocalImages(wanted, gates, self._room(work), self.limits.max_bytes)) as local:
            rows = (row for batch in reader.batches() for row in batch.to_pylist())
            for row, old, kept in zip(rows, earlier, keep, strict=True):
                if kept and old is not None:
                    yield old
                else:
                    images = [self._load(ref, fetched, local) for ref in itertools.islice(refs, len(row["images"]))]
                    yield raw_row(row, images, drop_images=source.missing_image == "drop_image")

    def _room(self, work: LayerWork[str | None]) -> Path:
        """An existing folder for temporary files: on the corpus's disk, if it lies on one."""
        if self.corpus.folder is None:
            return Path(tempfile.gettempdir())
        return (self.corpus.folder / work.output).parent

    def _load(self, ref: ImageRef, fetched: Iterator[Fetched], local: LocalImages) -> Image:
        """The entry for one image; `fetched` has the answer to its address next, if it has one."""
        if ref.url is None:
            outcome, data = read_local(ref, local)
            image = _image(Fetched("", outcome, data), None)
        else:
            image = _image(next(fetched), ref.url)
        return _checked(image, ref, self.limits)


def _notes_folder(build: Build) -> Path:
    """Where workers share what they learn about hosts during this build: beside the corpus, else on each machine."""
    if build.scratch.folder is not None:
        return build.scratch.folder / "hosts"
    return Path(tempfile.gettempdir()) / f"janus-forge-hosts-{uuid.uuid4().hex}"


def read_local(ref: ImageRef, local: LocalImages) -> tuple[Outcome, bytes | None]:
    """Read a local image."""
    try:
        return Outcome.OK, local.read(ref)
    except FileNotFoundError:
        return Outcome.MISSING_FILE, None
    except TooLarge:
        return Outcome.TOO_LARGE, None
    except RowError as error:
        return error.outcome, None


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


def step_spec(limits: Limits, missing_image: str = "drop_page") -> ledger.StepSpec:
    """What raw shards depend on, besides their rows and the world. The download engine is not among it."""
    config = limits.model_dump(mode="json", exclude_defaults=True)
    return ledger.StepSpec(
        "raw", VERSION, config if missing_image == "drop_page" else {**config, "missing_image": missing_image}
    )


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
    specs = {source.name: step_spec(build.spec.limits, source.missing_image) for source in build.spec.sources}
    attempts = {source.name: ledger.manifests(build.corpus, "raw", source.name) for source in build.spec.sources}
    heads = {
        shard.path("rows"): latest_attempt(
            attempts[shard.source].get(shard.name, ()), shard.layers["rows"].sha256, specs[shard.source].config_digest
        )
        for shard in shards
    }
    step = DownloadStep(
        build.corpus,
        {source.name: source for source in build.spec.sources},
        build.spec.limits,
        build.operations,
        _notes_folder(build),
    )
    first: list[LayerWork[str | None]] = [
        build.work(shard, specs[shard.source], shard.inputs("rows"), None)
        for shard in shards
        if heads[shard.path("rows")] is None
    ]
    done = {shard.path("rows"): shard for shard in make_layer(build, "download", lambda: step, first)}
    retries = []
    for shard in shards:
        head = heads[shard.path("rows")]
        if head is not None:
            done[shard.path("rows")] = shard.with_layers(head)
            if build.operations.retry_transient and transient(head.counts):
                inputs = {**shard.inputs("rows"), "raw": head.sha256}
                retries.append(build.work(shard, specs[shard.source], inputs, ledger.path_of(head)))
    build.run("retry", step, [(work.shard.label, work) for work in retries])
    for work, better in zip(retries, ledger.find_all(build.corpus, [work.output for work in retries]), strict=True):
        # Absent where no row did better: then the earlier attempt stands.
        if better is not None:
            done[work.shard.path("rows")] = work.shard.with_layers(better)
    found = [done[shard.path("rows")] for shard in shards]
    judge_layer(build, "download", found, "raw")
    return found
