"""The ledger: which shards exist (design D3). A shard exists when its manifest does; nothing else is remembered.

    corpus/<layer>/<source>/<shard>.<key12>.arrow and .json      (<layer> of a signal: signals/<signal>)

`key` is the digest of everything the bytes depend on, so "is this work done?" is "is there a manifest of this name?",
and a changed setting can never pick up a stale result: it asks for another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import pydantic

from pipelines.shardio import ShardError, ShardReader, Written, open_shard
from schemas.digest import canonical_json, digest
from schemas.files import TEMPORARY
from schemas.layers import LAYERS, SIGNALS, layer_of
from schemas.manifest import FORMAT, ShardManifest, TrainSummary, check_format
from schemas.sample import Task
from storage.places import Place, as_store
from storage.store import Listed, Store, plain_key
from storage.verified import Verified

KEY_DIGITS = 12
SCRATCH = ".scratch"
"""Folder in the corpus for result and progress files of running steps."""
REQUESTS = 32
"""Requests to an object store at a time."""
GRACE_S = 86_400
"""Age that a file in an object store must have before it is taken for left behind: other builds may be running."""
LOCK = ".lock"
SOURCE_FOLDERS = (*(f"{layer}/*" for layer in LAYERS), f"{SIGNALS}*/*")
"""Glob patterns of the folders that hold shards, one per layer and source."""
LAYER_FOLDERS = frozenset(layer.partition("/")[0] for layer in (*LAYERS, SIGNALS))
"""Folders of a corpus that hold nothing but shards."""


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
        return key_of(self.config_digest, self.fingerprints, inputs)


def key_of(config: str, fingerprints: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """Key of the shard that settings of this digest and these models make of these inputs."""
    return digest({"config": config, "fingerprints": dict(fingerprints), "inputs": dict(inputs)})


def shard_path(layer: str, source: str, shard: str, key: str) -> str:
    """Path of a shard file relative to the corpus folder."""
    return f"{layer}/{source}/{shard}.{key[:KEY_DIGITS]}.arrow"


def manifest_path(path: str) -> str:
    """Path of the manifest of the shard file `path`."""
    return path.removesuffix(".arrow") + ".json"


def path_of(manifest: ShardManifest) -> str:
    """Path of the shard file that `manifest` describes, relative to the corpus folder."""
    return shard_path(manifest.layer, manifest.source, manifest.shard, manifest.key)


def load_manifest(corpus: Place, path: str) -> ShardManifest:
    """Read the manifest of the shard file `path` (relative to `corpus`).

    Raises ShardError with one line if it is missing, not a manifest of this format, or describes another shard.
    """
    try:
        data = as_store(corpus).read(manifest_path(path))
    except FileNotFoundError:
        raise ShardError(f"{manifest_path(path)}: missing; build again to make this shard") from None
    return _parsed(data, path)


def _parsed(data: bytes, path: str) -> ShardManifest:
    try:
        manifest = ShardManifest.model_validate_json(data)
        check_format(manifest.format, manifest_path(path))
    except pydantic.ValidationError:
        raise ShardError(
            f"{manifest_path(path)}: not a manifest of format {FORMAT}; delete it and build again"
        ) from None
    except ValueError as error:
        raise ShardError(str(error)) from None
    if not manifest.is_sealed:
        raise ShardError(
            f"{manifest_path(path)}: changed since it was written (flipped bit, or edited?); delete it and build again"
        )
    if path_of(manifest) != path:
        raise ShardError(f"{manifest_path(path)}: describes {path_of(manifest)}; delete it and build again")
    return manifest


def find(corpus: Place, path: str, verified: Verified | None = None) -> ShardManifest | None:
    """The manifest of `path` if that shard is committed and its file is what it should be, else None: it is made again.

    A file in a folder is hashed once per machine and remembered (storage/verified.py); of an object, its key says
    its content, and the size is asked.
    """
    try:
        manifest = load_manifest(corpus, path)
    except ShardError:
        return None
    store = as_store(corpus)
    if store.content_size(path, manifest.sha256) != manifest.bytes:
        return None
    if store.folder is not None:
        try:
            (verified or Verified()).check(store.fetch(path, manifest.sha256, manifest.bytes), manifest.sha256)
        except (ValueError, FileNotFoundError):
            return None
    return manifest


def find_all(corpus: Place, paths: Sequence[str]) -> list[ShardManifest | None]:
    """`find` for each path. An object store is asked many things at once."""
    if as_store(corpus).folder is not None:
        verified = Verified()
        return [find(corpus, path, verified) for path in paths]
    with ThreadPoolExecutor(REQUESTS) as threads:
        return list(threads.map(partial(find, corpus), paths))


def open_input(corpus: Place, path: str) -> tuple[ShardManifest, ShardReader]:
    """Manifest and verified content of a committed shard. Raises ShardError."""
    manifest = load_manifest(corpus, path)
    return manifest, open_shard(corpus, path, manifest)


def commit(
    corpus: Place,
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
    """Write the manifest of a shard file that is already in place: from here on the shard exists.

    In an object store, where several builds may run, the first manifest of a path stays. Its writer's answers from the
    network are as good as ours; any other difference is a fault.

    Returns the manifest that is there. Raises ShardError if another build made other bytes of the same inputs.
    """
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
    return put_manifest(as_store(corpus), manifest.sealed())


def put_manifest(store: Store, manifest: ShardManifest) -> ShardManifest:
    """Write a sealed manifest, or take the one that is there; see `commit`."""
    path, data = path_of(manifest), canonical_json(manifest)
    key = manifest_path(path)
    if store.folder is not None:  # which one build holds
        store.write(key, data)
        return manifest
    while not store.put_if_absent(key, data):
        found = store.read_versioned(key)
        if found is None:
            continue
        if found.data == data:
            break
        try:
            other = _parsed(found.data, path)
            whole = store.content_size(path, other.sha256) == other.bytes
        except ShardError:
            whole = False
        if not whole:
            if store.compare_and_swap(key, data, found.version):
                break
        elif manifest.layer == "raw":
            return other
        else:
            raise ShardError(
                f"{store.url}/{key}: another build made other bytes of the same inputs (sha256 {other.sha256[:12]}..., "
                f"here {manifest.sha256[:12]}...); do both run the same versions on the same kind of machine?"
            )
    return manifest


def manifests(corpus: Place, layer: str, source: str) -> dict[str, list[ShardManifest]]:
    """All committed shards of a layer and source, by shard name; unreadable manifests are left out."""
    keys = sorted(entry.key for entry in as_store(corpus).list(f"{layer}/{source}"))
    paths = [key.removesuffix(".json") + ".arrow" for key in keys if key.endswith(".json")]
    found: dict[str, list[ShardManifest]] = {}
    for manifest in find_all(corpus, paths):
        if manifest is not None:
            found.setdefault(manifest.shard, []).append(manifest)
    return found


def is_shard_file(key: str) -> bool:
    """Whether a file of a corpus, by its key there, is a shard or the manifest of one, and finished."""
    path = PurePosixPath(key)
    return path.parts[0] in LAYER_FOLDERS and path.suffix in (".json", ".arrow")


def shard_files(corpus: Place) -> list[Listed]:
    """All files of shards, manifests among them, but unfinished ones. By shard, its manifest first.

    In an object store the keys of shard files say their content too (`storage.store.plain_key`).
    """
    store = as_store(corpus)
    files = [entry for folder in LAYER_FOLDERS for entry in store.list(folder) if is_shard_file(entry.key)]
    return sorted(files, key=lambda entry: (plain_key(entry.key).rpartition(".")[0], not entry.key.endswith(".json")))


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Hold a corpus folder for one build. The lock dies with the process, so a kill leaves none behind.

    An object store is held by nobody: there, conditional puts decide between builds.

    Raises CorpusBusy if another build holds it.
    """
    corpus = as_store(place).folder
    if corpus is None:
        yield
        return
    corpus.mkdir(parents=True, exist_ok=True)
    with (corpus / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CorpusBusy(f"{corpus}: another build is running on this corpus; wait for it or stop it") from None
        yield


def sweep(place: Place) -> None:
    """Remove what a killed build left behind unfinished. Call only while holding the lock.

    An object store has nothing unfinished in it but scratch files; those of the last day may be of a running build.
    """
    store = as_store(place)
    if store.folder is None:
        for entry in store.list(SCRATCH):
            if time.time() - entry.modified > GRACE_S:
                store.delete(entry.key)
        return
    # Shards, snapshots, and LATEST in the corpus folder itself.
    for folder in (*SOURCE_FOLDERS, "snapshots", "specs", "readings", "takedown", "takedown/*", "."):
        for left in store.folder.glob(f"{folder}/{TEMPORARY}*"):
            left.unlink(missing_ok=True)
