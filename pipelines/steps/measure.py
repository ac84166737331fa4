"""Measure: everything the thresholds may ask about, once per row (design D2).

Each image is decoded here for the first time, so a damaged one turns from `ok` to `bad_image`.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from janus.images import ImageProblem, inspect, load_reduced
from pipelines import ledger
from pipelines.shardio import ShardWriter
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.device import Device, pick_device
from pipelines.steps.phash import ENOUGH, phash
from pipelines.steps.prefetch import chunks, ordered_map
from pipelines.steps.scorer import CaptionScorer, check, fingerprint
from schemas.layers import SIGNALS
from schemas.reasons import Outcome
from schemas.sample import IMAGE_MARK
from schemas.spec import Limits, Scorer

VERSION = 2
LANGUAGE_CHARS = 2000
"""Of a long text, the language is judged by its beginning."""

Signals = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One row's signals, and what the scorer needs if the row is to be scored."""

    signals: Signals
    pixels: Any = None
    caption: str = ""


@dataclass
class MeasureStep:
    """Makes one signals shard from one raw shard. `work.extra`: whether the source is scored."""

    corpus: Path
    limits: Limits
    scorer: Scorer | None
    wanted_device: str
    device: Device | None = None
    loaded: CaptionScorer | None = None

    def setup(self) -> None:
        """Load the scorer."""
        if self.scorer is not None:
            self.device = pick_device(self.wanted_device, cpu_batch=16, cuda_batch=256)
            self.loaded = CaptionScorer(self.scorer, self.device)

    def run(self, work: LayerWork, advance: Callable[[int], None]) -> None:
        """Measure and commit one shard."""
        shard = work.shard
        _, reader = ledger.open_input(self.corpus, shard.path("raw"))
        rows = (row for batch in reader.batches() for row in batch.to_pylist())
        counts: Counter[str] = Counter()
        with ShardWriter(self.corpus / work.output, "signals") as writer:
            for signals in self._scored(rows) if work.extra else self._unscored(rows):
                writer.write(signals)
                counts[signals["outcome"]] += 1
                advance(1)
        work.commit(self.corpus, writer.written, counts)

    def _unscored(self, rows: Iterable[dict[str, Any]]) -> Iterable[Signals]:
        return (measure_row(row, self.limits).signals for row in rows)

    def _scored(self, rows: Iterable[dict[str, Any]]) -> Iterable[Signals]:
        assert self.device is not None
        assert self.loaded is not None
        device, loaded = self.device, self.loaded
        measured = ordered_map(
            lambda row: measure_row(row, self.limits, loaded), rows, threads=device.threads, ahead=2 * device.batch
        )
        for chunk in chunks(measured, device.batch):
            pairs = [item for item in chunk if item.pixels is not None]
            scores = iter(loaded.scores([p.pixels for p in pairs], [p.caption for p in pairs]) if pairs else ())
            for item in chunk:
                score = None if item.pixels is None else next(scores)
                yield {**item.signals, "caption_score": score}


def measure_row(row: dict[str, Any], limits: Limits, scorer: CaptionScorer | None = None) -> Measured:
    """All signals of a raw row but the score; with `scorer`, also what it needs."""
    texts = [message["text"] for message in row["messages"]]
    signals: Signals = {name: None for name in SIGNALS.names}
    signals |= {"uid": row["uid"], "outcome": row["outcome"], "num_images": len(row["images"])}
    signals |= text_signals(texts)
    if row["outcome"] != Outcome.OK:
        return Measured(signals)
    if not row["images"]:
        return Measured(signals | {"content_sha256": hashlib.sha256("\n".join(texts).encode()).digest()})
    pixels = None
    at_least = ENOUGH if scorer is None else max(ENOUGH, 2 * scorer.side)
    mode: Literal["RGB", "L"] = "L" if scorer is None else "RGB"
    caption = next((message["text"] for message in row["messages"] if message["role"] == "caption"), None)
    try:
        facts = inspect(row["images"][0]["bytes"], max_pixels=limits.max_pixels)
        for index, image in enumerate(row["images"]):
            picture = load_reduced(image["bytes"], max_pixels=limits.max_pixels, at_least=at_least, mode=mode)
            if index == 0:
                signals["phash"] = phash(picture)
                if scorer is not None and caption is not None:
                    pixels = scorer.preprocess(picture)
    except ImageProblem as problem:
        return Measured(signals | {"outcome": problem.outcome.value, "phash": None})
    signals |= {
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "mode": facts.mode,
        "orientation": facts.orientation,
        "frames": facts.frames,
        "num_bytes": sum(len(image["bytes"]) for image in row["images"]),
        "content_sha256": content_sha256([image["sha256"] for image in row["images"]]),
    }
    return Measured(signals, pixels, caption or "")


def content_sha256(images: Sequence[bytes]) -> bytes:
    """Identity of a row's images: the hash of the one image, or of the hashes of several in their order."""
    return images[0] if len(images) == 1 else hashlib.sha256(b"".join(images)).digest()


def text_signals(texts: Sequence[str]) -> Signals:
    """Language, and length in characters and words, of all text of a row without its image marks."""
    text = " ".join(" ".join(texts).replace(IMAGE_MARK, " ").split())
    language, score = _classify(text[:LANGUAGE_CHARS]) if text else (None, None)
    return {
        "language": language,
        "language_score": score,
        "caption_chars": len(text),
        "caption_words": len(text.split()),
    }


def _classify(text: str) -> tuple[str, float]:
    """ISO 639-1 code and probability, rounded to four decimals."""
    language, score = _identifier().classify(text)
    return language, round(float(score), 4)


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def recipe(limits: Limits, scorer: Scorer | None) -> ledger.Recipe:
    """What signals depend on, besides the raw shard. `scorer` is None for a source that is not scored."""
    config = {"max_pixels": limits.max_pixels, "py3langid": version("py3langid")}
    return ledger.Recipe("signals", VERSION, config, {} if scorer is None else {"scorer": fingerprint(scorer)})


def measure(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the signals layer."""
    scorer = build.spec.models.scorer
    if scorer is not None:
        check(scorer)
    scored = {
        source.name: scorer is not None and source.score and source.task != "text" for source in build.spec.sources
    }
    with_score, without = recipe(build.spec.limits, scorer), recipe(build.spec.limits, None)
    works = [
        build.work(shard, with_score if scored[shard.source] else without, shard.inputs("raw"), scored[shard.source])
        for shard in shards
    ]

    def step() -> MeasureStep:
        needed = scorer if any(scored.values()) else None
        return MeasureStep(build.corpus, build.spec.limits, needed, build.operations.device)

    return make_layer(build, "measure", step, works)
