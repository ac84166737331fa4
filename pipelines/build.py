"""Building a corpus: the steps in order, each doing only what is not done (design D1 to D4).

    python -m pipelines.build SPEC --corpus DIR --set images=/data/images --workers 4

A build that was killed is started again with the same command. A refresh is a build into a corpus that has a snapshot:
only rows that are new go through the steps, and a new snapshot appears beside the old one.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pipelines import ledger
from pipelines.engine import OnProgress, StepFailed
from pipelines.removal.entries import kept_entries, pending
from pipelines.steps.collect_garbage import collect_garbage
from pipelines.steps.context import Build, Shard
from schemas.manifest import LATEST, Snapshot, load_snapshot
from schemas.printable import printable
from schemas.spec import CorpusSpec, Operations
from storage.places import Place, as_store, join

Step = Callable[[Build, Sequence[Shard]], list[Shard]]


def _plan(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    # Late, here and below: these modules load what workers need, some of it heavy.
    from pipelines.steps.plan import plan

    return plan(build)


def _download(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    from pipelines.steps.download import download

    return download(build, shards)


def _recaption(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    from pipelines.steps.recaption import recaption

    return recaption(build, shards)


def _measure(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    from pipelines.steps.measure import measure

    return measure(build, shards)


def _decide(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    from pipelines.steps.decide import decide

    return decide(build, shards)


def _tokenize(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    from pipelines.steps.tokenize import tokenize

    return tokenize(build, shards)


STEPS: Mapping[str, Step] = {
    "plan": _plan,
    "download": _download,
    "recaption": _recaption,
    "measure": _measure,
    "decide": _decide,
    "tokenize": _tokenize,
}
"""The steps up to the train layer, in order. Each takes the shards of the one before (plan: none), does what is
missing, and returns them with one layer more. After the last comes `finish`."""


@contextlib.contextmanager
def opened(
    spec: CorpusSpec, corpus: Place, operations: Operations, on_progress: OnProgress | None = None
) -> Iterator[Build]:
    """Hold the corpus for one build and find the snapshot it grows from.

    Raises ValueError or FileNotFoundError with one line: the folder is busy, holds another corpus or a damaged
    snapshot. Before anything is written, raises as `preflight.check` where the spec, a model or the first rows of a
    source are not in order.
    """
    from pipelines.preflight import check
    from pipelines.steps.recaption import step_specs

    store = as_store(corpus)
    prints = check(spec)
    with ledger.locked(store):
        latest = store.read_versioned(LATEST)
        parent = load_snapshot(store, latest.data.decode(errors="replace").strip()) if latest else None
        if parent and parent.corpus != spec.name:
            raise ValueError(f"{store.url}: holds corpus {parent.corpus!r}; build {spec.name!r} into another folder")
        ledger.sweep(store)
        if pending(store):
            raise ValueError(
                f"{store.url}: a purge was interrupted; end it: python -m pipelines.takedown {store.url} --purge"
            )
        build = Build(
            spec,
            store,
            operations,
            prints,
            parent,
            latest.version if latest else None,
            on_progress,
            kept_entries(store),
            step_specs(spec),
        )
        if store.folder is not None:
            shutil.rmtree(store.folder / ledger.SCRATCH, ignore_errors=True)
        try:
            yield build
        finally:
            if store.folder is not None:
                shutil.rmtree(store.folder / ledger.SCRATCH, ignore_errors=True)


def finish(build: Build, shards: Sequence[Shard]) -> Snapshot:
    """Publish the snapshot, then delete what `operations.keep_last` does not keep."""
    from pipelines.steps.publish import publish

    snapshot = publish(build, shards)
    if build.operations.keep_last is not None:
        collect_garbage(build.corpus, build.operations.keep_last)
    return snapshot


def build(spec: CorpusSpec, corpus: Place, operations: Operations, on_progress: OnProgress | None = None) -> Snapshot:
    """Build or refresh the corpus in the folder or at the URL `corpus` and return its newest snapshot.

    Where another build published meanwhile, this one plans again from what it published.

    Raises StepFailed, with one line per shard, if shards failed: all others are done, and a second call tries only
    these. Other user errors as in `opened`.
    """
    from pipelines.steps.publish import Superseded

    while True:
        with opened(spec, corpus, operations, on_progress) as context, contextlib.suppress(Superseded):
            shards: list[Shard] = []
            for step in STEPS.values():
                shards = step(context, shards)
            return finish(context, shards)


def print_dry_run(spec: CorpusSpec, corpus: Place, images_per_second: float) -> None:
    """Print what a build would take. Raises as `preflight.check`, after that, for what would stop it."""
    from janus.cli import Collected, UserError
    from pipelines.dry_run import dry_run

    if not 0 < images_per_second < float("inf"):
        raise UserError(f"--images-per-second {images_per_second}: expected a number above 0")
    mistakes = Collected()
    print(dry_run(spec, corpus, mistakes, images_per_second)[0])
    mistakes.tell()


@dataclass
class Command:
    """Build or refresh a corpus from its spec."""

    spec: tyro.conf.Positional[Path]
    """Corpus spec (TOML)."""
    operations: Annotated[Operations, tyro.conf.arg(name=""), tyro.conf.UseAppendAction] = field(
        default_factory=Operations
    )
    """How the work is done."""
    corpus: str = ""
    """Corpus folder, made if absent, or an address: s3://, gs:// or az://. By the workspace: CORPORA/<name of the
    corpus>."""
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Values of the spec's {variables}, beside those of the workspace."""
    dry_run: bool = False
    """Print what a build would take (rows, images to fetch, bytes, tokens, GPU hours, models) and write nothing."""
    images_per_second: float = 200.0
    """Images that a GPU encodes in a second, for the GPU hours of --dry-run."""


def main() -> int:
    """Command line."""
    from janus.cli import UserError, console, pairs, parse
    from janus.workspace import Workspace, find_workspace, needed_workspace
    from pipelines.engine.bars import shown
    from schemas.spec import load_specs

    command = parse(Command, prog="python -m pipelines.build")
    workspace = find_workspace() or Workspace()
    variables = pairs(command.set, "--set")
    (spec,) = load_specs([command.spec], variables, workspace.settled(variables))
    corpus = command.corpus or join(needed_workspace("--corpus is missing").corpora, spec.name)
    if command.dry_run:
        print_dry_run(spec, corpus, command.images_per_second)
        return 0
    with shown() as on_progress:
        try:
            snapshot = build(spec, corpus, command.operations, on_progress)
        except StepFailed as error:
            console().print("\n".join(printable(line) for line in str(error).split("\n")), markup=False)
            return 1
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UserError(f"{corpus}: no space left on the disk; free some and build again") from None
    for source, counts in snapshot.funnel.items():
        parts = [f"{name} {count}" for name, count in counts.items()]
        parts += [f"skipped {reason} {count}" for reason, count in snapshot.skipped.get(source, {}).items()]
        print(f"{source}: " + ", ".join(parts))
    path = f"{printable(corpus)}/snapshots/{snapshot.name}.json"
    print(f"{path}: {snapshot.rows()} rows in {len(snapshot.shards)} shards")
    return 0


if __name__ == "__main__":
    from janus.cli import run

    run(main)
