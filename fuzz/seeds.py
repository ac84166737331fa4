"""What each target starts from: small well-formed inputs, made here, and for pictures a folder of bad ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save

from schemas.digest import canonical_json
from schemas.layers import ROWS
from schemas.manifest import ShardManifest

MAX_BYTES = 100_000
"""Of a picture that is taken as a seed."""


def seeds(target: str, pictures: Path | None) -> list[bytes]:
    """Inputs to begin with. `pictures` is a folder whose files are read as they are."""
    found = _MADE[target]()
    if target == "image" and pictures is not None:
        files = sorted(file for file in pictures.rglob("*") if file.is_file() and file.stat().st_size <= MAX_BYTES)
        found += [file.read_bytes() for file in files]
    return found


def _image() -> list[bytes]:
    found = []
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        file = io.BytesIO()
        Image.new("RGB", (9, 7), (200, 30, 60)).save(file, kind)
        found.append(file.getvalue())
    return found


def _policies() -> list[bytes]:
    return [
        b"User-agent: janus-forge/2\nDisallow: /a\nAllow: /a/b*$\nContent-Signal: ai-train=no\n",
        b"\xef\xbb\xbfUser-agent: *\r\nContent-Usage: /x train-ai=n\r\nDisallowAITraining: /\r\n",
        b'[{"location": "/a/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]',
    ]


def _rows() -> list[bytes]:
    return [b'{"a": "x", "b": [1, 2.5e3, null]}\n{"a": "\\ud800"}\n', b'[{"a": 1}, {"b": {}}]', b'a,b\n1,"x ""y"""\n']


def _tar() -> list[bytes]:
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            for name in ("a.txt", "b" * (90 if kind == tarfile.USTAR_FORMAT else 120) + ".txt"):
                info = tarfile.TarInfo(name)
                info.size = 3
                archive.addfile(info, io.BytesIO(b"abc"))
        found.append(file.getvalue())
    return found


def _shard() -> list[bytes]:
    file = io.BytesIO()
    row = {"uid": b"0" * 16, "key": "k", "messages": [{"role": "document", "text": "t"}], "images": [], "outcome": "ok"}
    with pa.ipc.new_file(file, ROWS) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema=ROWS))
    return [file.getvalue()]


def _manifest() -> list[bytes]:
    manifest = ShardManifest(
        layer="rows", source="s", task="text", shard="a", key="0" * 64, rows=1, bytes=9, sha256="0" * 64, inputs={},
        config="",
    )  # fmt: skip
    return [canonical_json(manifest.sealed())]


def _weights() -> list[bytes]:
    tensors = {"vision_model.a": torch.ones(2, 2), "language_model.model.norm.weight": torch.ones(2)}
    file = io.BytesIO()
    torch.save(tensors, file)
    return [save(tensors), file.getvalue()]


_MADE = {
    "image": _image,
    "policies": _policies,
    "rows": _rows,
    "tar": _tar,
    "shard": _shard,
    "manifest": _manifest,
    "weights": _weights,
}
