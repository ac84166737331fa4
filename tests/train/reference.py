"""The reference loss curve: stage 2 of the tiny preset as it is, on a made-up corpus, run by the command itself.

    python -m tests.train.reference        # writes tests/train/data/reference_curve.json anew, some minutes

Regenerate it only for a deliberate change of data order, loss, update rule or recipe; that is a line in CHANGELOG.md.

On machines of one kind (`machine()`) a run repeats itself bit for bit, whatever their load and number of cores: it has
one thread and the kernels of STEADY. Other kernels and thread counts round otherwise: with those of AVX-512, of SSE, of
PyTorch's plain C++ or with two threads, the losses of the first 12 steps moved by at most 1.0e-7 of their value. Such
differences grow: sums added in another order moved step 100 by 1.5e-6, step 330 by 2 %.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from janus.model.checkpoints.model_folder import save_janus
from janus.model.parts import build
from janus.model.presets import preset_config
from janus.model.processor import Processor
from janus.train.metrics import read_metrics
from janus.train.presets import recipe
from tests.data.make import TOKENS, MadeSource
from tests.train.little import VOCABULARY, little_tokenizer, write_corpus

CURVE = Path(__file__).parent / "data" / "reference_curve.json"
ROOT = Path(__file__).parents[2]
STAGE = 2
STEPS = recipe("tiny", STAGE).steps
SOURCES = (
    MadeSource("photos", "understanding", 400),
    MadeSource("texts", "text", 200),
    MadeSource("classes", "generation", 200, words=(1, 2), group="imagenet"),
    MadeSource("drawings", "generation", 400),
)
STEADY = {
    "OMP_NUM_THREADS": "1",
    # PyTorch, MKL and oneDNN choose kernels by what the CPU offers, and their sums are rounded accordingly.
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""Environment of the run: one thread, and kernels that any x86 CPU of the last ten years has."""


def machine() -> dict[str, str]:
    """What must be as it was when the curve was recorded for its losses to come out bit for bit."""
    cpu = {}
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    avx2 = "with AVX2" if "avx2" in cpu.get("flags", "").split() else "without AVX2"
    # MKL promises the same results on all Intel CPUs; for others it has other kernels.
    return {"torch": torch.__version__.split("+")[0], "cpu": f"{cpu.get('vendor_id', platform.machine())} {avx2}"}


def write_reference_model(folder: Path) -> Path:
    """The tiny preset with weights drawn from a fixed seed (by NumPy: the same on every machine)."""
    config = preset_config("tiny", tokenizer_size=VOCABULARY, image_token_id=TOKENS.image, bos_token_id=TOKENS.bos,
                           eos_token_id=TOKENS.eos, pad_token_id=TOKENS.pad)  # fmt: skip
    janus = build(config).float()
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for name, tensor in sorted(janus.state_dict().items()):
            if "norm" not in name:
                drawn = generator.standard_normal(tuple(tensor.shape), np.float32)
                tensor.copy_(torch.from_numpy(drawn) * config.text_config.initializer_range)
    save_janus(folder, janus, Processor.from_config(config, little_tokenizer(), style="janus"))
    return folder


def reference_run(folder: Path, steps: int) -> list[dict[str, Any]]:
    """Losses, label counts and batch fingerprints of the first `steps` steps."""
    model = write_reference_model(folder / "model")
    write_corpus(folder / "corpus", model, SOURCES)
    arguments = ["--stage", str(STAGE), "--preset", "tiny", "--device", "cpu", "--watch.log-every", "1"]
    arguments += ["--model", str(model), "--data", str(folder / "corpus"), "--out", str(folder / "run")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "janus.train", *arguments],
            env={**os.environ, **STEADY}, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT,
        )  # fmt: skip
    # The recipe's number of steps is part of its schedules: the run is stopped, not shortened.
    while len(read_metrics(folder / "run" / "metrics.jsonl")) < steps and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, (folder / "log").read_text()
    lines = read_metrics(folder / "run" / "metrics.jsonl")[:steps]
    return [{name: line[name] for name in ("step", "loss", "tokens", "batch")} for line in lines]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        lines = reference_run(Path(folder), STEPS)
    record = ",\n".join(json.dumps(line) for line in lines)
    CURVE.write_text(f'{{"machine": {json.dumps(machine())},\n"steps": [\n{record}\n]}}\n')
