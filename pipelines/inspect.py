"""Look at the rows of a snapshot: what became of them, why, and what other thresholds would keep.

python -m pipelines.inspect runs/corpora/photos --reason duplicate_near --html near.html
python -m pipelines.inspect runs/corpora/photos --where "caption_score.cosine < 0.2 and image.width > 512"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from janus.cli import pairs, parse, run
from pipelines.looking.page import reasons_of, render, text_of
from pipelines.looking.rows import Looked, contents, fields, in_order, look, numeric, wanted
from pipelines.looking.snapshots import find_snapshot
from pipelines.looking.thresholds import Threshold, kept, thresholds
from schemas.files import write_file
from schemas.manifest import Snapshot
from schemas.printable import printable
from storage.places import as_store
from storage.store import Store

IN_TERMINAL, ON_PAGE = 5, 48
"""Rows per reason, unless `--rows` says otherwise."""
MOST = 500
"""Rows per reason, at most."""


@dataclass
class Command:
    """Look at the rows of a corpus: as tables in the terminal, or with --html as pictures with all that is known.

    Example: python -m pipelines.inspect runs/corpora/photos --reason duplicate_near --html near.html
    """

    corpus: tyro.conf.Positional[str]
    """Folder or address (s3://, gs://, az://) of one corpus."""
    snapshot: str | None = None
    """Number or name of a snapshot; the latest if left out."""
    where: str | None = None
    """Only rows for which this holds, a condition over signals, source, task and fate: "language.score < 0.5"."""
    reason: str | None = None
    """Only rows of this fate: a reason, an outcome, or kept."""
    source: str | None = None
    """Only rows of this source."""
    html: Path | None = None
    """Write a page, one file that needs no other, in place of tables."""
    rows: int | None = None
    """Rows to show per reason, always the same ones; 5 in the terminal, 48 on a page if left out, 500 at most."""
    spec: Path | None = None
    """Corpus spec whose thresholds to draw in and to count by."""
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Values of the spec's {variables}, beside those of the workspace."""


def main() -> int:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.inspect")
    store = as_store(command.corpus)
    if store.folder is not None and not store.folder.is_dir():
        raise FileNotFoundError(f"{store.url}: no such corpus folder")
    show = command.rows if command.rows is not None else ON_PAGE if command.html else IN_TERMINAL
    if not 1 <= show <= MOST:
        raise ValueError(f"--rows {show}: expected 1 to {MOST}")
    limits = _thresholds(command)
    snapshot = find_snapshot(store, command.snapshot)
    which = wanted(snapshot, command.source, command.reason, command.where)
    looked = look(store, snapshot, which, show)
    if not looked.rows:
        raise ValueError(f"{store.url}@{snapshot.name}: no such row")
    parts = (("source", command.source), ("reason", command.reason), ("where", command.where))
    asked = ", ".join(f"{name} {value}" for name, value in parts if value)
    if command.html:
        spec = command.spec.name if command.spec else None
        write_file(command.html, render(store, snapshot, looked, limits, asked, spec))
        print(f"{command.html}: {sum(table.num_rows for table in looked.shown.values())} of {looked.rows:,} rows")
    else:
        _show(store, snapshot, looked, limits)
    return 0


def _thresholds(command: Command) -> list[Threshold]:
    if command.spec is None:
        if command.set:
            raise ValueError("--set: without --spec there are no variables")
        return []
    from janus.workspace import Workspace, find_workspace
    from pipelines.selection import select
    from schemas.spec import load_specs

    variables = pairs(command.set, "--set")
    (spec,) = load_specs([command.spec], variables, (find_workspace() or Workspace()).settled(variables))
    return thresholds({source: selection.filters for source, selection in select(spec).items()})


def _show(store: Store, snapshot: Snapshot, looked: Looked, limits: list[Threshold]) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    out.print(printable(f"{store.url}@{snapshot.name}: {looked.rows:,} rows"), markup=False)
    signals = Table(box=None, pad_edge=False)
    for head in ("signal", "rows", "least", "5 %", "half", "95 %", "most"):
        signals.add_column(head, justify="left" if head == "signal" else "right", no_wrap=head == "signal")
    notes = []
    for name, column in fields(looked.sample).items():
        if not numeric(column):
            continue
        values = column.drop_null().to_numpy().astype(np.float64)
        if len(values):
            numbers = np.quantile(values, [0, 0.05, 0.5, 0.95, 1])
            signals.add_row(name, f"{len(values):,}", *(f"{number:.4g}" for number in numbers))
            for one in (one for one in limits if one.field == name):
                count = kept(values, one.least, one.greatest)
                notes.append(f"{name}: {one.text} keeps {count:,} of {len(values):,} ({count / len(values):.1%})")
    out.print(signals)
    for note in notes:
        out.print(printable(note), markup=False)
    out.print()
    table = Table(box=None, pad_edge=False)
    for head in ("what became of it", "uid", "source", "signals of the reason", "text"):
        table.add_column(head, no_wrap=head == "uid", overflow="fold", max_width=48 if head == "text" else None)
    order = in_order(looked.counts)
    rows = [row for fate in order for row in looked.shown[fate].to_pylist()]
    raw = contents(store, snapshot, [(row["entry"], row["row"]) for row in rows])
    for row in rows:
        why = ", ".join(f"{name} {value}" for name, value in reasons_of(row).items())
        text = text_of(raw[row["entry"], row["row"]], 90)
        table.add_row(*map(_cell, (row["fate"], row["uid"].hex(), row["source"], why, text)))
    out.print(table)
    for fate in order:
        if looked.shown[fate].num_rows < looked.counts[fate]:
            out.print(f"{fate}: {looked.shown[fate].num_rows} of {looked.counts[fate]:,} rows shown", markup=False)


def _cell(text: str) -> str:
    from janus.cli import escape

    return escape(text)


if __name__ == "__main__":
    run(main)
