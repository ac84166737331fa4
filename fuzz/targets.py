"""What is fuzzed: one function of bytes per reader.

Each takes any bytes and raises nothing but what its reader promises: expected errors are swallowed here, and anything
else that comes out is a finding.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from janus.image_rights import picture_reserved
from janus.images import ImageProblem, inspect, load_rgb
from janus.model.checkpoints.deepseek import tensors_to_hf
from janus.model.checkpoints.tensors import read_tensor_file
from pipelines import ledger
from pipelines.fetch.robots import Rules, Unreadable, text_of
from pipelines.fetch.tdm import tdm_rules
from pipelines.reading.errors import SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.records import text_records
from pipelines.reading.tars import members, read_member
from pipelines.shardio import ShardError, open_shard
from schemas.digest import file_sha256
from schemas.manifest import ShardManifest, load_snapshot

PIXELS = 1 << 20
"""Pixel cap while fuzzing: decoding more finds nothing but patience."""
FOLDER = Path(tempfile.mkdtemp(prefix="janus-fuzz-"))
"""Where files of the bytes at hand lie."""


def image(data: bytes) -> None:
    """Opening and decoding a picture, and reading the reservations in it."""
    with contextlib.suppress(ImageProblem):
        inspect(data, max_pixels=PIXELS)
        load_rgb(data, max_pixels=PIXELS)
    picture_reserved(data)


def policies(data: bytes) -> None:
    """robots.txt and tdmrep.json."""
    with contextlib.suppress(Unreadable):
        Rules("robots.txt", text_of(data), "janus-forge").refusal("https://host.example/a/b.jpg?c=d")
    with contextlib.suppress(Unreadable):
        tdm_rules(data)


def rows(data: bytes) -> None:
    """JSON lines, JSON and CSV."""
    for name in ("rows.jsonl", "rows.json", "rows.csv"):
        file = FOLDER / name
        file.write_bytes(data)
        with contextlib.suppress(SourceError):
            for _ in text_records(file, Gate(FOLDER, ()), None, rows=None, json_lines=False):
                pass


def tar(data: bytes) -> None:
    """Members of a tar."""
    file = FOLDER / "shard.tar"
    file.write_bytes(data)
    gate = Gate(FOLDER, ())
    with contextlib.suppress(SourceError):
        for member in members(file, gate):
            read_member(file, gate, member)


def shard(data: bytes) -> None:
    """A shard whose manifest has the right hash: bytes that somebody made, not a flipped bit."""
    path = "rows/s/a.000000000000.arrow"
    file = FOLDER / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    manifest = ShardManifest(
        layer="rows", source="s", task="text", shard="a", key="0" * 64, rows=1, bytes=len(data),
        sha256=file_sha256(file), inputs={}, config="",
    )  # fmt: skip
    with contextlib.suppress(ShardError):
        open_shard(FOLDER, path, manifest)


def manifest(data: bytes) -> None:
    """The manifest of a shard, and a snapshot."""
    path = "rows/s/a.000000000000.arrow"
    (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
    (FOLDER / path).with_suffix(".json").write_bytes(data)
    with contextlib.suppress(ShardError):
        ledger.load_manifest(FOLDER, path)
    (FOLDER / "snapshots").mkdir(exist_ok=True)
    (FOLDER / "snapshots/00001-000000000000.json").write_bytes(data)
    with contextlib.suppress(ValueError):
        load_snapshot(FOLDER, "00001-000000000000")


def weights(data: bytes) -> None:
    """Weights in safetensors and in PyTorch's format, and DeepSeek's names in them."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        file = FOLDER / name
        file.write_bytes(data)
        with contextlib.suppress(ValueError):
            tensors_to_hf(read_tensor_file(file))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (image, policies, rows, tar, shard, manifest, weights)
}
