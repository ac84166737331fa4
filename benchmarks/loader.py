"""Samples per second and start-up of janus.data beside webdataset and mosaicml-streaming, on the same photos.

    python -m benchmarks.loader --photos DIR ... [--rounds 3] [--seconds 6]

Each loader is measured in a process of its own; they take turns, and medians are printed with their ratio (design D11).
All three deliver the same thing: shuffled batches of uint8 pixels [N, 384, 384, 3] (or 576 codes) with token ids, from
the same bytes, decoded by the same decoder. The other two pad their batches; ours are packed, and carry positions,
labels and document lengths as well. The others are run with 0 and 2 workers. Two figures per loader: samples per
second of wall time, the better of its runs, and samples per second of CPU time (all threads; without workers), which a
busy machine hardly changes.

The last lines are ours alone: step 1,000,000 of a mixture of a billion rows, looked up from nothing by row counts; and
what the files add to that, which is the opening of nearly as many shards as a window has documents.
Needs benchmarks/requirements-loader.txt. Results with hardware and date: benchmarks/loader.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from janus.data.plan import Plan

SIDE, CODES = 384, 576
BATCH = 48
MODES = {"jpeg": "understanding, JPEG pixels", "raw": "understanding, raw pixels", "codes": "generation, codes"}
OTHERS = ("webdataset", "streaming")
VARIANTS = {"janus": [2], "webdataset": [0, 2], "streaming": [0, 2]}
"""Workers to run each loader with; for ours, decoding threads."""


def photos(folders: list[Path]) -> list[np.ndarray]:
    """Every JPEG under `folders`, long side to 384, padded with grey (paper, section 3.2)."""
    from PIL import Image, ImageOps

    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*.[jJ][pP]*[gG]")):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        found.append(np.asarray(ImageOps.pad(upright, (SIDE, SIDE), Image.Resampling.BICUBIC, (127, 127, 127))))
    if not found:
        raise SystemExit("no JPEG files under --photos")
    return found


def make_samples(pictures: list[np.ndarray], count: int) -> Iterator[dict[str, bytes]]:
    """`count` samples: a photo as JPEG and raw, codes, and token ids of both tasks, as bytes."""
    import simplejpeg

    generator = np.random.default_rng(0)
    jpegs = [simplejpeg.encode_jpeg(picture, quality=95, colorsubsampling="444") for picture in pictures]
    for number in range(count):
        words = generator.integers(6, 100_000, generator.integers(12, 180)).tolist()
        image = [3, *[5] * CODES, 4]
        yield {
            "jpeg": jpegs[number % len(jpegs)],
            "raw": pictures[number % len(pictures)].tobytes(),
            "codes": generator.integers(0, 16384, CODES).astype(np.uint16).tobytes(),
            "understanding": np.array([1, *image, *words, 2], np.int32).tobytes(),
            "generation": np.array([1, *words, *image, 2], np.int32).tobytes(),
        }


def prepare(mode: str, root: Path, pictures: list[np.ndarray], count: int) -> None:
    """Write the same samples in each loader's format under `root`/{janus,webdataset,streaming}."""
    import streaming
    import webdataset

    from schemas.manifest import Fingerprints
    from tests.data.make import corpus_of

    task = "generation" if mode == "codes" else "understanding"
    made_with = Fingerprints(
        tokenizer="", image_processor="", vq="", image_size=SIDE, understanding_tokens=CODES, generation_tokens=CODES,
        codebook_size=16384, pixels="raw" if mode == "raw" else "jpeg",
    )  # fmt: skip
    rows = []
    (root / "webdataset").mkdir(parents=True)
    with (
        webdataset.ShardWriter(str(root / "webdataset/%05d.tar"), maxcount=256, verbose=0) as tar,
        streaming.MDSWriter(out=str(root / "streaming"), columns={"payload": "bytes", "ids": "bytes"}) as mds,
    ):
        for number, sample in enumerate(make_samples(pictures, count)):
            ids = np.frombuffer(sample[task], np.int32)
            tar.write({"__key__": f"{number:08d}", "payload": sample[mode], "ids": sample[task]})
            mds.write({"payload": sample[mode], "ids": sample[task]})
            words = (ids >= 6) | (ids == 2) if task == "understanding" else ids == 5
            rows.append(
                {
                    "uid": number.to_bytes(16, "little"),
                    "input_ids": ids,
                    "loss_mask": words,
                    "short_ids": None,
                    "codes": np.frombuffer(sample[mode], np.uint16) if mode == "codes" else None,
                    "pixels": None if mode == "codes" else [sample[mode]],
                    "length": len(ids),
                    "short_length": len(ids),
                }
            )
    corpus_of(root / "janus", {("photos", task, ""): rows}, made_with, shard_rows=256)


