"""What a build would take: rows, images to fetch, bytes on disk, tokens, GPU hours, models. Nothing is written.

    python -m pipelines.build SPEC --corpus DIR --dry-run

Everything is taken from the first rows of each source and from how many there are. What filters and duplicates will
drop is not known beforehand, except for filters that keep a given share: the train layer, tokens and GPU hours are
those of a corpus of which nothing else is dropped.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from janus.cli import Collected
from janus.images import ImageProblem, load_rgb
from pipelines.preflight import SECONDS, Look, check_settings
from pipelines.reading.count import Count, base_key, rows_in_files
from pipelines.reading.errors import RowError
from pipelines.reading.local import LocalImages, TooLarge, gates_of
from pipelines.selection import Selection, select
from pipelines.signals import Signal
from pipelines.steps.context import signal_spec
from pipelines.steps.plan import row_of
from pipelines.steps.tokenize import stored_pixels
from schemas.layers import DECISION, RAW, RECAPTION, ROWS, TRAIN
from schemas.manifest import Snapshot, latest_name, load_snapshot
from schemas.printable import printable
from schemas.sample import ImageRef, Sample
from schemas.spec import CorpusSpec, Source
from storage.places import Place, as_store

IMAGES_PER_SECOND = 200.0
"""That a GPU encodes, by default: see `schemas.spec.Tokenize.vq_precision`."""
WEB_IMAGE_BYTES = 150_000
"""Assumed of an image that is not fetched yet."""
JPEG_BYTES_PER_PIXEL = 0.58
"""Of the pixels in the train layer: 164 MiB for 2,000 photos of 384 px (docs/corpus-format.md)."""
MANIFEST_BYTES = 1000
"""Of the manifest of a shard, about."""
PICTURES = 32
"""Local images of each source that are opened."""
ONE_TO_ONE = ("parquet_images", "url_list")
"""Formats that make one sample of each row, whatever is in it."""
LAYERS = ("rows", "raw", "recaption", "signals", "decision", "train")


@dataclass(frozen=True)
class Estimate:
    """Of one source."""

    source: str
    rows: Count
    new: int
    """Rows that the corpus does not have yet; what follows is for these."""
    to_fetch: int
    """Images by address."""
    bytes: Mapping[str, int]
    """By layer, signals taken together."""
    tokens: int | None
    """None without a model to count them."""
    gpu_images: int
    """Images that models look at: the VQ tokenizer, and signals with a model."""
    captions: int
    """That a model is to write."""


def dry_run(
    spec: CorpusSpec, corpus: Place, mistakes: Collected, images_per_second: float = IMAGES_PER_SECOND
) -> tuple[str, list[Estimate]]:
    """What a build of `spec` into `corpus` would take, as a text for people and in numbers.

    What is wrong with the spec, its sources or models is put into `mistakes`; what can be estimated in spite of it is.
    Raises ValueError or FileNotFoundError if the corpus cannot be read or is another one.
    """
    from janus.model.checkpoints.fingerprint import fingerprints
    from janus.model.checkpoints.model_folder import load_processor

    store = as_store(corpus)
    snapshot = load_snapshot(store) if latest_name(store) is not None else None
    if snapshot is not None and snapshot.corpus != spec.name:
        raise ValueError(f"{store.url}: holds corpus {snapshot.corpus!r}; build {spec.name!r} into another folder")
    looks = [Look(spec, source) for source in spec.sources]
    for look in looks:
        look.start()
    until = time.monotonic() + SECONDS
    selections: dict[str, Selection] = {}
    with contextlib.suppress(ValueError):
        selections = select(spec)
    check_settings(spec, mistakes)
    processor = None
    with mistakes:
        fingerprints(spec.models.janus, spec.tokenize.pixels)
        processor = load_processor(spec.models.janus)
    models = [f"model janus {printable(spec.models.janus)}: {'not ' if processor is None else ''}there"]
    signals = {s.name: s for selection in selections.values() for s in selection.signals if s.batched}
    models += map(_presence, signals.values())
    found: list[Estimate] = []
    for look in looks:
        look.finish(until)
        mistakes.errors += look.mistakes.errors
        if not look.mistakes.errors:
            with mistakes:
                found.append(_estimate(spec, look, selections.get(look.source.name), processor, snapshot))
    return "\n".join([*_table(found, images_per_second), *_notes(spec, found, images_per_second), *models]), found


def _presence(signal: Signal) -> str:
    options = " ".join(str(value) for value in signal.options.model_dump(exclude_defaults=True).values())
    try:
        signal_spec(signal)
        there = "there" if signal.fingerprint() else "fetched when it is first used"
    except (ValueError, OSError):
        there = "not there"
    return f"model {printable(f'{signal.name} {options}')}: {there}"


def _estimate(
    spec: CorpusSpec, look: Look, selection: Selection | None, processor: Any, snapshot: Snapshot | None
) -> Estimate:
    source, samples = look.source, list(look.samples)
    rows = rows_of(look)
    known = snapshot.funnel.get(source.name, {}).get("rows", 0) if snapshot else 0
    new = max(0, rows.rows - known)
    kept = _kept_share(selection)
    number = max(1, len(samples))
    images = [image for sample in samples for image in sample.images]
    pictures = _pictures(source, [image for image in images if image.sha256 is not None and image.path], spec)
    local = round(sum(map(len, pictures)) / len(pictures)) if pictures else WEB_IMAGE_BYTES
    image_bytes = sum(WEB_IMAGE_BYTES if image.url is not None else local for image in images)
    tokens, train = _train(spec, source, samples, pictures, processor)
    shards = math.ceil(new / spec.shard_rows)
    signals = selection.signals if selection else ()
    sizes = {
        "rows": _size(ROWS, [row_of(sample) for sample in samples], new, shards),
        "raw": _size(RAW, [_raw(sample) for sample in samples], new, shards) + round(image_bytes * new / number),
        "recaption": _size(RECAPTION, [_recaption(sample) for sample in samples], new, shards) * bool(source.recaption),
        "signals": sum(_size(signal.schema, [_uid(sample) for sample in samples], new, shards) for signal in signals),
        "decision": _size(DECISION, [_uid(sample) | {"outcome": "ok"} for sample in samples], new, shards),
        "train": _size(TRAIN, train, round(new * kept * len(train) / number), shards) if processor else 0,
    }
    passes = sum(signal.batched for signal in signals) + (kept if source.task == "generation" else 0)
    return Estimate(
        source.name,
        rows,
        new,
        round(new * sum(image.url is not None for image in images) / number),
        sizes,
        None if processor is None else round(tokens * new * kept / number),
        round(new * len(images) / number * passes),
        round(new * source.recaption * sum(_is_captioned(sample) for sample in samples) / number),
    )


def rows_of(look: Look) -> Count:
    """Rows of the source: as many as the look met, or as many as its files hold, at the rate it met them."""
    source, account = look.source, look.account
    joined = bool(source.options.get("join"))
    if look.complete or not look.samples:
        return Count(account.rows, look.complete and not joined)
    read = len({base_key(sample.key) for sample in look.samples}) + account.failed.total() + account.skipped.total()
    files = rows_in_files(source, look.samples[0].key)
    rows = max(account.rows, round(files.rows * account.rows / read))
    exact = files.exact and source.format in ONE_TO_ONE and not joined and source.where is None
    return Count(rows if source.limit is None else min(rows, source.limit), exact)


def _kept_share(selection: Selection | None) -> float:
    """Of the rows, after the filters that keep a share of them."""
    options = [(filter.name, filter.options) for filter in selection.filters] if selection else []
    return math.prod(getattr(o, {"rank": "keep", "sample": "share"}[n]) for n, o in options if n in ("rank", "sample"))


def _pictures(source: Source, images: Sequence[ImageRef], spec: CorpusSpec) -> list[bytes]:
    found = []
    places = Path(tempfile.gettempdir())
    with contextlib.closing(LocalImages(images[:PICTURES], gates_of(source), places, spec.limits.max_bytes)) as opened:
        for image in images[:PICTURES]:
            with contextlib.suppress(FileNotFoundError, TooLarge, RowError):
                found.append(opened.read(image))
    return found


def _train(
    spec: CorpusSpec, source: Source, samples: Sequence[Sample], pictures: Sequence[bytes], processor: Any
) -> tuple[int, list[dict[str, Any]]]:
    """Tokens of the samples that fit, and their rows in the train layer, with zeros for codes and pixels."""
    from janus.model.templates import TemplateError, encode_sample

    if processor is None:
        return 0, []
    stored: list[int] = []
    for picture in pictures if source.task == "understanding" else ():
        with contextlib.suppress(ImageProblem):
            pixels = processor.understanding_pixels(load_rgb(picture, max_pixels=spec.limits.max_pixels))
            stored.append(len(stored_pixels(pixels, spec.tokenize)))
    area = processor.image_size**2
    assumed = 3 * area if spec.tokenize.pixels == "raw" else round(JPEG_BYTES_PER_PIXEL * area)
    per_image = round(sum(stored) / len(stored)) if stored else assumed
    tokens, rows = 0, []
    for sample in samples:
        try:
            encoded = encode_sample(processor, task=source.task, template=source.template, messages=sample.messages)
        except TemplateError:
            continue
        if len(encoded.input_ids) > spec.tokenize.max_length:
            continue
        codes = processor.generation_tokens * len(sample.images) if source.task == "generation" else 0
        understood = len(sample.images) if source.task == "understanding" else 0
        tokens += len(encoded.input_ids)
        rows.append(
            {
                "uid": sample.uid,
                "input_ids": encoded.input_ids,
                "loss_mask": encoded.loss_mask,
                "short_ids": encoded.short_ids,
                "codes": np.zeros(codes, np.uint16) if codes else None,
                "pixels": [bytes(per_image)] * understood or None,
                "length": len(encoded.input_ids),
                "short_length": len(encoded.short_ids or encoded.input_ids),
            }
        )
    return tokens, rows


def _uid(sample: Sample) -> dict[str, Any]:
    return {"uid": sample.uid}


def _is_captioned(sample: Sample) -> bool:
    """Whether a model can be asked for another caption of it."""
    return bool(sample.images) and any(message.role == "caption" for message in sample.messages)


def _recaption(sample: Sample) -> dict[str, Any]:
    """The row of the recaption layer, of a new caption as long as the source's."""
    return {"uid": sample.uid, "caption": sample.messages[0].text, "used": True, "messages": row_of(sample)["messages"]}


