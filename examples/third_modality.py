"""A third modality: 1-D signals, understood by the same LLM and trained by the trainer's own parts.

A modality needs an encoder and an adaptor. Here a strided convolution gives 16 features per 256 samples, a 2-layer MLP
takes them to the LLM's width, and they are put where the signal's placeholder tokens stand: an `InputPath`, as images
and codes have theirs. Packing, losses, optimiser and checkpoints are those of every run. Run it: in seconds it learns
to say whether a noisy wave is slow or fast.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from janus.data.batch import lay_out
from janus.data.documents import Document
from janus.data.pack import pack_stream
from janus.model.config import make_config
from janus.model.network import InputPath, Janus
from janus.packed import PackedBatch
from janus.train.checkpoint import Checkpointer, committed, load, tensors
from janus.train.gradients import Clipper
from janus.train.optim import Optimizers, freeze
from janus.train.presets import recipe as preset_recipe
from janus.train.recipe import Checkpoint, Optimizer
from janus.train.step import LossModule, accumulate
from janus.train.world import World

SAMPLES, TOKENS, SEQ_LEN = 256, 16, 90
PAD, BOS, SIGNAL, SLOW, FAST = range(5)  # a document is BOS SIGNAL*16 answer; five of them fill a pack of 90
ALONE = World(0, 1, torch.device("cpu"), None, 1)
RECIPE = replace(
    preset_recipe("tiny", 2), train=("llm", "text_head"), optimizer=Optimizer(lr=2e-3, lr_scale={"llm": 0.9})
)
PATH = InputPath(
    values="signals",
    positions="signal_positions",
    features=lambda model, signals: model.signal_adaptor(model.signal_encoder(signals[:, None]).transpose(1, 2)),
    stand_in=lambda model, signals: signals.new_zeros(1, SAMPLES),
)


@dataclass(kw_only=True)
class SignalBatch(PackedBatch):
    """A packed batch that also holds signals."""

    signals: torch.Tensor  # float32[N, SAMPLES]
    signal_positions: torch.Tensor  # int64[N*TOKENS]: flat positions that take the features, signal by signal


class SignalJanus(Janus):
    """A Janus with a third path in; saving and loading, training and sampling work as before."""

    module_paths: ClassVar = {
        **Janus.module_paths,
        "signal_encoder": "signal_encoder",
        "signal_adaptor": "signal_adaptor",
    }
    input_paths: ClassVar = (*Janus.input_paths, PATH)

    def __init__(self, config: JanusConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        self.signal_encoder = nn.Conv1d(1, 64, kernel_size=SAMPLES // TOKENS, stride=SAMPLES // TOKENS)
        self.signal_adaptor = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))


def make_model() -> SignalJanus:
    """A model of some thousand random weights, the same each time."""
    torch.manual_seed(0)
    llm = LlamaConfig(vocab_size=5, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    vision = JanusVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    vq = JanusVQVAEConfig(num_embeddings=64, base_channels=32, latent_channels=32, num_res_blocks=1)
    return SignalJanus(make_config(text=llm, vision=vision, vq=vq, image_token_id=SIGNAL))


def make_batch(count: int, seed: int) -> SignalBatch:
    """`count` noisy waves of 2-5 or 9-12 periods, a document each, packed."""
    draw = np.random.default_rng(seed)
    fast = draw.integers(0, 2, count)
    turns = (2 + 7 * fast + 3 * draw.random(count))[:, None] * np.linspace(0, 1, SAMPLES) + draw.random((count, 1))
    waves = (np.sin(2 * np.pi * turns) + 0.3 * draw.standard_normal(turns.shape)).astype(np.float32)
    ids = [np.array([BOS, *[SIGNAL] * TOKENS, FAST if one else SLOW], np.int32) for one in fast]
    where = {PATH.positions: np.arange(1, 1 + TOKENS)}
    documents = [Document(bytes([n]), "understanding", one, where, np.array([TOKENS + 1])) for n, one in enumerate(ids)]
    packs = pack_stream([len(one) for one in ids], SEQ_LEN)
    fields = lay_out([[documents[n] for n in pack] for pack in packs], SEQ_LEN, PAD, (*IMAGES, PATH.positions))
    order = [n for pack in packs for n in pack]
    none = {"pixels": torch.zeros(0, 32, 32, 3, dtype=torch.uint8), "codes": torch.zeros(0, 4, dtype=torch.int64)}
    return SignalBatch(**fields, **none, signals=torch.from_numpy(waves[order]))


IMAGES = [path.positions for path in Janus.input_paths]


class Run:
    """The trainer's parts around one model: what `janus.train.loop` puts together."""

    def __init__(self) -> None:
        self.model = make_model()
        trained = freeze(self.model, [*RECIPE.train, "signal_encoder", "signal_adaptor"])
        self.module = LossModule(self.model)
        self.optimizers = Optimizers(RECIPE.optimizer, trained, self.model.module_paths)
        self.clipper = Clipper(trained, RECIPE.clip, None, self.model.module_paths)

    def train(self, steps: range) -> None:
        """Steps of two micro-batches each."""
        for step in steps:
            done = accumulate(self.module, [make_batch(20, 2 * step), make_batch(12, 2 * step + 1)], ALONE, RECIPE)
            norms = dict(zip(("all", *self.clipper.modules), self.clipper.clip().tolist(), strict=True))
            self.optimizers.step(lr_factor=1.0)
            self.optimizers.zero_grad()
            if step % 10 == 0:
                loss = float(done.sums.sum()) / sum(done.global_tokens)
                print(f"step {step:3d}  loss {loss:.3f}  gradient of the encoder {norms['signal_encoder']:.3f}")

    def state(self, step: int) -> dict[str, torch.Tensor]:
        """What a checkpoint holds."""
        return tensors(self.optimizers.parameters, self.optimizers, step=step)


def main(steps: int = 60) -> float:
    """Train, with a checkpoint half-way; the mean probability of the right answer on fresh waves (guessing: 0.5)."""
    with tempfile.TemporaryDirectory() as folder:
        first = Run()
        first.train(range(steps // 2))
        checkpointer = Checkpointer(Path(folder), Checkpoint(), ALONE, snapshot="", identity={})
        checkpointer.save(steps // 2, first.state(steps // 2))
        checkpointer.wait()
        run = Run()
        load(committed(Path(folder))[0][1], run.state(steps // 2), group=None)
    for one in (first, run):
        one.train(range(steps // 2, steps))
    same = all(torch.equal(a, b) for a, b in zip(first.model.parameters(), run.model.parameters(), strict=True))
    print(f"the run that was continued is the one that was not, bit for bit: {same}")
    with torch.no_grad():
        losses = run.model.packed_loss(make_batch(250, 10**6))
    right = float(torch.exp(-losses.sums.sum() / losses.counts.sum()))
    print(f"probability of the right answer on fresh signals: {right:.3f}")
    return right if same else 0.0


if __name__ == "__main__":
    main()
