"""Tokenize: rows ready to train on (DESIGN D6): token ids, loss mask, VQ codes, SigLIP input.

Kept rows are taken in order, decoded ahead of the device, and their generated images encoded in batches that fill it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from janus.images import ImageProblem, load_rgb
from pipelines import ledger
from pipelines.shardio import ShardWriter
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.device import Device, pick_device, single_thread
from pipelines.steps.prefetch import chunks, ordered_map
from schemas.manifest import Fingerprints
from schemas.reasons import Drop, Outcome
from schemas.sample import Message, Task
from schemas.spec import Limits, Source, Tokenize

VERSION = 1
JPEG_QUALITY = 95
"""With 4:4:4 chroma: 40 dB to the pixels, a sixth of their size (docs/corpus-format.md)."""


@dataclass(frozen=True)
class Prepared:
    """A kept row on its way to the device."""

    row: dict[str, Any] | None
    """Columns of the train layer, codes left out; None if the row is dropped here."""
    reason: Drop = Drop.KEPT
    images: tuple[np.ndarray, ...] = ()
    """Generated images still to be encoded: uint8[S, S, 3] each."""


@dataclass
class TokenizeStep:
    """Makes one train shard from a raw shard and its decisions; `work.extra` is the source's template."""

    corpus: Path
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
        from janus.model.processor import Processor

        self.processor = Processor.from_folder(self.model)
        self.device = pick_device(self.wanted_device, cpu_batch=16, cuda_batch=64)
        if self.with_codes:
            import torch

            from janus.model.vq import load_vq

            # float32 on every device: the nearest of 16,384 codes can flip in half precision.
            self.vq = load_vq(self.model, device=self.device.name, dtype=torch.float32)

    def run(self, work: LayerWork, advance: Callable[[int], None]) -> None:
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
        prepared = ordered_map(
            lambda row: self._prepare(row, shard.task, work.extra),
            self._kept(shard, keep),
            threads=self.device.threads,
            ahead=2 * self.device.batch,
        )
        with ShardWriter(self.corpus / work.output, "train") as writer, single_thread():
            for chunk in chunks(prepared, self.device.batch):
                codes = iter(self._encode([image for item in chunk for image in item.images]))
                for item in chunk:
                    counts[item.reason.value] += 1
                    if item.row is not None:
                        own = [next(codes) for _ in item.images]
                        writer.write({**item.row, "codes": np.concatenate(own) if own else None})
                advance(len(chunk))
        assert writer.written is not None
        ledger.commit(
            self.corpus,
            work.recipe,
            source=shard.source,
            task=shard.task,
            shard=shard.name,
            inputs=work.inputs,
            written=writer.written,
            counts=counts,
        )

    def _kept(self, shard: Shard, keep: Sequence[bool]) -> Iterator[dict[str, Any]]:
        _, reader = ledger.open_input(self.corpus, shard.path("raw"))
        first = 0
        for batch in reader.batches():
            wanted = np.flatnonzero(keep[first : first + batch.num_rows])
            first += batch.num_rows
            if len(wanted):
                yield from batch.take(wanted).to_pylist()

    def _prepare(self, row: dict[str, Any], task: Task, template: Literal["plain", "describe", "chat"]) -> Prepared:
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
            "pixels": None,
            "length": len(ids),
            "short_length": len(ids if short is None else short),
        }
        if generation:
            return Prepared(columns, images=tuple(self.processor.generation_pixels(image) for image in images))
        if images:
            columns["pixels"] = [self._stored(self.processor.understanding_pixels(image)) for image in images]
        return Prepared(columns)

    def _stored(self, pixels: np.ndarray) -> bytes:
        """uint8[S, S, 3] as the spec stores it."""
        if self.settings.pixels == "raw":
            return pixels.tobytes()
        import simplejpeg

        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="444", fastdct=False
        )

    def _encode(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """VQ codes of images uint8[S, S, 3]: uint16[N_g] each."""
        if not images:
            return []
        import torch

        from janus.model.vq import encode_codes

        assert self.device is not None
        pixels = self.processor.normalize(torch.from_numpy(np.stack(images)).to(self.device.name))
        return list(encode_codes(self.vq, pixels).cpu().numpy().astype(np.uint16))


def recipe(source: Source, limits: Limits, settings: Tokenize, fingerprints: Fingerprints) -> ledger.Recipe:
    """What a train shard depends on, besides raw bytes and decisions."""
    config = {
        "template": source.template,
        "task": source.task,
        "max_pixels": limits.max_pixels,
        **settings.model_dump(mode="json"),
    }
    prints = {name: str(value) for name, value in fingerprints.model_dump().items()}
    return ledger.Recipe("train", VERSION, config, prints)


def tokenize(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the train layer."""
    spec = build.spec
    works = [
        LayerWork(
            shard,
            recipe(build.source(shard.source), spec.limits, spec.tokenize, build.fingerprints),
            shard.inputs("raw", "decision"),
            build.source(shard.source).template,
        )
        for shard in shards
    ]

    def step() -> TokenizeStep:
        with_codes = any(source.task == "generation" for source in spec.sources)
        return TokenizeStep(
            build.corpus, spec.models.janus, spec.limits, spec.tokenize, build.operations.device, with_codes
        )

    return make_layer(build, "tokenize", step, works)
