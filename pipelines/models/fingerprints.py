"""What a model is, for the keys of what is made with it: digests of its files, or the version of its package."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.digest import digest, file_sha256

SUFFIXES = (".json", ".jinja", ".txt", ".model", ".safetensors")
"""Ends of names of the files that a model is read from: configuration, templates, vocabularies and weights."""


def model_folder(model: str) -> Path:
    """The folder of a model, given by itself or by its hub id. Raises FileNotFoundError with one line."""
    from janus.model.checkpoints.hub import local_folder

    try:
        return local_folder(model, weights=True)
    except OSError as error:
        raise FileNotFoundError(f"model: {error}") from None


def folder_digest(folder: Path) -> str:
    """Digest of the names and contents of the files that a model is read from. One that did not change is read once."""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    return digest({path.name: _sha256_of(path) for path in files})


def _sha256_of(path: Path) -> str:
    found = path.stat()
    return _sha256(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.cache
def _sha256(path: Path, inode: int, size: int, time: int) -> str:
    return file_sha256(path)


def package_version(package: str, extra: str) -> dict[str, str]:
    """The fingerprint of a model that comes with a package. Raises ValueError with one line if it is not installed."""
    try:
        return {package: version(package)}
    except PackageNotFoundError:
        raise ValueError(f"needs the package {package}: pip install 'janus-forge[{extra}]'") from None
