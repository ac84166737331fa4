"""Measure: every signal that a shard lacks, in one pass over its raw rows (design D2, D13).

Each picture is decoded once, whoever looks at it, and pictures go on to models in batches. Each signal has shards of
its own, so one that is new to a corpus is the only one that is measured.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines import ledger
from pipelines.recaption.said import said_instead
from pipelines.row import ImageProblem, Row
from pipelines.shardio import ShardWriter
from pipelines.signals import MEASURED, NOT_MEASURED, OF_IMAGES, OF_TEXT, OUTCOME, Model, Signal, Values
from pipelines.steps.context import Build, LayerWork, Shard, committed, judge_layer
from pipelines.steps.device import Device, pick_device
from pipelines.steps.prefetch import chunks, ordered_map
from schemas.layers import signal_layer
from storage.store import Store

WITHOUT_MODELS = Device("cpu", 16, 1)


@dataclass(frozen=True)
class MeasureWork:
    """One shard, and what is to be measured of it."""

    shard: Shard
    missing: tuple[LayerWork[Signal], ...]
    """In an order in which each comes after those it reads."""
    earlier: Mapping[str, str]
    """Paths of shards of other signals that these read, by signal."""


@dataclass
class Prepared:
    """A row on its way to the models."""

    row: Row
    """Without its images."""
    earlier: Mapping[str, Values | None]
    """Values of signals that were measured before."""
    items: dict[str, Any]
    """By signal: its values, or what its model takes; None if the row is not measured."""


@dataclass
class MeasureStep:
    """Makes the missing signals of one raw shard."""

    corpus: Store
    max_pixels: int
    wanted_device: str
    models: dict[str, Model] = field(default_factory=dict)

    def setup(self) -> None:
        """Nothing to load: models are loaded when the first shard wants them, and kept."""

    def run(self, work: MeasureWork, advance: Callable[[int], None]) -> None:
        """Measure and commit one shard."""
        signals = [output.extra for output in work.missing]
        device = self._device(signals)
        models = {signal.name: self._model(signal, device) for signal in signals if signal.batched}
        counts = {signal.name: Counter[str]() for signal in signals}
        with contextlib.ExitStack() as stack:
            writers = {
                output.extra.name: stack.enter_context(ShardWriter(self.corpus, output.output, output.extra.schema))
                for output in work.missing
            }
            prepared = ordered_map(
                lambda row: _prepare(*row, signals, models),
                self._rows(work, signals),
                threads=device.threads,
                ahead=2 * device.batch,
            )
            for chunk in chunks(prepared, device.batch):
                found = _measure(chunk, signals, models)
                for index, one in enumerate(chunk):
                    for name, writer in writers.items():
                        values = found[name][index]
                        writer.write({"uid": one.row.uid, **(values or {})})
                        counts[name][_fate(name, values)] += 1
                advance(len(chunk))
            for output in work.missing:
                output.check(counts[output.extra.name])
        for output in work.missing:
            output.commit(self.corpus, writers[output.extra.name].written, counts[output.extra.name])

    def _device(self, signals: Sequence[Signal]) -> Device:
        if not any(signal.batched for signal in signals):
            return WITHOUT_MODELS  # and torch is not even imported
        return pick_device(self.wanted_device, cpu_batch=16, cuda_batch=256)

    def _model(self, signal: Signal, device: Device) -> Model:
        if signal.name not in self.models:
            self.models[signal.name] = signal.module.Model(signal.options, device)
        return self.models[signal.name]

    def _rows(self, work: MeasureWork, signals: Sequence[Signal]) -> Iterator[tuple[Row, Mapping[str, Values | None]]]:
        """The raw rows, each with values that were measured before. Images are read only if somebody looks."""
        needs = frozenset[str]().union(*(signal.needs for signal in signals))
        columns = ["uid", "outcome", "messages", *(name for name in ("licence", "columns") if name in needs)]
        if needs & OF_IMAGES:
            columns.append("images")
        _, reader = ledger.open_input(self.corpus, work.shard.path("raw"))
        said = self._messages(work.shard)
        earlier = {name: self._values(path) for name, path in work.earlier.items()}
        for batch in reader.batches(columns):
            for raw in batch.to_pylist(maps_as_pydicts="strict"):
                row = Row(work.shard.task, max_pixels=self.max_pixels, **{"images": (), **raw, **next(said)})
                yield row, {name: next(rows) for name, rows in earlier.items()}

    def _messages(self, shard: Shard) -> Iterator[dict[str, Any]]:
        """What stands in for the messages of the rows, in their order: nothing, where they are those of the source."""
        said = said_instead(self.corpus, shard.paths)
        if said is None:
            yield from itertools.repeat({})
        else:
            yield from ({"messages": messages.as_py()} for messages in said)

    def _values(self, path: str) -> Iterator[Values | None]:
        """Rows of a signal's shard, None for those that were not measured."""
        for batch in ledger.open_input(self.corpus, path)[1].batches():
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                del row["uid"]
                yield row if any(value is not None for value in row.values()) else None


