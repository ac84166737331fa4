"""Tokenize: rows ready to train on (design D6): token ids, loss mask, VQ codes, SigLIP input.

Kept rows are taken in order, decoded ahead of the device, and their generated images encoded in batches that fill it.
Rows that an earlier train shard already has, made from the same raw shard in the same way (before a threshold changed,
say), are copied from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from janus.images import ImageProblem, load_rgb
from pipelines import ledger
from pipelines.recaption.said import said_instead
from pipelines.shardio import ShardReader, ShardWriter
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.device import Device, pick_device, reproducible
from pipelines.steps.prefetch import chunks, ordered_map
from pipelines.steps.summary import summarise
from schemas.layers import TRAIN
from schemas.manifest import Fingerprints, ShardManifest
from schemas.reasons import Drop, Outcome
from schemas.sample import Message, Task, Template
from schemas.spec import Limits, Source, Tokenize
from storage.store import Store

VERSION = 3
JPEG_QUALITY = 95
"""With 4:4:4 chroma: 40 dB to the pixels, a sixth of their size (docs/corpus-format.md)."""


@dataclass(frozen=True)
class Prepared:
    """A kept row on its way to the device."""

    row: dict[str, Any] | None
    """Columns of the train layer; None if the row is dropped here."""
    reason: Drop = Drop.KEPT
    images: tuple[np.ndarray, ...] = ()
    """Generated images still to be encoded into the row's codes: uint8[S, S, 3] each."""


@dataclass(frozen=True)
class TokenizeWork:
    """What is particular to one shard."""

    template: Template
    earlier: tuple[str, ...]
    """Paths of train shards over the same raw shard, made with the same settings and models."""


class Earlier:
    """Rows of earlier train shards, by uid. Reads nothing but the uids until a row is asked for."""

    def __init__(self, corpus: Store, paths: Sequence[str]) -> None:
        self._places: dict[bytes, tuple[pa.Table, int]] = {}
        for path in paths:
            table = ledger.open_input(corpus, path)[1].table()
            for index, uid in enumerate(table.column("uid").to_pylist()):
                self._places[uid] = (table, index)

    def get(self, uid: bytes) -> dict[str, Any] | None:
        """The row as it was, or None."""
        if uid not in self._places:
            return None
        table, index = self._places[uid]
        return table.slice(index, 1).to_pylist()[0]