def ours(mode: str, root: Path, workers: int) -> Iterator[int]:
    """Documents per step of janus.data; `workers` decode threads."""
    from janus.data.config import DataConfig, TokenIds
    from janus.data.loader import Loader
    from schemas.manifest import load_snapshot

    data = DataConfig(
        ratio=(0, 0, 1) if mode == "codes" else (1, 0, 0),
        sequences=BATCH // 6,
        micro_batch=BATCH // 6,
        caption_drop=0.1,
        decode_threads=max(1, workers),
    )
    tokens = TokenIds(bos=1, eos=2, pad=0, boi=3, eoi=4, image=5)
    for step in Loader(root, load_snapshot(root), data=data, tokens=tokens, steps=10**9):
        yield sum(len(batch.uids) for batch in step)


def decoded(mode: str, sample: dict[str, bytes]) -> dict[str, np.ndarray]:
    """What a Dataset of the other two does per sample: the same work as ours."""
    import simplejpeg

    payload = sample["payload"]
    if mode == "jpeg":
        image = simplejpeg.decode_jpeg(payload)
    elif mode == "raw":
        image = np.frombuffer(payload, np.uint8).reshape(SIDE, SIDE, 3)
    else:
        image = np.frombuffer(payload, np.uint16).astype(np.int64)
    return {"image": image, "ids": np.frombuffer(sample["ids"], np.int32)}


def collate(samples: list[dict[str, np.ndarray]]) -> dict:
    """Stack images, pad token ids."""
    import torch

    ids = np.zeros((len(samples), max(len(sample["ids"]) for sample in samples)), np.int64)
    for row, sample in zip(ids, samples, strict=True):
        row[: len(sample["ids"])] = sample["ids"]
    images = np.stack([sample["image"] for sample in samples])
    return {"image": torch.from_numpy(images), "ids": torch.from_numpy(ids)}


def with_webdataset(mode: str, root: Path, workers: int) -> Iterator[int]:
    """Samples per batch of webdataset, with its usual shuffle buffer."""
    import webdataset

    shards = sorted(str(path) for path in root.glob("*.tar"))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(500)
        .map(lambda sample: decoded(mode, sample))
        .batched(BATCH, collation_fn=collate)
        .repeat()
    )
    for batch in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield len(batch["ids"])


def with_streaming(mode: str, root: Path, workers: int) -> Iterator[int]:
    """Samples per batch of mosaicml-streaming, shuffled."""
    import streaming
    from torch.utils.data import DataLoader

    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(local=str(root), shuffle=True, batch_size=BATCH)

    def batch_of(samples: list[dict[str, bytes]]) -> dict:
        return collate([decoded(mode, sample) for sample in samples])

    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=batch_of)
    while True:
        for batch in loader:
            yield len(batch["ids"])


SIDES = {"janus": ours, "webdataset": with_webdataset, "streaming": with_streaming}


def measure(side: str, root: Path, variants: list[int], seconds: float) -> dict[str, dict[str, float]]:
    """All modes of one loader in one process: {"mode/workers": figures}. Imports are not counted."""
    import torch

    torch.set_num_threads(1)
    __import__({"janus": "janus.data.loader"}.get(side, side))
    return {
        f"{mode}/{workers}": timed(SIDES[side](mode, root / mode / side, workers), seconds)
        for mode in MODES
        for workers in variants
    }


def timed(batches: Iterator[int], seconds: float) -> dict[str, float]:
    """Seconds to the first batch, then samples per second of wall and CPU time over at least ten batches."""
    start = time.perf_counter()
    next(batches)
    first, cpu = time.perf_counter(), time.process_time()
    samples = taken = 0
    now = first
    while now - first < seconds or taken < 10:
        samples += next(batches)
        taken += 1
        now = time.perf_counter()
    return {"startup": first - start, "wall": samples / (now - first), "cpu": samples / (time.process_time() - cpu)}


SHARD_ROWS = 2048
"""Rows per shard, as `schemas.spec` has it by default."""


def billion_rows() -> Plan:
    """The plan of stage 2 over a billion rows known by their counts only."""
    from janus.data.config import DataConfig
    from janus.data.plan import Phase, Plan
    from tests.data.synthetic import Counted

    pools = {
        "understanding": Counted("understanding", 300_000_000, 600, 900),
        "text": Counted("text", 200_000_000, 50, 1500),
        "generation": Counted("generation", 500_000_000, 590, 780),
    }
    return Plan([Phase(0, None, pools)], DataConfig(ratio=(2, 3, 5), sequences=512))


def look_up_a_million() -> dict[str, float]:
    """Seconds (wall, CPU) and peak memory to plan step 1,000,000 of a billion rows known by their counts only."""
    start, cpu = time.perf_counter(), time.process_time()
    packs = billion_rows().step(1_000_000)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    fill = sum(draw.length for pack in packs for draw in pack) / (512 * 4096)
    # Not ru_maxrss: a child starts with its parent's.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return {"wall": seconds, "cpu": cpu, "peak_mib": peak, "fill": fill}


