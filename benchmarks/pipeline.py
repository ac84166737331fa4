"""The corpus pipeline beside img2dataset + `datasets.map`, and beside nothing but decoding and resizing.

    python -m benchmarks.pipeline --photos DIR ... [--images 5000] [--rounds 3]
    python -m benchmarks.pipeline --photos DIR ... --memory 1000 20000
    python -m benchmarks.pipeline --photos DIR ... --stages

All sides get the same photos from one HTTP server on this machine and end with the same thing on disk: token ids and a
384-px JPEG of quality 95 per image, beside its size, hashes, language. Each side is a fresh process; the sides take
turns; medians are printed (design D11).

- `ours`: download → measure → decide → tokenize → publish, one worker.
- `img2dataset`: img2dataset without re-encoding (one process, 32 threads), then `datasets.map` with our own functions
  for the rest, which spares it everything that makes a corpus resumable, refreshable and checked.
- `ceiling`: decode and resize, from memory, in a bare loop.

The figure is images per second of CPU time, children included: one core's worth, and hardly changed by a busy machine.
`marginal` leaves out what a run of any size costs (imports, models): the difference of a long and a short run.
`--stages` times the parts of our own work one by one instead, in this process. Results: benchmarks/pipeline.md.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIDE = 384
SIDES = ("ours", "img2dataset", "ceiling")


def photos(folders: list[Path]) -> list[Path]:
    """Every JPEG under `folders`."""
    found = sorted(path for folder in folders for path in folder.rglob("*.[jJ][pP]*[gG]"))
    if not found:
        raise SystemExit("no JPEG files under --photos")
    return found


class Server(http.server.BaseHTTPRequestHandler):
    """Serves photo n at /<n>.jpg, over and over."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files: list[Path], *arguments: Any) -> None:
        self.files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """One photo, or 404 for anything else (robots.txt)."""
        name = Path(self.path).stem
        data = self.files[int(name) % len(self.files)].read_bytes() if name.isdigit() else b""
        self.send_response(200 if data else 404)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(files: list[Path]) -> Iterator[int]:
    """The port of a running server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, files)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def caption(number: int) -> str:
    """A caption of ordinary length."""
    return f"Photo number {number}: people, animals or things on an ordinary day, seen by somebody with a camera."


def ours(folder: Path, model: Path, port: int, images: int) -> None:
    """Build a corpus."""
    from pipelines.build import build
    from schemas.spec import CorpusSpec, Operations

    rows = [{"url": f"http://photos.test/{n}.jpg", "caption": caption(n)} for n in range(images)]
    (folder / "urls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"name": "web", "format": "url_list", "path": str(folder / "urls.jsonl"), "task": "understanding"}
    settings = {
        "name": "benchmark", "stage": 2, "models": {"janus": str(model)}, "sources": [source],
        # The same photos come again and again: all are wanted here.
        "dedup": {"exact": False, "near_radius": None},
    }  # fmt: skip
    operations = Operations(resolve={"photos.test:80": f"127.0.0.1:{port}"}, per_host=32)
    snapshot = build(CorpusSpec.model_validate(settings), folder / "corpus", operations)
    assert snapshot.rows() == images


def img2dataset(folder: Path, model: Path, port: int, images: int) -> None:
    """Download with img2dataset, do the rest in datasets.map."""
    import datasets
    import img2dataset

    rows = [{"url": f"http://127.0.0.1:{port}/{n}.jpg", "caption": caption(n)} for n in range(images)]
    (folder / "urls.json").write_text("\n".join(map(json.dumps, rows)))
    img2dataset.download(
        url_list=str(folder / "urls.json"), input_format="jsonl", url_col="url", caption_col="caption",
        output_folder=str(folder / "images"), output_format="parquet", processes_count=1, thread_count=32,
        disable_all_reencoding=True, number_sample_per_shard=2048, enable_wandb=False,
    )  # fmt: skip
    rows = datasets.load_dataset(
        "parquet", data_files=f"{folder}/images/*.parquet", split="train", cache_dir=str(folder / "cache")
    )
    rows = rows.map(functools.partial(process, model=str(model)), remove_columns=rows.column_names)
    assert rows.num_rows == images


def process(row: dict[str, Any], model: str) -> dict[str, Any]:
    """One row: the same functions as ours, called one by one."""
    import hashlib

    import simplejpeg

    from janus.images import inspect, load_rgb
    from janus.model.templates import encode_sample
    from pipelines.signals.phash import phash
    from schemas.sample import Message

    processor = _processor(model)
    facts = inspect(row["jpg"])
    image = load_rgb(row["jpg"])
    pixels = processor.understanding_pixels(image)
    messages = [Message(role="caption", text=row["caption"])]
    encoded = encode_sample(processor, task="understanding", template="plain", messages=messages)
    return {
        "input_ids": encoded.input_ids,
        "loss_mask": encoded.loss_mask,
        "pixels": simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444"),
        "content_sha256": hashlib.sha256(row["jpg"]).digest(),
        "phash": str(phash(image)),
        "width": facts.width,
        "height": facts.height,
        "chars": len(row["caption"]),
        "words": len(row["caption"].split()),
    }


@functools.cache
def _processor(model: str) -> Any:
    from janus.model.checkpoints.model_folder import load_processor

    return load_processor(model)


def ceiling(files: list[Path], images: int) -> None:
    """Decode and resize, nothing else."""
    import io

    from PIL import Image

    from janus.model.pixels import understanding_pixels

    data = [path.read_bytes() for path in files]
    for number in range(images):
        understanding_pixels(Image.open(io.BytesIO(data[number % len(data)])).convert("RGB"), SIDE)


def child(side: str, files: list[Path], model: Path, port: int, images: int) -> dict[str, float]:
    """Run one side in a process of its own: CPU seconds (with its children) and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        job = {"side": side, "folder": folder, "files": [str(f) for f in files], "model": str(model), "port": port}
        command = [sys.executable, "-m", "benchmarks.pipeline", "--child", json.dumps({**job, "images": images})]
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{side} failed with status {status}; run it by hand: {command}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "peak": float(output.split()[-1])}