@dataclass
class TokenizeStep:
    """Makes one train shard from a raw shard and its decisions; `work.extra` is a TokenizeWork."""

    corpus: Store
    model: str
    limits: Limits
    settings: Tokenize
    wanted_device: str
    with_codes: bool
    """Whether any source here generates images: otherwise no VQ tokenizer is loaded."""
    processor: Any = None
    device: Device | None = None
    vq: Any = None

    def setup(self) -> None:
        """Load the processor and, if needed, the VQ tokenizer."""
        from janus.model.checkpoints.model_folder import load_processor, load_vq

        self.processor = load_processor(self.model)
        self.device = pick_device(self.wanted_device, cpu_batch=16, cuda_batch=64)
        if self.with_codes:
            import torch

            self.vq = load_vq(self.model, device=self.device.name, dtype=torch.float32)

    def run(self, work: LayerWork[TokenizeWork], advance: Callable[[int], None]) -> None:
        """Tokenize and commit one shard."""
        assert self.device is not None
        shard = work.shard
        decision, decided = ledger.open_input(self.corpus, shard.path("decision"))
        counts = Counter(decision.counts)
        counts[Drop.KEPT.value] = 0
        table = decided.table(["outcome", "reason"])
        keep = [
            outcome == Outcome.OK and reason is None
            for outcome, reason in zip(table["outcome"].to_pylist(), table["reason"].to_pylist(), strict=True)
        ]
        _, raw = ledger.open_input(self.corpus, shard.path("raw"))
        prepared = ordered_map(
            lambda row: row if isinstance(row, Prepared) else self._prepare(row, shard.task, work.extra.template),
            self._kept(raw, said_instead(self.corpus, shard.paths), keep, Earlier(self.corpus, work.extra.earlier)),
            threads=self.device.threads,
            ahead=2 * self.device.batch,
        )
        uids: list[bytes] = []
        lengths: list[int] = []
        with ShardWriter(self.corpus, work.output, TRAIN) as writer:
            for item in self._with_codes(prepared):
                counts[item.reason.value] += 1
                if item.row is not None:
                    writer.write(item.row)
                    uids.append(item.row["uid"])
                    lengths.append(item.row["length"])
                advance(1)
        work.commit(self.corpus, writer.written, counts, summarise(uids, lengths, raw.table(["uid", "licence"])))

    def _kept(
        self, raw: ShardReader, said: pa.ChunkedArray | None, keep: Sequence[bool], earlier: Earlier
    ) -> Iterator[dict[str, Any] | Prepared]:
        """The kept rows in order: as they are in the raw shard, or finished where an earlier train shard has them."""
        first = 0
        for batch in raw.batches():
            uids = batch.column("uid").to_pylist()
            for index in np.flatnonzero(keep[first : first + batch.num_rows]).tolist():
                row = earlier.get(uids[index])
                if row is not None:
                    yield Prepared(row)
                    continue
                found = batch.slice(index, 1).to_pylist()[0]
                yield found if said is None else {**found, "messages": said[first + index].as_py()}
            first += batch.num_rows

    def _prepare(self, row: dict[str, Any], task: Task, template: Template) -> Prepared:
        from janus.model.templates import TemplateError, encode_sample

        messages = [Message.model_validate(message) for message in row["messages"]]
        try:
            encoded = encode_sample(self.processor, task=task, template=template, messages=messages)
        except TemplateError:
            return Prepared(None, Drop.TOKENIZE_FAILED)
        ids = np.array(encoded.input_ids, dtype=np.int32)
        generation = task == "generation"
        per_image = self.processor.generation_tokens if generation else self.processor.understanding_tokens
        if np.count_nonzero(ids == self.processor.image_id) != per_image * len(row["images"]):
            return Prepared(None, Drop.TOKENIZE_FAILED)
        if len(ids) > self.settings.max_length:
            return Prepared(None, Drop.TOO_LONG)
        try:
            images = [load_rgb(image["bytes"], max_pixels=self.limits.max_pixels) for image in row["images"]]
        except ImageProblem:
            return Prepared(None, Drop.TOKENIZE_FAILED)
        short = encoded.short_ids
        columns = {
            "uid": row["uid"],
            "input_ids": ids,
            "loss_mask": np.array(encoded.loss_mask, dtype=bool),
            "short_ids": None if short is None else np.array(short, dtype=np.int32),
            "codes": None,
            "pixels": None,
            "length": len(ids),
            "short_length": len(ids if short is None else short),
        }
        if generation:
            return Prepared(columns, images=tuple(self.processor.generation_pixels(image) for image in images))
        if images:
            pixels = [self.processor.understanding_pixels(image) for image in images]
            columns["pixels"] = [stored_pixels(image, self.settings) for image in pixels]
        return Prepared(columns)

    def _with_codes(self, prepared: Iterable[Prepared]) -> Iterator[Prepared]:
        """The same rows in the same order, each as soon as a batch with its images is full."""
        assert self.device is not None
        waiting: list[Prepared] = []
        images: list[np.ndarray] = []
        for item in prepared:
            waiting.append(item)
            images += item.images
            if not images or len(images) >= self.device.batch:
                yield from self._finished(waiting, images)
                waiting, images = [], []
        yield from self._finished(waiting, images)

    def _finished(self, waiting: Sequence[Prepared], images: Sequence[np.ndarray]) -> Iterator[Prepared]:
        codes = iter(self._encode(images))
        for item in waiting:
            if item.row is None or not item.images:
                yield item
            else:
                yield Prepared({**item.row, "codes": np.concatenate([next(codes) for _ in item.images])})

    def _encode(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """VQ codes of images uint8[S, S, 3]: uint16[N_g] each."""
        import torch

        from janus.model.vq import encode_codes

        assert self.device is not None
        codes: list[np.ndarray] = []
        for batch in chunks(images, self.device.batch):
            # Always the same batch size: kernels are picked by shape, and another one could turn the last bit of a sum.
            full = np.stack([*batch, *[batch[-1]] * (self.device.batch - len(batch))])
            with reproducible(self.settings.vq_precision, self.device.name):
                pixels = self.processor.normalize(torch.from_numpy(full).to(self.device.name))
                codes += list(encode_codes(self.vq, pixels)[: len(batch)].cpu().numpy().astype(np.uint16))
        return codes


def stored_pixels(pixels: np.ndarray, settings: Tokenize) -> bytes:
    """uint8[S, S, 3] as the spec stores it."""
    if settings.pixels == "raw":
        return pixels.tobytes()
    import simplejpeg

    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444", fastdct=False
    )


def step_spec(source: Source, limits: Limits, settings: Tokenize, fingerprints: Fingerprints) -> ledger.StepSpec:
    """What a train shard depends on, besides raw bytes and decisions."""
    config = {
        "template": source.template,
        "task": source.task,
        **limits.model_dump(mode="json", include={"max_pixels"}, exclude_defaults=True),
        **settings.model_dump(mode="json", exclude_defaults=True),
    }
    prints = {name: str(value) for name, value in fingerprints.model_dump().items()}
    return ledger.StepSpec("train", VERSION, config, prints)


def reusable(manifests: Sequence[ShardManifest], spec: ledger.StepSpec, inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Paths of those train shards whose rows would come out the same again."""
    same = (spec.config_digest, spec.fingerprints, {**inputs})
    found = (m for m in manifests if (m.config, m.fingerprints, _content(m.inputs)) == same)
    return tuple(ledger.path_of(manifest) for manifest in found)


def _content(inputs: Mapping[str, str]) -> dict[str, str]:
    """Those inputs of a train shard that rows are made from; decisions say which."""
    return {layer: sha256 for layer, sha256 in inputs.items() if layer != "decision"}


def tokenize(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the train layer."""
    spec = build.spec
    made = {source.name: ledger.manifests(build.corpus, "train", source.name) for source in spec.sources}
    works = []
    for shard in shards:
        source = build.source(shard.source)
        how = step_spec(source, spec.limits, spec.tokenize, build.fingerprints)
        inputs = shard.inputs("raw", shard.says, "decision")
        earlier = reusable(made[source.name].get(shard.name, ()), how, _content(inputs))
        extra = TokenizeWork(source.template, earlier)
        works.append(build.work(shard, how, inputs, extra))

    def step() -> TokenizeStep:
        with_codes = any(source.task == "generation" for source in spec.sources)
        return TokenizeStep(
            build.corpus, spec.models.janus, spec.limits, spec.tokenize, build.operations.device, with_codes
        )

    return make_layer(build, "tokenize", step, works)
