"""The ledger: which shards exist (design D3). A shard exists when its manifest does; nothing else is remembered.

    corpus/<layer>/<source>/<shard>.<key12>.arrow and .json      (<layer> of a signal: signals/<signal>)

`key` is the digest of everything the bytes depend on, so "is this work done?" is "is there a manifest of this name?",
and a changed setting can never pick up a stale result: it asks for another name.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from pipelines.shardio import ShardError, ShardReader, Written, finished, open_shard
from schemas.digest import canonical_json, digest
from schemas.files import TEMPORARY, write_file
from schemas.layers import LAYERS, SIGNALS, layer_of
from schemas.manifest import FORMAT, ShardManifest, TrainSummary, check_format
from schemas.sample import Task

KEY_DIGITS = 12
LOCK = ".lock"
SOURCE_FOLDERS = (*(f"{layer}/*" for layer in LAYERS), f"{SIGNALS}*/*")
"""Glob patterns of the folders that hold shards, one per layer and source."""


class CorpusBusy(ValueError):
    """Another build holds the corpus folder."""


@dataclass(frozen=True)
class StepSpec:
    """What a step does to a shard: together with the input shards, all that the result's bytes depend on."""

    layer: str
    version: int
    """Of the step's code: raised when the same inputs and settings give other bytes, or a setting another default."""
    config: Mapping[str, object]
    """Settings that shape the content, those that differ from their defaults: a setting that comes to exist changes no
    key. Never a path, a worker count or a device."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Models that shape the content, by what they are and not by where they lie."""

    @property
    def config_digest(self) -> str:
        """Digest of the settings, as the manifest carries it."""
        schema = layer_of(LAYERS[self.layer])[1] if self.layer in LAYERS else None  # a signal's is its own version
        return digest({"layer": self.layer, "schema": schema, "version": self.version, "config": dict(self.config)})

    def key(self, inputs: Mapping[str, str]) -> str:
        """Name of the result for input shards given by layer and sha256."""
        return digest({"config": self.config_digest, "fingerprints": dict(self.fingerprints), "inputs": dict(inputs)})


def shard_path(layer: str, source: str, shard: str, key: str) -> str:
    """Path of a shard file relative to the corpus folder."""
    return f"{layer}/{source}/{shard}.{key[:KEY_DIGITS]}.arrow"


def manifest_path(path: str) -> str:
    """Path of the manifest of the shard file `path`."""
    return path.removesuffix(".arrow") + ".json"


def path_of(manifest: ShardManifest) -> str:
    """Path of the shard file that `manifest` describes, relative to the corpus folder."""
    return shard_path(manifest.layer, manifest.source, manifest.shard, manifest.key)


def load_manifest(corpus: Path, path: str) -> ShardManifest:
    """Read the manifest of the shard file `path` (relative to `corpus`).

    Raises ShardError with one line if it is missing, not a manifest of this format, or describes another shard.
    """
    file = corpus / manifest_path(path)
    try:
        manifest = ShardManifest.model_validate_json(file.read_bytes())
        check_format(manifest.format, manifest_path(path))
    except FileNotFoundError:
        raise ShardError(f"{manifest_path(path)}: missing; build again to make this shard") from None
    except pydantic.ValidationError:
        raise ShardError(
            f"{manifest_path(path)}: not a manifest of format {FORMAT}; delete it and build again"
        ) from None
    except ValueError as error:
        raise ShardError(str(error)) from None
    if path_of(manifest) != path:
        raise ShardError(f"{manifest_path(path)}: describes {path_of(manifest)}; delete it and build again")
    return manifest


def find(corpus: Path, path: str) -> ShardManifest | None:
    """The manifest of `path` if that shard is committed and its file has the size it should have, else None.

    Content is hashed when it is read (`shardio.open_shard`), not here: asking is cheap.
    """
    try:
        manifest = load_manifest(corpus, path)
        size = (corpus / path).stat().st_size
    except (ShardError, FileNotFoundError):
        return None
    return manifest if size == manifest.bytes else None


def open_input(corpus: Path, path: str) -> tuple[ShardManifest, ShardReader]:
    """Manifest and verified content of a committed shard. Raises ShardError."""
    manifest = load_manifest(corpus, path)
    return manifest, open_shard(corpus, path, manifest)


def commit(
    corpus: Path,
    spec: StepSpec,
    *,
    source: str,
    task: Task,
    shard: str,
    inputs: Mapping[str, str],
    written: Written,
    counts: Mapping[str, int],
    summary: TrainSummary | None = None,
) -> ShardManifest:
    """Write the manifest of a shard file that is already in place: from here on the shard exists."""
    manifest = ShardManifest(
        layer=spec.layer,
        source=source,
        task=task,
        shard=shard,
        key=spec.key(inputs),
        rows=written.rows,
        bytes=written.bytes,
        sha256=written.sha256,
        inputs=dict(inputs),
        config=spec.config_digest,
        fingerprints=dict(spec.fingerprints),
        counts={name: count for name, count in sorted(counts.items()) if count},
        summary=summary,
    )
    write_file(corpus / manifest_path(path_of(manifest)), canonical_json(manifest))
    return manifest


def manifests(corpus: Path, layer: str, source: str) -> dict[str, list[ShardManifest]]:
    """All committed shards of a layer and source, by shard name; unreadable manifests are left out."""
    found: dict[str, list[ShardManifest]] = {}
    for file in finished(corpus / layer / source, "*.json"):
        path = f"{layer}/{source}/{file.stem}.arrow"
        manifest = find(corpus, path)
        if manifest is not None:
            found.setdefault(manifest.shard, []).append(manifest)
    return found


def shard_files(corpus: Path) -> list[str]:
    """Paths of all files of shards, manifests among them, relative to the corpus folder. By shard, its manifest first.

    Files that are not finished are left out.
    """
    files = [
        path
        for folder in SOURCE_FOLDERS
        for path in finished(corpus, f"{folder}/*")
        if path.suffix in (".json", ".arrow")
    ]
    return [
        path.relative_to(corpus).as_posix()
        for path in sorted(files, key=lambda path: (path.with_suffix(""), path.suffix != ".json"))
    ]


@contextlib.contextmanager
def locked(corpus: Path) -> Iterator[None]:
    """Hold the corpus folder for one build. The lock dies with the process, so a kill leaves none behind.

    Raises CorpusBusy if another build holds it.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    with (corpus / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CorpusBusy(f"{corpus}: another build is running on this corpus; wait for it or stop it") from None
        yield


def sweep(corpus: Path) -> None:
    """Remove the temporary files that a killed build left behind. Call only while holding the lock."""
    # Shards, snapshots, and LATEST in the corpus folder itself.
    for folder in (*SOURCE_FOLDERS, "snapshots", "."):
        for left in corpus.glob(f"{folder}/{TEMPORARY}*"):
            left.unlink(missing_ok=True)
