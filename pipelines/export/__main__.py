"""Export a snapshot: Parquet that `load_dataset` opens, plain Parquet, or WebDataset tars.

python -m pipelines.export CORPUS --to huggingface --out exports/mine
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from janus.cli import UserError, console, escape, parse, run
from schemas.files import atomic_folder, write_file


@dataclass(frozen=True)
class Export:
    """Write the rows of a snapshot, with the original pictures, captions, conversations, signals and licences.

    Nothing stands under the name given with --out until all of it is there; after an interruption run it again.

    Example: python -m pipelines.export corpora/mine --to huggingface --out exports/mine
    """

    corpus: tyro.conf.Positional[str]
    """Folder or address (s3://, gs://, az://) of one corpus, the one that holds LATEST."""
    to: Literal["huggingface", "parquet", "webdataset"]
    """huggingface: a folder that load_dataset opens; parquet: the same without its features; webdataset: tars."""
    out: Path
    """Folder to write; it must not be there."""
    snapshot: str | None = None
    """Number or name of a snapshot; by default the latest."""
    file_megabytes: int = 512
    """A file is closed when it is as large as this."""
    push: str | None = None
    """Upload the folder to this data set of the Hub (OWNER/NAME), which is made private if it is not there."""


def main() -> None:
    """The command."""
    command = parse(Export, prog="python -m pipelines.export")
    if command.file_megabytes < 1:
        raise UserError("--file-megabytes: expected at least 1")
    if command.out.exists():
        raise FileExistsError(f"--out {command.out}: there already; name another folder, or delete it")
    if command.push is not None:
        _check_name(command.push)
    rows = export(command)
    console().print(f"[green]wrote[/] {escape(str(command.out))}: {rows:,} rows")
    if command.push is not None:
        _push(command.out, command.push)


def export(command: Export) -> int:
    """Write the folder; returns the number of rows. Raises ValueError, FileNotFoundError."""
    from pipelines import ledger
    from pipelines.engine.bars import shown
    from pipelines.engine.driver import Progress
    from pipelines.export.card import data_card, models_of
    from pipelines.export.rows import exported_rows, several_images, signal_fields
    from pipelines.export.tables import schema_of, write_tables
    from pipelines.export.tars import write_tars
    from pipelines.looking.snapshots import find_snapshot
    from schemas.layers import SIGNALS
    from storage.places import as_store

    corpus = as_store(command.corpus)
    snapshot = find_snapshot(corpus, command.snapshot)
    signals = signal_fields(corpus, snapshot)
    layers = {layer: path for shard in snapshot.shards for layer, path in shard.upstream.items()}
    with shown() as show, atomic_folder(command.out) as folder:

        def rows() -> Iterator[dict[str, Any]]:
            count = 0
            for done, shard in enumerate(snapshot.shards):
                for row in exported_rows(corpus, shard, list(signals)):
                    count += 1
                    yield row
                show(Progress("export", done + 1, len(snapshot.shards), count, 0))

        (folder / "data").mkdir()
        size = command.file_megabytes << 20
        if command.to == "webdataset":
            count = write_tars(rows(), folder / "data", size)
        else:
            schema = schema_of(signals, several_images(corpus, snapshot), command.to == "huggingface")
            count = write_tables(rows(), folder / "data", schema, size)
        if count != snapshot.rows():
            raise ValueError(f"{corpus.url}: {count} rows found, snapshot {snapshot.name} has {snapshot.rows()}")
        models = models_of(
            ledger.load_manifest(corpus, path)
            for layer, path in sorted(layers.items())
            if layer == "recaption" or layer.startswith(SIGNALS)
        )
        write_file(folder / "README.md", data_card(corpus, snapshot, models))
    return count


def _check_name(name: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name}: {str(error).splitlines()[0]}") from None


def _push(folder: Path, name: str) -> None:
    """Upload `folder`. Raises UserError with one line if that fails; the folder stays."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder)
    except Exception as error:  # of several libraries
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        again = f"hf upload --repo-type dataset {name} {folder}"
        raise UserError(f"--push {name}: {reason}; {folder} is whole, push it with: {again}") from None
    console().print(f"[green]pushed[/] {escape(name)}")


if __name__ == "__main__":
    run(main)
