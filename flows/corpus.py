"""Build corpora from the command line, through the same flows that a Prefect server runs.

    python -m flows.corpus build examples/photo-folder.toml --out runs/corpora --set photos=../photos
    python -m flows.corpus build                                             the specs of the workspace file

Without PREFECT_API_URL a private Prefect server records the runs in runs/prefect and ends with the command.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from flows.api import prefect_api
from janus import cli
from janus.workspace import Workspace, find_workspace
from schemas.spec import CorpusSpec, Operations, load_specs
from storage.places import join, open_store

if TYPE_CHECKING:
    from schemas.manifest import Snapshot

PROG = "python -m flows.corpus"
HOME = Path("runs/prefect")
"""Database, results and log of the private Prefect server."""


@dataclass
class Command:
    """Build corpora from their specs, or bring them up to date. Only what is missing is done."""

    action: tyro.conf.Positional[Literal["build"]]
    """What to do: build each corpus, or bring it up to date."""
    specs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SPEC ...]")]
    """Corpus specs (TOML), built one after the other. By the workspace: its specs."""
    operations: Annotated[Operations, tyro.conf.arg(name=""), tyro.conf.UseAppendAction] = field(
        default_factory=Operations
    )
    out: str = ""
    """Folder or address (s3://, gs://, az://) that holds corpora; each becomes OUT/<name of the corpus>. By the
    workspace: its folder of corpora; or else runs/corpora."""
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Values of the specs' {variables}, beside those of the workspace."""
    serve: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="HOST:PORT=FOLDER ...")
    ] = ()
    """Folders to serve on 127.0.0.1 meanwhile, by the address they stand for. By the workspace: its own."""
    dry_run: bool = False
    """Print what each build would take (rows, images to fetch, bytes, tokens, GPU hours, models) and write nothing."""
    images_per_second: float = 200.0
    """Images that a GPU encodes in a second, for the GPU hours of --dry-run."""


def main() -> None:
    """Parse the command line and build."""
    command = cli.parse(Command, prog=PROG)
    variables, serve = cli.pairs(command.set, "--set"), cli.pairs(command.serve, "--serve", "HOST:PORT=FOLDER")
    workspace = find_workspace() or Workspace()
    paths, out = command.specs or tuple(workspace.specs.values()), command.out or workspace.corpora
    if not paths:
        raise cli.UserError(f"no corpus spec given (see {cli.program(PROG)} --help)")
    if not command.specs and "janus" not in variables:
        workspace.check_model("there")
    settled = workspace.settled(variables)
    specs = load_specs(paths, variables, settled)  # a mistake shows before anything starts
    open_store(out)
    if command.dry_run:
        from pipelines.build import print_dry_run

        for spec in specs:
            print_dry_run(spec, join(out, spec.name), command.images_per_second)
        return
    with prefect_api(HOME) as wait_for_api:
        from flows import progress
        from flows.build import FLOWS
        from pipelines.engine.bars import shown
        from schemas.manifest import load_snapshot

        with shown() as on_progress, progress.listening(on_progress):
            wait_for_api()
            for path, spec in zip(paths, specs, strict=True):
                start, before = time.monotonic(), _latest(join(out, spec.name))
                FLOWS[spec.stage](path, out, settled, command.operations, serve or workspace.served)
                snapshot = load_snapshot(join(out, spec.name))
                print(summary(out, spec, snapshot, before, time.monotonic() - start), flush=True)


def summary(out: str | Path, spec: CorpusSpec, snapshot: Snapshot, before: str | None, seconds: float) -> str:
    """What came of a build, in a line or two."""
    if snapshot.name == before:
        return f"{spec.name}: nothing to do, {snapshot.name} is up to date ({seconds:.1f} s)"
    from pipelines.funnel import funnels

    counts = funnels(snapshot)
    kept, rows = sum(one.kept for one in counts), sum(one.rows for one in counts)
    lost: dict[str, int] = {}
    for one in counts:
        for why, count in (one.dropped | one.failed).items():
            lost[why] = lost.get(why, 0) + count
    why_lost = f" ({', '.join(f'{why} {count}' for why, count in sorted(lost.items()))})" if lost else ""
    corpus = join(out, spec.name)
    return f"{spec.name}: {snapshot.name}, {kept} of {rows} rows kept{why_lost}, {seconds:.1f} s, in {corpus}"


def _latest(corpus: str) -> str | None:
    from schemas.manifest import load_snapshot

    try:
        return load_snapshot(corpus).name
    except (FileNotFoundError, ValueError):
        return None


if __name__ == "__main__":
    cli.run(main)
