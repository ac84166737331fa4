"""Decide and dedup over synthetic rows without pixels: CPU per row and memory of the process that drives the build.

    python -m benchmarks.decide_scale --rows 100000 1000000 10000000

One row in ten repeats another: half of these the same picture, half a near one (1 to 4 flipped bits of its hash).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

SHARD_ROWS = 8192
SPEC = {
    "name": "synthetic",
    "stage": 2,
    "models": {"janus": "none"},
    "sources": [{"name": "photos", "format": "image_folder", "path": "none", "task": "generation"}],
}


def layers(rows: int, seed: int) -> dict[str, dict[str, pa.Array]]:
    """The columns of each layer of one shard."""
    rng = np.random.default_rng([seed, 7])
    earlier = np.random.default_rng([max(0, seed - 1), 7])
    phash = rng.integers(0, 2**64, rows, np.uint64)
    # The earlier shard's first draws are its hashes: copy some that are no copies, and flip a few bits of some.
    other = earlier.integers(0, 2**64, rows, np.uint64)
    twentieth = rows // 20 if seed else 0
    phash[: 2 * twentieth] = other[2 * twentieth : 4 * twentieth]
    for _ in range(4):
        phash[:twentieth] ^= np.uint64(1) << rng.integers(0, 64, twentieth).astype(np.uint64)
    content = np.zeros((rows, 4), np.uint64)
    content[:] = phash[:, None]
    uids = np.sort(np.frombuffer(rng.bytes(16 * rows), "S16"))
    uid = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(uids.tobytes())])
    sha256 = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(content.tobytes())])
    role = pa.array(["caption"] * rows)
    messages = pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int32)), pa.StructArray.from_arrays([role, role], ["role", "text"])
    )
    side = pa.array(rng.integers(64, 4096, rows).astype(np.int32))
    ok = pa.array(["ok"] * rows)
    one = pa.array(np.ones(rows, np.int16))
    image = {"outcome": ok, "width": side, "height": side, "num_images": one, "sha256": sha256}
    return {
        "rows": {"uid": uid, "key": role, "messages": messages, "outcome": ok},
        "signals/image": {"uid": uid, **image},
        "signals/phash": {"uid": uid, "hash": pa.array(phash)},
        "signals/text": {"uid": uid, "chars": side, "words": side},
    }


def column(field: pa.Field, columns: dict[str, pa.Array], count: int) -> pa.Array:
    """A column of a layer: what there is of it, else empty lists or nulls."""
    if field.name in columns:
        return columns[field.name].cast(field.type)
    if pa.types.is_list(field.type):
        offsets = pa.array(np.zeros(count + 1, np.int32))
        return pa.ListArray.from_arrays(offsets, pa.nulls(0, field.type.value_type))
    return pa.nulls(count, field.type)


def make(folder: Path, rows: int) -> None:
    """Write the layers of a corpus of so many rows, and commit them."""
    from pipelines import ledger
    from pipelines.shardio import write_table
    from pipelines.signals import image, phash, text
    from schemas.layers import ROWS, signal_schema

    schemas = {"rows": ROWS}
    for name, module in (("image", image), ("phash", phash), ("text", text)):
        schemas[f"signals/{name}"] = signal_schema(name, module.VERSION, module.FIELDS)
    for seed in range(-(-rows // SHARD_ROWS)):
        count = min(SHARD_ROWS, rows - seed * SHARD_ROWS)
        for layer, columns in layers(count, seed).items():
            schema = schemas[layer]
            arrays = [column(field, columns, count) for field in schema]
            spec = ledger.StepSpec(layer, 1, {"seed": seed})
            path = ledger.shard_path(layer, "photos", f"{seed:016x}", spec.key({}))
            written = write_table(folder, path, schema, pa.Table.from_arrays(arrays, schema=schema))
            counts = {"rows": count} if layer == "rows" else {"ok": count}
            ledger.commit(folder, spec, source="photos", task="generation", shard=f"{seed:016x}", inputs={},
                          written=written, counts=counts)  # fmt: skip


def decide(folder: Path, workers: int) -> None:
    """Decide over the corpus; prints rows, kept, CPU seconds (with workers) and peak memory of this process."""
    from pipelines import ledger
    from pipelines.steps.context import Build, Shard
    from pipelines.steps.decide import decide as step
    from schemas.manifest import Fingerprints
    from schemas.spec import CorpusSpec, Operations
    from storage.places import as_store

    prints = Fingerprints(tokenizer="", image_processor="", vq="", image_size=1, understanding_tokens=1,
                          generation_tokens=1, codebook_size=1, pixels="jpeg")  # fmt: skip
    build = Build(CorpusSpec.model_validate(SPEC), as_store(folder), Operations(workers=workers), prints)
    found = {layer: ledger.manifests(folder, layer, "photos") for layer in layers(1, 0)}
    shards = [
        Shard("photos", "generation", name, 1, {layer: found[layer][name][0] for layer in found})
        for name in sorted(found["rows"])
    ]
    before, start = cpu(), time.monotonic()
    decided = step(build, shards)
    rows = sum(shard.rows for shard in decided)
    kept = sum(shard.layers["decision"].counts.get("kept", 0) for shard in decided)
    peak = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
    seconds = cpu() - before
    print(
        f"{rows:>11,} rows  {kept / rows:.4f} kept  {seconds:8.1f} s CPU  {1e6 * seconds / rows:6.2f} us/row  "
        f"{time.monotonic() - start:7.1f} s wall  driver {peak / 2**10:.0f} MiB",
        flush=True,
    )


def cpu() -> float:
    """CPU seconds of this process and its ended children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        decide(arguments.folder, arguments.workers)
        return
    for rows in arguments.rows:
        folder = Path(tempfile.mkdtemp())
        try:
            make(folder, rows)
            command = [sys.executable, "-m", "benchmarks.decide_scale", "--in", str(folder)]
            subprocess.run([*command, "--workers", str(arguments.workers)], check=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
