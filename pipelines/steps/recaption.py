"""Recaption: which rows take a caption that a model wrote, and that caption (docs/recaption.md, design D17).

A layer beside the raw one, which is never changed: its `messages` stand in for those of raw wherever text is read. Of a
source that does not ask for it there is no such layer, and nothing else changes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines import ledger
from pipelines.captioners import Answer, Asked, Captioner, Engine, load_engine
from pipelines.recaption.answers import caption_in
from pipelines.recaption.journal import Journal, journal_path
from pipelines.row import ImageProblem, Row
from pipelines.shardio import ShardWriter
from pipelines.signals import Model, Signal, load_signal
from pipelines.steps.context import Build, LayerWork, Shard, make_layer, signal_spec
from pipelines.steps.device import Device, pick_device
from pipelines.steps.prefetch import chunks
from schemas.digest import digest
from schemas.layers import RECAPTION
from schemas.manifest import ShardManifest
from schemas.reasons import AS_SOURCE, RECAPTIONED, Outcome
from schemas.spec import CorpusSpec, Recaption
from storage.store import Store

VERSION = 1
SOURCE_CAPTION = "<caption>"
"""In a prompt: the caption of the source."""
ENGINE = "captioner"
"""Name of the fingerprint that says how the answers came to be."""


@dataclass(frozen=True)
class RecaptionWork:
    """What is particular to one shard."""

    share: float
    """Of its rows that take a new caption."""
    earlier: tuple[str, ...]
    """Paths of recaption shards over the same raw shard whose answers came to be in the same way."""


@dataclass
class RecaptionStep:
    """Makes one recaption shard."""

    corpus: Store
    settings: Recaption
    engine: Engine
    scorer: Signal | None
    """Says which of two captions is better, if that is asked."""
    max_pixels: int
    wanted_device: str
    loaded: Captioner | None = None
    score: Model | None = field(default=None, repr=False)

    def setup(self) -> None:
        """Nothing to load: models are loaded when a shard wants them, and kept."""

    def run(self, work: LayerWork[RecaptionWork], advance: Callable[[int], None]) -> None:
        """Recaption and commit one shard."""
        journal = Journal(journal_path(self.corpus, work.output))
        known = {uid: answer for path in work.extra.earlier for uid, answer in self._earlier(path)} | journal.read()
        counts: Counter[str] = Counter()
        with ShardWriter(self.corpus, work.output, RECAPTION) as writer:
            for chunk in chunks(self._rows(work.shard), self._captioner().at_once):
                asked = [index for index, row in enumerate(chunk) if takes(row, work.extra.share)]
                pictures = self._ask([chunk[index] for index in asked], known, journal)
                made = {index: self._made(chunk[index], known.get(chunk[index].uid), pictures) for index in asked}
                for index, row in enumerate(chunk):
                    columns = made.get(index) or _unchanged(row)
                    counts[columns["reason"] or (RECAPTIONED if columns["used"] else AS_SOURCE)] += 1
                    writer.write(columns)
                advance(len(chunk))
            work.check(counts)
        work.commit(self.corpus, writer.written, counts)
        journal.remove()

    def _rows(self, shard: Shard) -> Iterator[Row]:
        _, reader = ledger.open_input(self.corpus, shard.path("raw"))
        for batch in reader.batches(["uid", "outcome", "messages", "images"]):
            for raw in batch.to_pylist():
                yield Row(shard.task, max_pixels=self.max_pixels, **raw)

    def _earlier(self, path: str) -> Iterator[tuple[bytes, Answer]]:
        """Captions of an earlier shard; what failed there is asked again."""
        for batch in ledger.open_input(self.corpus, path)[1].batches(["uid", "caption"]):
            for row in batch.to_pylist():
                if row["caption"] is not None:
                    yield row["uid"], Answer(row["caption"])

    def _device(self) -> Device:
        return pick_device(self.wanted_device, cpu_batch=16, cuda_batch=64)

    def _captioner(self) -> Captioner:
        if self.loaded is None:
            sampling = self.settings.sampling
            self.loaded = self.engine.module.Captioner(self.engine.options, sampling, self._device())
        return self.loaded

    def _ask(self, rows: Sequence[Row], known: dict[bytes, Answer], journal: Journal) -> set[bytes]:
        """Have those rows described that nothing is known of, and put the answers into `known`.

        Returns the uids of the rows whose picture decodes; the others fail by it, whatever their caption.
        """
        whole, asked = set(), []
        for row in rows:
            try:
                picture = row.picture(self.settings.side).copy()
            except ImageProblem:
                continue
            whole.add(row.uid)
            if row.uid not in known:
                picture.thumbnail((self.settings.side, self.settings.side))
                prompt = self.settings.prompt.replace(SOURCE_CAPTION, row.caption or "")
                asked.append((row.uid, Asked(picture, prompt, _number(row.uid, b"seed") >> 1)))

        def done(index: int, answer: Answer) -> None:
            uid = asked[index][0]
            if answer.text is not None:  # what could not be had is asked again by the next build
                journal.add(uid, answer)
            known[uid] = answer

        if asked:
            self._captioner().describe([one for _, one in asked], done)
        if missing := sum(uid not in known for uid, _ in asked):
            raise RuntimeError(f"captioner {self.engine.name}: gave no answer for {missing} of {len(asked)} pictures")
        return whole

    def _made(self, row: Row, answer: Answer | None, whole: Container[bytes]) -> dict[str, Any] | None:
        """Columns of a row that is to take a new caption; None if its picture does not decode."""
        if row.uid not in whole or answer is None:
            return None
        caption, reason = caption_in(answer)
        if caption is None:
            return {**_unchanged(row), "reason": reason.value if reason else None}
        messages = [{**one, "text": caption} if one["role"] == "caption" else one for one in row.messages]
        columns: dict[str, Any] = {
            "uid": row.uid,
            "caption": caption,
            "reason": None,
            "used": True,
            "messages": messages,
        }
        if self.scorer is None:
            return columns
        old, new = self._scores(row, messages)
        if old > new:
            columns |= {"used": False, "messages": row.messages}
        return {**columns, "source_score": old, "score": new}

    def _scores(self, row: Row, messages: Sequence[Mapping[str, str]]) -> tuple[float, float]:
        """How well the source's caption and the new one fit the picture."""
        assert self.scorer is not None
        if self.score is None:
            self.score = self.scorer.module.Model(self.scorer.options, self._device())
        other = Row(row.task, row.uid, row.outcome, messages, row.images, row.max_pixels)
        old, new = (self.score.measure([self.score.prepare(one)])[0]["cosine"] for one in (row, other))
        return old, new


