"""Packed training speed of janus-1.3b on one GPU: tokens per second, MFU, peak memory; and HF `Trainer` beside it.

    python -m benchmarks.train_gpu [--stages 2 3] [--variants] [--hugging-face] [--sequences 8] [--micro-batch 4]

Random weights, the stage's real mixture (2:3:5 or 7:3:10) in packs of 4096, fp32 master weights, fused AdamW.
`--variants` measures the plain step and then each optimisation, for the table of what gave what.
`--hugging-face` compares BEST with `Trainer` on the part that `Trainer` can do, understanding and text: the same
documents in every optimiser step of both, laid into packs by us, padded by `Trainer`, which gets the largest forward
pass that fits and reaches the same step by gradient accumulation.

Each line is measured in a process of its own: nothing of one is left in the memory or the compiler of the next, and one
that fails, for want of memory say, does not end the others. Tokens per second are real tokens, padding left out;
MFU as `janus.train.flops` states it, for `Trainer` from the same FLOPs. Results with hardware and date:
benchmarks/training.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.util import find_spec
from itertools import chain

import torch
from transformers import JanusConfig, JanusForConditionalGeneration

from benchmarks.training import (
    Document,
    Measured,
    Text,
    hardware,
    make_step,
    plain_config,
    run_hugging_face,
    run_ours,
)
from janus.data.pack import pack_stream
from janus.model.network import Janus
from janus.train.flops import CONVENTION, peak_flops
from janus.train.presets import recipe
from janus.train.recipe import Parallel, Recipe
from janus.train.world import join_world

WORDS = {"understanding": Text(20, 400), "text": Text(200, 3000), "generation": Text(10, 150)}
"""Tokens of text per document: captions and answers, pages, captions."""


@dataclass(frozen=True)
class Variant:
    """What one line of the table changes about the recipe."""

    name: str
    parallel: Parallel
    precision: str = "bf16"
    micro_batches: int = 1
    """Micro-batches of the command line taken as one: recomputation saves memory, larger products use it."""


COMPILED = Parallel(compile=True)
SELECTIVE = replace(COMPILED, activation_checkpoint="selective")
FULL = replace(COMPILED, activation_checkpoint="full")
BEST = Variant("bf16 copy, compiled layers", COMPILED)
VARIANTS = (
    Variant("autocast, eager", Parallel(mode="ddp"), precision="autocast"),
    Variant("bf16 copy of the weights (FSDP2), eager", Parallel()),
    BEST,
    Variant("... selective recomputation", SELECTIVE),
    Variant("... selective recomputation, micro-batch x2", SELECTIVE, micro_batches=2),
    Variant("... full recomputation", FULL),
    Variant("... full recomputation, micro-batch x2", FULL, micro_batches=2),
)
"""Each with documents isolated by variable-length attention and AdamW fused: neither has a slower form to choose."""
TRAINER_ROWS = (16, 8, 4, 2, 1)
"""Documents per forward pass to try for `Trainer`, largest first."""
WARM_UP = 4
"""Steps not counted: compilation, the allocator's first requests."""
OUT_OF_MEMORY = "out of memory"
"""In place of a figure."""
PART = "understanding + text"
"""The part of a mixture that `Trainer` has a loss for."""
HEAD = ("| stage | variant | tokens/s | MFU | peak GiB | ratio |", "|---|---|---:|---:|---:|---:|")


