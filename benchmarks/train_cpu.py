"""Steps per second of the tiny preset on a CPU, ours and HF `Trainer`'s, on understanding and text.

    python -m benchmarks.train_cpu [--steps 12] [--rounds 3] [--threads 2]

Same documents, weights, optimiser (AdamW), precision (fp32) and frozen modules on both sides; the two take turns, and
medians of steps and their ratio are printed, by wall time and by CPU time (DESIGN D11). Needs
benchmarks/requirements-train.txt. Results with hardware and date: benchmarks/training.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from dataclasses import replace

import torch
from transformers import JanusConfig, JanusForConditionalGeneration, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from benchmarks.training import IMAGE, Measured, Text, hardware, make_step, run_hugging_face, run_ours
from janus.model.parts import build
from janus.train.presets import recipe
from janus.train.recipe import Optimizer, Parallel
from janus.train.world import World

WORDS = {"understanding": Text(8, 48), "text": Text(8, 120)}
"""Questions and answers, and short texts: lengths as in the tiny preset's world."""
RATIO = (2, 3, 0)
"""Stage 2 without generation, for which `Trainer` has no loss."""


def tiny_config() -> JanusConfig:
    """The tiny preset's LLM and encoder. The VQ tokenizer is HF's smallest: training does not run it."""
    return JanusConfig(
        text_config=LlamaConfig(
            vocab_size=512, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=3,
            num_key_value_heads=3, max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ),
        vision_config=JanusVisionConfig(
            hidden_size=128, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2.0, image_size=64, patch_size=16,
            projection_dim=192, num_image_tokens=16,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8, num_embeddings=512, latent_channels=32, base_channels=32, num_res_blocks=1,
            projection_dim=192, image_token_embed_dim=192,
        ),
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="per run; the first three are not counted")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=4096, help="per step")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warm_up = min(3, options.steps - 1)

    config = tiny_config()
    torch.manual_seed(0)
    start = build(config).float()
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
        theirs = JanusForConditionalGeneration(copy.deepcopy(config))
        theirs.load_state_dict(start.state_dict())
        measured = run_hugging_face(theirs, steps, settings, alone.device, warm_up=warm_up, bf16=False)
        runs["transformers.Trainer"].append(measured)
    print(hardware(alone.device))
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
