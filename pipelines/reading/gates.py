"""The gates of a source: where its files, and its images if they lie apart, are opened."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.reading.errors import SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.hub import HubFolder
from schemas.spec import Source
from storage.places import is_url


def gate_of(source: Source) -> Gate:
    """The gate of a source's folder: its path, or the folder its file is in. Raises SourceError if it is absent."""
    if is_url(source.path):
        return HubFolder(source.path, f"source {source.name}")
    path = Path(source.path)
    if not path.exists():
        raise SourceError(f"source {source.name}: {path}: no such file or folder")
    if path.is_dir():
        return Gate(path, source.allow_links_to)
    # A file that the spec names itself is meant, also where it is a link.
    return Gate(path.parent, (*source.allow_links_to, path))


def images_gate(source: Source) -> Gate | None:
    """The gate of the image folder, where `options.images` names one by an absolute path."""
    images = source.options.get("images")
    if not isinstance(images, str) or not os.path.isabs(images):
        return None
    if not os.path.isdir(images):
        raise SourceError(f"source {source.name}: options.images: {images}: no such folder")
    return Gate(Path(images), source.allow_links_to)
