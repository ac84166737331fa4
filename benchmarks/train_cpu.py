"""Steps per second of the tiny preset on a CPU, ours and HF `Trainer`'s, on understanding and text.

    python -m benchmarks.train_cpu [--steps 12] [--rounds 3] [--threads 2]

Same documents, weights, optimiser (AdamW), precision (fp32) and frozen modules on both sides; the two take turns, and
medians of steps and their ratio are printed, by wall time and by CPU time (design D11). Needs
benchmarks/requirements-train.txt. Results with hardware and date: benchmarks/training.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from dataclasses import replace
from datetime import date

import torch
from transformers import JanusForConditionalGeneration

from benchmarks.training import Measured, Text, hardware, make_step, plain_config, run_hugging_face, run_ours
from janus.model.network import Janus
from janus.train.presets import recipe
from janus.train.recipe import Optimizer, Parallel
from janus.train.world import World

WORDS = {"understanding": Text(8, 48), "text": Text(8, 120)}
"""Questions and answers, and short texts: lengths as in the tiny preset's world."""
RATIO = (2, 3, 0)
"""Stage 2 without generation, for which `Trainer` has no loss."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="per run; the first three are not counted")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=4096, help="per step")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warm_up = min(3, options.steps - 1)

    config = plain_config("tiny")
    torch.manual_seed(0)
    start = Janus(config).float()
    tiny = recipe("tiny", 2)
    settings = replace(
        tiny,
        optimizer=Optimizer("adamw", lr=1e-3),
        data=replace(tiny.data, ratio=RATIO, seq_len=512, micro_batch=options.tokens // 512),
        parallel=Parallel(mode="ddp"),
        precision="fp32",
    )
    steps = [make_step(config, RATIO, WORDS, options.tokens, seed) for seed in range(options.steps)]
    alone = World(0, 1, torch.device("cpu"), None, 1)
    runs: dict[str, list[Measured]] = {"janus.train": [], "transformers.Trainer": []}
    for _ in range(options.rounds):
        runs["janus.train"].append(run_ours(copy.deepcopy(start), steps, settings, alone, warm_up=warm_up))
        theirs = JanusForConditionalGeneration(plain_config("tiny"))
        theirs.load_state_dict(start.state_dict())
        measured = run_hugging_face(theirs, steps, settings, alone.device, warm_up=warm_up)
        runs["transformers.Trainer"].append(measured)
    print(f"{date.today()}: {hardware(alone.device)}")
    print(f"{options.tokens} tokens a step, {measured.tokens:.0f} of them real")
    medians = []
    for name, found in runs.items():
        wall = statistics.median(run.steps_per_s for run in found)
        cpu = statistics.median(run.steps_per_cpu_s for run in found)
        medians.append((wall, cpu))
        losses = f"loss {found[0].losses[0]:.4f} -> {found[0].losses[-1]:.4f}"
        print(f"{name:22} {wall:6.3f} steps/s {cpu:6.3f} steps/CPU s   {losses}")
    wall, cpu = (ours / theirs for ours, theirs in zip(*medians, strict=True))
    print(f"ratio {wall:.2f} by wall time, {cpu:.2f} by CPU time")


if __name__ == "__main__":
    main()