def price_of_a_window() -> dict[str, float]:
    """Shards that a window over a billion rows touches, its steps, and CPU seconds to open and index a warm shard."""
    from janus.data.shards import Shard
    from schemas.manifest import Fingerprints
    from tests.data.make import corpus_of

    plan = billion_rows()
    steps = plan.forecasts[0].window_steps
    draws = [draw for step in range(steps) for pack in plan.step(step) for draw in pack]
    touched = len({(draw.pool, draw.row // SHARD_ROWS) for draw in draws})

    made_with = Fingerprints(
        tokenizer="", image_processor="", vq="", image_size=SIDE, understanding_tokens=CODES, generation_tokens=CODES,
        codebook_size=16384, pixels="jpeg",
    )  # fmt: skip
    rows = []
    for number, sample in enumerate(make_samples([np.zeros((SIDE, SIDE, 3), np.uint8)], SHARD_ROWS)):
        ids = np.frombuffer(sample["generation"], np.int32)
        row = {"uid": number.to_bytes(16, "little"), "input_ids": ids, "loss_mask": ids == 5, "short_ids": ids}
        codes = np.frombuffer(sample["codes"], np.uint16)
        rows.append(row | {"codes": codes, "pixels": None, "length": len(ids), "short_length": len(ids)})
    with tempfile.TemporaryDirectory() as folder:
        snapshot = corpus_of(Path(folder), {("made", "generation", ""): rows}, made_with, shard_rows=SHARD_ROWS)
        path = Path(folder) / snapshot.shards[0].path
        times = []
        for _ in range(101):
            start = time.process_time()
            Shard(path, SHARD_ROWS)
            times.append(time.process_time() - start)
    return {"shards": touched, "documents": len(draws), "steps": steps, "cpu": statistics.median(times)}


def child(*arguments: object) -> dict:
    """Run this file in a fresh process and read the JSON it prints last."""
    command = [sys.executable, "-m", "benchmarks.loader", "--child", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", help="folders of JPEG photos")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="per measurement")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, *rest = options.child
        if side == "million":
            print(json.dumps(look_up_a_million()))
        elif side == "window":
            print(json.dumps(price_of_a_window()))
        else:
            root, seconds = rest
            print(json.dumps(measure(side, Path(root), VARIANTS[side], float(seconds))), flush=True)
        os._exit(0)  # the other loaders' workers may not end on their own

    pictures = photos(options.photos)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {len(pictures)} photos as {options.samples} samples")
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            prepare(mode, Path(folder) / mode, pictures, options.samples)
        print("| rows | loader | start-up s | samples/s | ratio | samples/CPU s | ratio |")
        print("|---|---|---:|---:|---:|---:|---:|")
        report(Path(folder), options.rounds, options.seconds)
    million = [child("million") for _ in range(options.rounds)]
    median = {key: statistics.median(run[key] for run in million) for key in million[0]}
    print(
        f"\nstep 1,000,000 of 1e9 rows from nothing: {median['wall']:.2f} s ({median['cpu']:.2f} s of CPU), peak "
        f"memory of the process {median['peak_mib']:.0f} MiB, fill {median['fill']:.1%}"
    )
    window = child("window")
    print(
        f"a window of it: {window['steps']} steps, {window['documents']:,} documents in {window['shards']:,} shards of "
        f"{SHARD_ROWS:,} rows; {window['cpu'] * 1e3:.2f} ms of CPU to open and index a warm one, "
        f"{window['cpu'] * window['shards']:.0f} s for all"
    )


def report(root: Path, rounds: int, seconds: float) -> None:
    """Measure all sides in turn, print a line each; a ratio is ours to the better of the others."""
    runs: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, taken in runs.items():
            taken.append(child(side, root, seconds))

    def median(side: str, mode: str, workers: int, key: str) -> float:
        return statistics.median(run[f"{mode}/{workers}"][key] for run in runs[side])

    for mode, name in MODES.items():
        startup = {side: min(median(side, mode, workers, "startup") for workers in VARIANTS[side]) for side in SIDES}
        wall = {side: max(median(side, mode, workers, "wall") for workers in VARIANTS[side]) for side in SIDES}
        cpu = {side: median(side, mode, VARIANTS[side][0], "cpu") for side in SIDES}
        for side in SIDES:
            ratios = [f"{rate['janus'] / max(rate[other] for other in OTHERS):.2f}" for rate in (wall, cpu)]
            shown = ratios if side == "janus" else ["", ""]
            figures = [f"{startup[side]:.2f}", f"{wall[side]:,.0f}", shown[0], f"{cpu[side]:,.0f}", shown[1]]
            print(f"| {' | '.join([name, side, *figures])} |", flush=True)


if __name__ == "__main__":
    main()
