"""Packed training speed of janus-1.3b on one GPU: tokens per second, MFU, peak memory; and HF `Trainer` beside it.

    python -m benchmarks.train_gpu [--stage 2] [--variants] [--hugging-face] [--sequences 8] [--micro-batch 4]

Random weights, the stage's real mixture (2:3:5 or 7:3:10) in packs of 4096, precision bf16 with fp32 master weights.
`--variants` runs the plain step and then each optimisation on top of it, for the table of what gave what.
`--hugging-face` compares with `Trainer` on the part it can do, understanding and text, at equal documents.
Tokens per second are real tokens, padding left out; MFU as `janus.train.flops` states it. Results with hardware and
date: benchmarks/training.md.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace

import torch
from transformers import JanusConfig, JanusForConditionalGeneration

from benchmarks.training import IMAGE, Measured, Text, hardware, make_step, run_hugging_face, run_ours
from janus.model.parts import build
from janus.model.presets import preset_config
from janus.train.flops import CONVENTION, peak_flops
from janus.train.presets import recipe
from janus.train.recipe import Parallel, Recipe
from janus.train.world import World, join_world

WORDS = {"understanding": Text(20, 400), "text": Text(200, 3000), "generation": Text(10, 150)}
"""Tokens of text per document: captions and answers, pages, captions."""
VARIANTS = {
    "plain": Parallel(mode="fsdp"),
    "compiled layers": Parallel(mode="fsdp", compile=True),
    "compiled, selective recomputation": Parallel(mode="fsdp", compile=True, activation_checkpoint="selective"),
    "compiled, full recomputation": Parallel(mode="fsdp", compile=True, activation_checkpoint="full"),
}
WARM_UP = 4
"""Steps not counted: compilation, the allocator's first requests."""


SYNTHETIC_VOCABULARY = 512
"""Least number of tokens, for presets whose vocabulary comes with a tokenizer."""


def words(seq_len: int) -> dict[str, Text]:
    """WORDS for packs of `seq_len`: shorter packs hold shorter documents."""
    return {task: Text(text.low * seq_len // 4096, text.high * seq_len // 4096) for task, text in WORDS.items()}


def config_of(preset: str) -> JanusConfig:
    """The preset's configuration, with the token ids of the synthetic documents."""
    ids = {"image_token_id": IMAGE, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return preset_config(preset, tokenizer_size=SYNTHETIC_VOCABULARY, **ids)


def report(name: str, measured: Measured, peak: float | None) -> None:
    """One line of the table."""
    mfu = f"  MFU {measured.flops * measured.steps_per_s / peak:6.1%}" if peak and measured.flops else ""
    memory = f"  {measured.peak_bytes / 2**30:6.1f} GiB" if measured.peak_bytes else ""
    print(f"{name:36} {measured.tokens * measured.steps_per_s:9,.0f} tok/s{mfu}{memory}", flush=True)


def measure_ours(settings: Recipe, preset: str, steps: int, world: World) -> Measured:
    """Our step on the recipe's mixture, on fresh random weights."""
    config = config_of(preset)
    with world.device:
        janus = build(config)
    data = settings.data
    tokens = int(data.sequences * data.seq_len * 0.985)
    made = [make_step(config, data.ratio, words(data.seq_len), tokens, seed) for seed in range(WARM_UP + steps)]
    return run_ours(janus.float(), made, settings, world, warm_up=WARM_UP)


def measure_hugging_face(settings: Recipe, preset: str, steps: int, world: World) -> tuple[Measured, Measured]:
    """Ours and `Trainer`'s on understanding and text only."""
    und, text, _ = settings.data.ratio
    settings = replace(settings, data=replace(settings.data, ratio=(und, text, 0)))
    ours = measure_ours(settings, preset, steps, world)
    config = config_of(preset)
    with world.device:
        model = JanusForConditionalGeneration(copy.deepcopy(config)).float()
    data = settings.data
    # A padded batch of all documents of a step does not fit: as many as a micro-batch of ours holds.
    tokens = int(data.micro_batch * data.seq_len * 0.985)
    made = [make_step(config, data.ratio, words(data.seq_len), tokens, seed) for seed in range(WARM_UP + steps)]
    theirs = run_hugging_face(model, made, settings, world.device, warm_up=WARM_UP, bf16=world.device.type == "cuda")
    return ours, theirs


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=int, default=2, choices=(2, 3))
    parser.add_argument("--preset", default="janus-1.3b")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=4096)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--hugging-face", action="store_true")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)

    stage = recipe("janus-1.3b", options.stage)
    data = replace(
        stage.data, sequences=options.sequences, seq_len=options.seq_len, micro_batch=options.micro_batch, first_role=""
    )
    with join_world(options.device, process_groups=True) as world:
        peak = peak_flops(world.device)
        print(f"{hardware(world.device)}; {options.preset}, stage {options.stage}, packs of {options.seq_len}")
        print(f"MFU: {CONVENTION}" + (f", {peak / 1e12:.0f} TFLOP/s" if peak else "; no peak known for this device"))
        for name in VARIANTS if options.variants else ("compiled layers",):
            # Compilation pays on a GPU only.
            parallel = VARIANTS[name] if world.device.type == "cuda" else VARIANTS["plain"]
            settings = replace(stage, data=data, parallel=parallel)
            report(name, measure_ours(settings, options.preset, options.steps, world), peak)
            if world.device.type == "cuda":
                torch.cuda.empty_cache()
        if options.hugging_face:
            ours, theirs = measure_hugging_face(settings, options.preset, options.steps, world)
            report("understanding + text: janus.train", ours, peak)
            report("understanding + text: Trainer", theirs, peak)
            ratio = ours.tokens * ours.steps_per_s / (theirs.tokens * theirs.steps_per_s)
            print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