def words(seq_len: int) -> dict[str, Text]:
    """WORDS for packs of `seq_len`: shorter packs hold shorter documents."""
    return {task: Text(text.low * seq_len // 4096, text.high * seq_len // 4096) for task, text in WORDS.items()}


def full_step(config: JanusConfig, settings: Recipe, seed: int) -> list[Document]:
    """The documents of `data.sequences` packs: the first ones of a longer stream, as those of a real step are."""
    data = settings.data
    tokens = (data.sequences * 3 // 2 + 1) * data.seq_len
    stream = make_step(config, data.ratio, words(data.seq_len), tokens, seed)
    packs = pack_stream([len(document.ids) for document in stream], data.seq_len)[: data.sequences]
    return [stream[place] for place in sorted(chain(*packs))]


def settings_of(options: argparse.Namespace, stage: int, variant: Variant, *, generation: bool = True) -> Recipe:
    """The stage's recipe in the sizes of the command line, as `variant` runs it."""
    start = recipe("janus-1.3b", stage)
    ratio = start.data.ratio if generation else (*start.data.ratio[:2], 0)
    data = replace(
        start.data,
        ratio=ratio,
        sequences=options.sequences,
        seq_len=options.seq_len,
        micro_batch=min(options.sequences, options.micro_batch * variant.micro_batches),
        first_group="",
    )
    # Compilation is for GPUs: on a CPU, where this only shows that it runs, it would take longest of all.
    parallel = replace(variant.parallel, compile=variant.parallel.compile and options.device != "cpu")
    return replace(start, data=data, parallel=parallel, precision=variant.precision)


def measure(options: argparse.Namespace, settings: Recipe, rows: int | None) -> Measured:
    """Our step, or with `rows` that of `Trainer` at so many documents per forward pass, on fresh random weights."""
    config = plain_config(options.preset)
    made = [full_step(config, settings, seed) for seed in range(WARM_UP + options.steps)]
    torch.manual_seed(0)
    with join_world(options.device, process_groups=rows is None and settings.precision == "bf16") as world:
        with world.device:
            janus = Janus(config).float()
        if rows is None:
            return run_ours(janus, made, settings, world, warm_up=WARM_UP)
        # By way of the host: the device need not have room for two models.
        weights = {name: tensor.cpu() for name, tensor in janus.state_dict().items()}
        del janus
        with world.device:
            theirs = JanusForConditionalGeneration(plain_config(options.preset)).float()
        theirs.load_state_dict(weights)
        return run_hugging_face(theirs, made, settings, world.device, warm_up=WARM_UP, rows=rows)


def measure_apart(
    arguments: list[str], stage: int, variant: Variant, *, limit_s: float | None = None, **more: int | bool
) -> Measured | str:
    """`measure` in a process of its own, for at most `limit_s` seconds. If it fails, why: its last line, and on stderr
    all of them.
    """
    job = json.dumps({"stage": stage, "variant": VARIANTS.index(variant), **more})
    command = [sys.executable, "-m", "benchmarks.train_gpu", *arguments, "--child", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"still running after {limit_s:.0f} s"
    if done.returncode == 0:
        return Measured(**json.loads(done.stdout.splitlines()[-1]))
    if "OutOfMemoryError" in done.stderr:
        return OUT_OF_MEMORY
    print(done.stderr, file=sys.stderr)
    return (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]


def line(stage: int, name: str, found: Measured | str, peak: float | None, first: Measured | str) -> str:
    """A line of the table; the ratio is to `first`."""
    if isinstance(found, str):
        return f"| {stage} | {name} | {found} | | | |"
    mfu = f"{found.flops * found.steps_per_s / peak:.1%}" if peak else ""
    memory = f"{found.peak_bytes / 2**30:.1f}" if found.peak_bytes else ""
    ratio = f"{found.tokens_per_s / first.tokens_per_s:.2f}" if isinstance(first, Measured) else ""
    return f"| {stage} | {name} | {found.tokens_per_s:,.0f} | {mfu} | {memory} | {ratio} |"


def lines(stage: int, found: Sequence[tuple[str, Measured | str]], peak: float | None) -> list[str]:
    """Lines of the table for results by name; their ratio is to the first that ran. Where two sides were compared
    (`compare`), what shows that they did the same work.
    """
    first = next((result for _, result in found if isinstance(result, Measured)), "")
    shown = [line(stage, name, result, peak, first) for name, result in found]
    if found and found[0][0].startswith(PART):
        shown += [
            f"<!-- {result.documents:g} documents a step, first loss {result.losses[0]:.4f} -->"
            for _, result in found
            if isinstance(result, Measured)
        ]
    return shown


def compare(arguments: list[str], stage: int, *, limit_s: float | None = None) -> list[tuple[str, Measured | str]]:
    """`Trainer` and BEST on understanding and text, `limit_s` seconds in all at most."""
    start = time.monotonic()

    def apart(**more: int | bool) -> Measured | str:
        left = None if limit_s is None else max(1.0, limit_s - (time.monotonic() - start))
        return measure_apart(arguments, stage, BEST, limit_s=left, generation=False, **more)

    for rows in TRAINER_ROWS:
        theirs = apart(rows=rows)
        if theirs != OUT_OF_MEMORY:
            break
    ours = apart()
    if isinstance(theirs, Measured) and isinstance(ours, Measured):
        theirs = replace(theirs, flops=ours.flops)
    return [
        (f"{PART}: `Trainer`, bf16 autocast, {rows} documents at a time", theirs),
        (f"{PART}: janus.train, {BEST.name}", ours),
    ]


def read(arguments: list[str]) -> argparse.Namespace:
    """The command line; ends with one line where it asks for what is not here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=(2, 3), choices=(2, 3))
    parser.add_argument("--preset", default="janus-1.3b")
    parser.add_argument("--steps", type=int, default=10, help=f"counted; {WARM_UP} more come before them")
    parser.add_argument("--sequences", type=int, default=8, help="packs per step")
    parser.add_argument("--seq-len", type=int, default=4096)
    parser.add_argument("--micro-batch", type=int, default=4, help="packs per forward pass")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--hugging-face", action="store_true")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    if options.hugging_face and find_spec("accelerate") is None:
        parser.error("--hugging-face: needs accelerate; pip install -r benchmarks/requirements-train.txt")
    return options


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = read(arguments)
    if options.child:
        job = options.child
        settings = settings_of(options, job["stage"], VARIANTS[job["variant"]], generation=job.get("generation", True))
        print(json.dumps(asdict(measure(options, settings, job.get("rows")))))
        return

    device = torch.device(options.device)
    peak = peak_flops(device)
    print(f"{date.today()}: {hardware(device)}")
    print(f"{options.preset}, {options.sequences} packs of {options.seq_len} a step, {options.micro_batch} at a time")
    print(f"MFU: {CONVENTION}" + (f", {peak / 1e12:.0f} TFLOP/s" if peak else "; no peak known for this device"))
    if device.type == "cpu":
        print("on a CPU: nothing is compiled, and the figures mean nothing")
    print(*HEAD, sep="\n")
    for stage in options.stages:
        variants = VARIANTS if options.variants else (BEST,)
        found = [(variant.name, measure_apart(arguments, stage, variant)) for variant in variants]
        print(*lines(stage, found, peak), sep="\n", flush=True)
        if options.hugging_face:
            print(*lines(stage, compare(arguments, stage), peak), sep="\n", flush=True)


if __name__ == "__main__":
    main()
