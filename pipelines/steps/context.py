"""What every step is given, and how a step that makes one layer runs: only over the shards that lack it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from pipelines import ledger
from pipelines.engine import Failure, OnProgress, ShardStep, StepFailed, run_step
from pipelines.removal.entries import Entries
from pipelines.selection import Selection, select
from pipelines.shardio import ShardError, Written
from pipelines.signals import Signal
from pipelines.steps.changes import Superseded
from pipelines.steps.health import Unhealthy, check_health
from schemas.layers import says
from schemas.manifest import Fingerprints, ShardManifest, Snapshot, TrainSummary
from schemas.sample import Task
from schemas.spec import CorpusSpec, Operations, Source
from storage.places import Place, as_store, below
from storage.store import Store

E = TypeVar("E")


@dataclass(frozen=True)
class Shard:
    """A shard on its way through the layers."""

    source: str
    task: Task
    name: str
    first_snapshot: int
    """Number of the snapshot in which its rows first appear."""
    layers: Mapping[str, ShardManifest] = field(default_factory=dict)
    superseded: Superseded = ()
    """Rows that are to be left out because of what their source says today."""

    @property
    def label(self) -> str:
        """For messages: source/shard."""
        return f"{self.source}/{self.name}"

    @property
    def rows(self) -> int:
        """Rows before any filter."""
        return self.layers["rows"].rows

    def path(self, layer: str) -> str:
        """Path of this shard's file in `layer`, relative to the corpus folder."""
        return ledger.path_of(self.layers[layer])

    @property
    def paths(self) -> dict[str, str]:
        """Layer to the path of this shard's file there, relative to the corpus folder."""
        return {layer: self.path(layer) for layer in self.layers}

    def inputs(self, *layers: str) -> dict[str, str]:
        """Layer to sha256 of this shard's file there: what a step's key is made of."""
        return {layer: self.layers[layer].sha256 for layer in layers}

    @property
    def says(self) -> str:
        """The layer that holds what its rows say."""
        return says(self.layers)

    def with_layers(self, *manifests: ShardManifest) -> Shard:
        """This shard with more layers."""
        return replace(self, layers={**self.layers, **{manifest.layer: manifest for manifest in manifests}})


@dataclass(frozen=True)
class Build:
    """One build: the spec, where the corpus lies, how the work is done, and the snapshot it grows from."""

    spec: CorpusSpec
    corpus: Store
    operations: Operations
    fingerprints: Fingerprints
    """Of the model the corpus is made for."""
    parent: Snapshot | None = None
    latest: str | None = None
    """Version of LATEST when the parent was read; None if there was none."""
    on_progress: OnProgress | None = None
    taken_down: Entries = field(default_factory=Entries)
    """What the takedown lists of the corpus name."""
    recaption_specs: Mapping[str, ledger.StepSpec] = field(default_factory=dict)
    """How captions are written, by source; only those that ask for it."""

    @property
    def number(self) -> int:
        """Number of the snapshot being built."""
        return self.parent.number + 1 if self.parent else 1

    @property
    def scratch(self) -> Store:
        """For the files of running steps."""
        return below(self.corpus, ledger.SCRATCH)

    def source(self, name: str) -> Source:
        """The source called `name`."""
        return next(source for source in self.spec.sources if source.name == name)

    @cached_property
    def selections(self) -> dict[str, Selection]:
        """Signals and filters by source."""
        return select(self.spec)

    @cached_property
    def signal_specs(self) -> dict[str, ledger.StepSpec]:
        """How each signal is measured, by its name.

        Raises ValueError or FileNotFoundError with one line where an option of a signal names what does not exist.
        """
        signals = {signal.name: signal for selection in self.selections.values() for signal in selection.signals}
        return {name: signal_spec(signal) for name, signal in signals.items()}

    def work(self, shard: Shard, spec: ledger.StepSpec, inputs: Mapping[str, str], extra: E) -> LayerWork[E]:
        """One shard for a step that makes one layer; see LayerWork."""
        return LayerWork(shard, spec, inputs, self.spec.max_failed_share, extra)

    def run(
        self, name: str, step: ShardStep[Any], items: Sequence[tuple[str, Any]], light_rows: int | None = None
    ) -> list[Any]:
        """Run a step on the build's engine; see `engine.run_step`."""
        return run_step(
            name,
            step,
            items,
            scratch=self.scratch,
            operations=self.operations,
            light_rows=light_rows,
            on_progress=self.on_progress,
        )