def run_child(job: dict[str, Any]) -> None:
    """The process that `child` starts. Its last word is its peak memory in MiB."""
    from tests.memory import peak

    files = [Path(file) for file in job["files"]]
    if job["side"] == "ceiling":
        ceiling(files, job["images"])
    else:
        side = ours if job["side"] == "ours" else img2dataset
        side(Path(job["folder"]), Path(job["model"]), job["port"], job["images"])
    print(peak())


def compare(files: list[Path], model: Path, port: int, images: int, rounds: int) -> None:
    """All sides in turn, long and short; one line each."""
    short = max(1, images // 10)
    runs: dict[tuple[str, int], list[float]] = {(side, count): [] for side in SIDES for count in (short, images)}
    for _ in range(rounds):
        for side, count in runs:
            runs[side, count].append(child(side, files, model, port, count)["cpu"])
    median = {key: statistics.median(values) for key, values in runs.items()}
    marginal = {side: (images - short) / (median[side, images] - median[side, short]) for side in SIDES}
    print(f"| side | images / CPU s, whole run of {images} | marginal | of the ceiling |\n|---|---:|---:|---:|")
    for side in SIDES:
        share = marginal[side] / marginal["ceiling"]
        print(f"| {side} | {images / median[side, images]:,.0f} | {marginal[side]:,.0f} | {share:.0%} |")
    print(f"\nours / img2dataset + datasets.map: {marginal['ours'] / marginal['img2dataset']:.2f} (marginal)")


def stages(files: list[Path], model: Path, rounds: int) -> None:
    """CPU milliseconds per image of each part, the median of `rounds`, and what share decode and resize are."""
    import hashlib
    import io

    from PIL import Image

    from janus.images import inspect
    from janus.model.pixels import understanding_pixels
    from pipelines.row import Row
    from pipelines.selection import ALWAYS
    from pipelines.signals import Signal, load_signal
    from pipelines.steps.tokenize import TokenizeStep
    from schemas.spec import Limits, Tokenize

    limits = Limits()
    step = TokenizeStep(Path(), str(model), limits, Tokenize(), "cpu", with_codes=False)
    step.setup()
    data = [path.read_bytes() for path in files]
    rows = [
        {
            "uid": bytes(16),
            "outcome": "ok",
            "messages": [{"role": "caption", "text": caption(number)}],
            "images": [{"bytes": image, "sha256": hashlib.sha256(image).digest()}],
        }
        for number, image in enumerate(data)
    ]

    signals: list[Signal] = [load_signal(name) for name in ALWAYS]

    def measure(row: dict[str, Any]) -> list[Any]:
        seen = Row("understanding", row["uid"], row["outcome"], row["messages"], row["images"], limits.max_pixels)
        return [signal.measure(seen) for signal in signals]

    def opened(image: bytes) -> Image.Image:
        return Image.open(io.BytesIO(image)).convert("RGB")

    decoded = [opened(image) for image in data]
    parts: dict[str, tuple[Any, list[Any]]] = {
        "decode (Pillow)": (opened, data),
        "resize and pad to 384 (bicubic)": (lambda image: understanding_pixels(image, SIDE), decoded),
        "download: header and hash": (
            lambda image: (inspect(image), hashlib.sha256(image).digest()),
            data,
        ),
        "measure: decode, hash, lengths": (measure, rows),
        "tokenize: decode, resize, JPEG, token ids": (lambda row: step._prepare(row, "understanding", "plain"), rows),
    }
    cost = {name: statistics.median(_milliseconds(*part) for _ in range(rounds)) for name, part in parts.items()}
    names = list(cost)
    print("| part | CPU ms / image |\n|---|---:|")
    for name, value in cost.items():
        print(f"| {name} | {value:.2f} |")
    bare, all_ours = sum(cost[name] for name in names[:2]), sum(cost[name] for name in names[2:])
    print(f"\nours {all_ours:.2f} ms, decode + resize alone {bare:.2f} ms: {bare / all_ours:.0%} of the ceiling")


def _milliseconds(function: Any, items: list[Any]) -> float:
    function(items[0])
    began = time.thread_time()
    for item in items:
        function(item)
    return (time.thread_time() - began) / len(items) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", help="folders of JPEG photos")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="+", help="instead: peak memory of builds of these sizes")
    parser.add_argument("--stages", action="store_true", help="instead: CPU time of each part")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return run_child(json.loads(options.child))
    from tests.pipelines.world import make_model

    files = photos(options.photos)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, {len(files)} photos")
    with tempfile.TemporaryDirectory() as folder, serving(files) as port:
        model = make_model(Path(folder) / "janus", side=SIDE, grid=24)
        if options.stages:
            return stages(files, model, options.rounds)
        if not options.memory:
            return compare(files, model, port, options.images, options.rounds)
        for images in options.memory:
            print(f"{images} images: peak {child('ours', files, model, port, images)['peak']:,.0f} MiB", flush=True)
    return None


if __name__ == "__main__":
    main()