def _raw(sample: Sample) -> dict[str, Any]:
    """The row of the raw layer but for the bytes of its images."""
    row = {**row_of(sample), "lost_images": []}
    row["images"] = [
        {"bytes": b"", "outcome": "ok", "sha256": bytes(32), "url": image.url, "final_url": image.url}
        for image in sample.images
    ]
    return row


def _size(schema: pa.Schema, rows: Sequence[Mapping[str, Any]], total: int, shards: int) -> int:
    """Bytes of `total` rows like these in so many shards, manifests included."""
    empty, full = _written(schema, []), _written(schema, rows)
    return round(shards * (empty + MANIFEST_BYTES) + total * (full - empty) / max(1, len(rows)))


def _written(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> int:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        if rows:
            columns = [{name: row[name] for name in schema.names if name in row} for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(columns, schema=schema))
    return int(sink.getvalue().size)


def _table(found: Sequence[Estimate], images_per_second: float) -> list[str]:
    layers = [layer for layer in LAYERS if layer != "recaption" or any(one.captions for one in found)]
    header = ["source", "rows", "new", "to fetch", *layers, "disk", "tokens", "GPU hours"]
    lines = [header]
    for one in found:
        lines.append(
            [
                printable(one.source),
                f"{'' if one.rows.exact else 'about '}{one.rows.rows:,}",
                f"{one.new:,}",
                f"{one.to_fetch:,}",
                *(_bytes(one.bytes[layer]) for layer in layers),
                _bytes(sum(one.bytes.values())),
                "?" if one.tokens is None else f"{one.tokens:,}",
                f"{one.gpu_images / images_per_second / 3600:.2f}",
            ]
        )
    if len(found) > 1:
        total = {layer: sum(one.bytes[layer] for one in found) for layer in LAYERS}
        exact = all(one.rows.exact for one in found)
        lines.append(
            [
                "all",
                f"{'' if exact else 'about '}{sum(one.rows.rows for one in found):,}",
                f"{sum(one.new for one in found):,}",
                f"{sum(one.to_fetch for one in found):,}",
                *(_bytes(total[layer]) for layer in layers),
                _bytes(sum(total.values())),
                "?" if any(one.tokens is None for one in found) else f"{sum(one.tokens or 0 for one in found):,}",
                f"{sum(one.gpu_images for one in found) / images_per_second / 3600:.2f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]


def _notes(spec: CorpusSpec, found: Sequence[Estimate], images_per_second: float) -> list[str]:
    notes = [
        f"GPU hours: {images_per_second:g} images a second (--images-per-second), one pass for codes and one per model",
        "train, tokens and GPU hours: as if no row were dropped, but by filters that keep a share (rank, sample)",
    ]
    if any(one.to_fetch for one in found):
        notes.append(f"images to fetch: {WEB_IMAGE_BYTES / 1000:g} kB each assumed")
    if spec.recaption is not None and (captions := sum(one.captions for one in found)):
        engine = printable(spec.recaption.engine)
        notes.append(f"captions to write: {captions:,}, by {engine}; tokens and GPU hours are those of the source's")
    return notes


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
