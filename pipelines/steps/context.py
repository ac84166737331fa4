"""What every step is given, and how a step that makes one layer runs: only over the shards that lack it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines import ledger
from pipelines.engine import Failure, OnProgress, ShardStep, StepFailed, run_step
from pipelines.shardio import ShardError, Written
from pipelines.steps.health import Unhealthy, check_health
from schemas.manifest import Fingerprints, ShardManifest, Snapshot, TrainSummary
from schemas.sample import Task
from schemas.spec import CorpusSpec, Filters, Operations, Source

SCRATCH = ".scratch"
"""Folder in the corpus for result and progress files of running steps; swept at the start of a build."""


@dataclass(frozen=True)
class Shard:
    """A shard on its way through the layers."""

    source: str
    task: Task
    name: str
    generation: int
    """Number of the snapshot in which its rows first appear."""
    layers: Mapping[str, ShardManifest] = field(default_factory=dict)

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

    def inputs(self, *layers: str) -> dict[str, str]:
        """Layer to sha256 of this shard's file there: what a step's key is made of."""
        return {layer: self.layers[layer].sha256 for layer in layers}

    def with_layer(self, manifest: ShardManifest) -> Shard:
        """This shard with one more layer."""
        return replace(self, layers={**self.layers, manifest.layer: manifest})


@dataclass(frozen=True)
class Build:
    """One build: the spec, where the corpus lies, how the work is done, and the snapshot it grows from."""

    spec: CorpusSpec
    corpus: Path
    operations: Operations
    fingerprints: Fingerprints
    """Of the model the corpus is made for."""
    parent: Snapshot | None = None
    on_progress: OnProgress | None = None

    @property
    def number(self) -> int:
        """Number of the snapshot being built."""
        return self.parent.number + 1 if self.parent else 1

    @property
    def scratch(self) -> Path:
        """Folder for the files of running steps."""
        return self.corpus / SCRATCH

    def source(self, name: str) -> Source:
        """The source called `name`."""
        return next(source for source in self.spec.sources if source.name == name)

    def filters(self, source: str) -> Filters:
        """The thresholds that apply to a source: its own, else the corpus-wide ones."""
        return self.source(source).filters or self.spec.filters

    def work(self, shard: Shard, recipe: ledger.Recipe, inputs: Mapping[str, str], extra: Any = None) -> LayerWork:
        """One shard for a step that makes one layer; see LayerWork."""
        return LayerWork(shard, recipe, inputs, self.spec.max_failed_share, extra)

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


@dataclass(frozen=True)
class LayerWork:
    """One shard for a step that makes one layer."""

    shard: Shard
    recipe: ledger.Recipe
    inputs: Mapping[str, str]
    """Layer to sha256 of the input shards."""
    max_failed_share: float
    """Of the health gate."""
    extra: Any = None
    """Whatever else the step needs to know about this shard."""

    @property
    def output(self) -> str:
        """Path of the shard file to write, relative to the corpus folder."""
        return ledger.shard_path(self.recipe.layer, self.shard.source, self.shard.name, self.recipe.key(self.inputs))

    def commit(
        self, corpus: Path, written: Written | None, counts: Mapping[str, int], summary: TrainSummary | None = None
    ) -> None:
        """Commit the shard file that was written to `output`, with its rows by outcome or reason.

        Raises Unhealthy, and removes the file, if too many rows failed.
        """
        assert written is not None, "commit after the writer is closed"
        try:
            remedy = "not committed: find the cause, or raise max_failed_share in the spec"
            check_health(counts, self.max_failed_share, remedy)
        except Unhealthy:
            (corpus / self.output).unlink()
            raise
        ledger.commit(
            corpus,
            self.recipe,
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
    step: Callable[[], ShardStep[LayerWork]],
    works: Sequence[LayerWork],
    *,
    light: bool = False,
) -> list[Shard]:
    """Make one layer of every shard in `works`: those already committed are taken as they are, the others run.

    `step` is called only if there is something to do; it is `light` if it does little per row. Returns the shards with
    the layer added, in the given order.

    Raises StepFailed with the list of shards that failed or do not pass the health gate, and ShardError if a shard that
    was reported done is absent.
    """
    missing = [work for work in works if ledger.find(build.corpus, work.output) is None]
    if missing:
        rows = sum(work.shard.rows for work in missing)
        build.run(name, step(), [(work.shard.label, work) for work in missing], light_rows=rows if light else None)
    shards = []
    for work in works:
        manifest = ledger.find(build.corpus, work.output)
        if manifest is None:
            raise ShardError(
                f"{work.output}: reported done by {name} but not there; is the disk shared by all workers?"
            )
        if sum(manifest.counts.values()) != work.shard.rows:
            raise ShardError(
                f"{work.output}: counts {dict(manifest.counts)} do not add up to {work.shard.rows} rows; "
                "delete it and build again"
            )
        shards.append(work.shard.with_layer(manifest))
    if shards:
        judge_layer(build, name, shards, works[0].recipe.layer)
    return shards


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
            failures.append(Failure(shard.label, str(error), expected=True, lasting=True, details=""))
    if failures:
        raise StepFailed(name, failures, len(shards))
