"""The reference loss curve: forty steps of stage 2 on a model of the tiny preset's size, everything pinned.

    python -m tests.train.reference        # writes tests/train/data/reference_curve.json anew

Regenerate it only for a deliberate change of data order, loss or update rule; that is a line in CHANGELOG.md.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from janus.data.config import DataConfig
from janus.model.config import PATCH_VQ, make_config
from janus.model.folder import save_janus
from janus.model.parts import build
from janus.model.processor import Processor
from janus.train.loop import train
from janus.train.metrics import read_metrics
from janus.train.presets import recipe
from janus.train.recipe import Checkpoint, Optimizer, Schedule, Watch
from janus.train.record import Inputs
from tests.data.make import TOKENS, MadeSource
from tests.train.little import VOCABULARY, little_tokenizer, write_corpus

CURVE = Path(__file__).parent / "data" / "reference_curve.json"
STEPS = 40
SOURCES = (
    MadeSource("photos", "understanding", 200),
    MadeSource("texts", "text", 200),
    MadeSource("drawings", "generation", 200),
)
RECIPE = replace(
    recipe("tiny", 2),
    train=("understanding_adaptor", "generation_adaptor", "image_head", "code_embedding", "llm", "text_head"),
    data=DataConfig(ratio=(2, 3, 5), sequences=4, seq_len=256, micro_batch=2, decode_threads=1),
    optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.1),
    schedule=Schedule("constant", warmup=10),
    precision="fp32",
    clip=1.0,
    checkpoint=Checkpoint(every=0),
    watch=Watch(log_every=1),
)


def write_reference_model(folder: Path) -> Path:
    """A Janus of 1.8 M weights drawn from a fixed seed, standard deviation 0.02."""
    config = make_config(
        text=LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=3,
            num_key_value_heads=3,
            max_position_embeddings=1024,
        ),
        vision=JanusVisionConfig(
            hidden_size=128, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2.0, image_size=64, patch_size=16
        ),
        vq=JanusVQVAEConfig(
            architecture=PATCH_VQ, patch_size=16, num_patches=4, embed_dim=16, num_embeddings=512, base_channels=8,
            latent_channels=8,
        ),
        image_token_id=TOKENS.image,
    )  # fmt: skip
    janus = build(config).float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(janus.state_dict().items()):
            if "norm" not in name:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)
    save_janus(folder, janus, Processor.from_config(config, little_tokenizer(), style="janus"))
    return folder


def reference_run(folder: Path, steps: int) -> list[dict[str, Any]]:
    """Losses, label counts and batch fingerprints of the first `steps` steps, on one CPU thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = write_reference_model(folder / "model")
        write_corpus(folder / "corpus", model, SOURCES)
        inputs = Inputs(model, folder / "corpus", folder / "run")
        train(replace(RECIPE, steps=steps), inputs, Console(quiet=True), device="cpu")
    finally:
        torch.set_num_threads(threads)
    lines = read_metrics(folder / "run" / "metrics.jsonl")
    return [{name: line[name] for name in ("step", "loss", "tokens", "batch")} for line in lines]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        lines = reference_run(Path(folder), STEPS)
    CURVE.write_text("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n")