def _prepare(
    row: Row, earlier: Mapping[str, Values | None], signals: Sequence[Signal], models: Mapping[str, Model]
) -> Prepared:
    """Everything that needs the row's images, which end here."""
    items = {signal.name: _item(signal, row, models) for signal in signals if not signal.reads}
    return Prepared(replace(row, images=(), shared={}), earlier, items)


def _item(signal: Signal, row: Row, models: Mapping[str, Model]) -> Any:
    """Values of a row, or what the signal's model takes of it; None if it is not to be measured."""
    if not all(row.has(need) for need in signal.needs):
        return None
    try:
        return models[signal.name].prepare(row) if signal.batched else signal.measure(row)
    except ImageProblem:
        return None


def _measure(
    chunk: Sequence[Prepared], signals: Sequence[Signal], models: Mapping[str, Model]
) -> dict[str, list[Values | None]]:
    """Values by signal, in the order of the rows."""
    found: dict[str, list[Values | None]] = {}
    for signal in signals:
        for index, one in enumerate(chunk if signal.reads else ()):
            read = {name: found[name][index] if name in found else one.earlier[name] for name in signal.reads}
            one.row.signals = {name: values for name, values in read.items() if values is not None}
            complete = len(one.row.signals) == len(read)
            one.items[signal.name] = _item(signal, one.row, models) if complete else None
        items = [one.items[signal.name] for one in chunk]
        found[signal.name] = _through(models[signal.name], signal, items) if signal.batched else items
    return found


def _through(model: Model, signal: Signal, items: Sequence[Any]) -> list[Values | None]:
    """The values of prepared rows, None where a row is None."""
    batch = [item for item in items if item is not None]
    measured = list(model.measure(batch)) if batch else []
    if len(measured) != len(batch):
        raise RuntimeError(f"signal {signal.name}: its model gave {len(measured)} values for {len(batch)} rows")
    values = iter(measured)
    return [None if item is None else next(values) for item in items]


def _fate(name: str, values: Values | None) -> str:
    """What a row is counted under in the manifest of a signal's shard: its outcome, or whether it was measured."""
    if name == OUTCOME:
        assert values is not None
        return str(values["outcome"])
    measured = values is not None and any(value is not None for value in values.values())
    return MEASURED if measured else NOT_MEASURED


def measure(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the signals, a layer each."""
    works = [_works(build, shard) for shard in shards]
    passes = [(shard.label, _pass(build, shard, outputs)) for shard, outputs in zip(shards, works, strict=True)]
    todo = [(label, work) for label, work in passes if work.missing]
    if todo:
        build.run("measure", MeasureStep(build.corpus, build.spec.limits.max_pixels, build.operations.device), todo)
    measured = [
        shard.with_layers(*committed(build, "measure", outputs)) for shard, outputs in zip(shards, works, strict=True)
    ]
    judge_layer(build, "measure", measured, signal_layer(OUTCOME))
    return measured


def _works(build: Build, shard: Shard) -> list[LayerWork[Signal]]:
    """Every signal that a shard is to have."""
    works: dict[str, LayerWork[Signal]] = {}
    for signal in build.selections[shard.source].signals:
        # What looks at nothing but pictures is not measured again because of another caption.
        said = () if signal.needs and not signal.needs & OF_TEXT else (shard.says,)
        inputs = shard.inputs("raw", *said) | {signal_layer(name): works[name].key for name in signal.reads}
        works[signal.name] = build.work(shard, build.signal_specs[signal.name], inputs, signal)
    return list(works.values())


def _pass(build: Build, shard: Shard, works: Sequence[LayerWork[Signal]]) -> MeasureWork:
    """What of it there is not yet."""
    found = ledger.find_all(build.corpus, [work.output for work in works])
    missing = [work for work, manifest in zip(works, found, strict=True) if manifest is None]
    read = {name for work in missing for name in work.extra.reads} - {work.extra.name for work in missing}
    return MeasureWork(
        shard, tuple(missing), {work.extra.name: work.output for work in works if work.extra.name in read}
    )