def signal_spec(signal: Signal) -> ledger.StepSpec:
    """What the values of a signal depend on, besides the raw shard and the signals it reads."""
    fingerprint = signal.fingerprint()
    options = signal.options.model_dump(mode="json", exclude_defaults=True)
    config = {name: value for name, value in options.items() if name not in fingerprint}
    return ledger.StepSpec(signal.layer, signal.version, config, fingerprint)


@dataclass(frozen=True)
class LayerWork(Generic[E]):
    """One shard for a step that makes one layer."""

    shard: Shard
    spec: ledger.StepSpec
    inputs: Mapping[str, str]
    """Layer to sha256 of the input shards."""
    max_failed_share: float
    """Of the health gate."""
    extra: E
    """What else the step needs to know about this shard."""

    @property
    def key(self) -> str:
        """Of the shard to make."""
        return self.spec.key(self.inputs)

    @property
    def output(self) -> str:
        """Path of the shard file to write, relative to the corpus folder."""
        return ledger.shard_path(self.spec.layer, self.shard.source, self.shard.name, self.key)

    def check(self, counts: Mapping[str, int]) -> None:
        """Raise Unhealthy if too many rows failed."""
        remedy = "not committed: find the cause, or raise max_failed_share in the spec"
        check_health(counts, self.max_failed_share, remedy)

    def commit(
        self, corpus: Place, written: Written | None, counts: Mapping[str, int], summary: TrainSummary | None = None
    ) -> None:
        """Commit the shard file that was written to `output`, with its rows by outcome or reason.

        Raises Unhealthy, and removes the file, if too many rows failed.
        """
        assert written is not None, "commit after the writer is closed"
        try:
            self.check(counts)
        except Unhealthy:
            as_store(corpus).delete_content(self.output, written.sha256)
            raise
        ledger.commit(
            corpus,
            self.spec,
            source=self.shard.source,
            task=self.shard.task,
            shard=self.shard.name,
            inputs=self.inputs,
            written=written,
            counts=counts,
            summary=summary,
        )


def make_layer(
    build: Build,
    name: str,
    step: Callable[[], ShardStep[LayerWork[E]]],
    works: Sequence[LayerWork[E]],
    *,
    light: bool = False,
) -> list[Shard]:
    """Make one layer of every shard in `works`: those already committed are taken as they are, the others run.

    `step` is called only if there is something to do; it is `light` if it does little per row. Returns the shards with
    the layer added, in the given order.

    Raises StepFailed with the list of shards that failed or do not pass the health gate, and ShardError if a shard that
    was reported done is absent.
    """
    found = ledger.find_all(build.corpus, [work.output for work in works])
    missing = [work for work, manifest in zip(works, found, strict=True) if manifest is None]
    if missing:
        rows = sum(work.shard.rows for work in missing)
        build.run(name, step(), [(work.shard.label, work) for work in missing], light_rows=rows if light else None)
    shards = [
        work.shard.with_layers(manifest) for work, manifest in zip(works, committed(build, name, works), strict=True)
    ]
    if shards:
        judge_layer(build, name, shards, works[0].spec.layer)
    return shards


def committed(build: Build, name: str, works: Sequence[LayerWork[Any]]) -> list[ShardManifest]:
    """The manifests of the shards that the step `name` has made.

    Raises ShardError if one is absent or does not add up.
    """
    found = []
    for work, manifest in zip(works, ledger.find_all(build.corpus, [work.output for work in works]), strict=True):
        if manifest is None:
            raise ShardError(
                f"{work.output}: reported done by {name} but not there; is the disk shared by all workers?"
            )
        if sum(manifest.counts.values()) != work.shard.rows:
            raise ShardError(
                f"{work.output}: counts {dict(manifest.counts)} do not add up to {work.shard.rows} rows; "
                "delete it and build again"
            )
        found.append(manifest)
    return found


def judge_layer(build: Build, name: str, shards: Sequence[Shard], layer: str) -> None:
    """Hold the shards of a layer against the health gate: the spec that they were committed under may have been milder.

    Raises StepFailed with the list of those that do not pass.
    """
    failures = []
    for shard in shards:
        remedy = f"raise it in the spec, or find the cause and delete {ledger.manifest_path(shard.path(layer))}"
        try:
            check_health(shard.layers[layer].counts, build.spec.max_failed_share, remedy)
        except Unhealthy as error:
            failures.append(Failure(shard.label, str(error), expected=True, retryable=False, details=""))
    if failures:
        raise StepFailed(name, failures, len(shards))