def takes(row: Row, share: float) -> bool:
    """Whether a row is to take a new caption: it has a picture and a caption, and is in the share. By uid alone."""
    there = row.outcome == Outcome.OK and len(row.images) > 0 and row.caption is not None
    return there and _number(row.uid, b"share") < share * 2**64


def _number(uid: bytes, purpose: bytes) -> int:
    """Below 2**64. Its own per purpose, or the rows that one share takes would be those that another takes."""
    return int.from_bytes(hashlib.blake2b(uid, digest_size=8, person=purpose).digest())


def _unchanged(row: Row) -> dict[str, Any]:
    return {"uid": row.uid, "messages": row.messages, "used": False, "reason": None}


def scorer_of(spec: CorpusSpec) -> Signal | None:
    """The signal that says which caption is better, if the spec asks. Raises ValueError with one line."""
    if spec.recaption is None or not spec.recaption.keep_better:
        return None
    return load_signal("caption_score", spec.signals.get("caption_score"))


def step_spec(spec: CorpusSpec, share: float) -> ledger.StepSpec:
    """What a recaption shard depends on, besides raw. Raises ValueError or FileNotFoundError with one line."""
    settings = spec.recaption
    assert settings is not None
    engine = load_engine(settings.engine, settings.options)
    how = {**engine.identity, **settings.model_dump(mode="json", include={"prompt", "side", "sampling"})}
    scorer = scorer_of(spec)
    better = signal_spec(scorer) if scorer else None
    config = {"share": share, "keep_better": better and [better.config_digest, dict(better.fingerprints)]}
    return ledger.StepSpec("recaption", VERSION, config, {ENGINE: digest(how)})


def step_specs(spec: CorpusSpec) -> dict[str, ledger.StepSpec]:
    """`step_spec` of the sources that ask for it, by name."""
    return {source.name: step_spec(spec, source.recaption) for source in spec.sources if source.recaption}


def answered(manifests: Sequence[ShardManifest], spec: ledger.StepSpec, raw: str) -> tuple[str, ...]:
    """Paths of those recaption shards whose answers would come out the same again."""
    same = (spec.fingerprints[ENGINE], raw)
    found = (one for one in manifests if (one.fingerprints[ENGINE], one.inputs["raw"]) == same)
    return tuple(ledger.path_of(manifest) for manifest in found)


def recaption(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the recaption layer to the shards of those sources that ask for it."""
    specs = build.recaption_specs
    if not specs:
        return list(shards)
    made = {name: ledger.manifests(build.corpus, "recaption", name) for name in specs}
    works = []
    for shard in shards:
        if (spec := specs.get(shard.source)) is not None:
            earlier = answered(made[shard.source].get(shard.name, ()), spec, shard.layers["raw"].sha256)
            extra = RecaptionWork(build.source(shard.source).recaption, earlier)
            works.append(build.work(shard, spec, shard.inputs("raw"), extra))

    def step() -> RecaptionStep:
        settings = build.spec.recaption
        assert settings is not None
        return RecaptionStep(
            build.corpus,
            settings,
            load_engine(settings.engine, settings.options),
            scorer_of(build.spec),
            build.spec.limits.max_pixels,
            build.operations.device,
        )

    recaptioned = iter(make_layer(build, "recaption", step, works))
    return [next(recaptioned) if shard.source in specs else shard for shard in shards]
