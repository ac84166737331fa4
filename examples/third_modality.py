"""A third modality in under 100 lines: 1-D signals, understood by the same LLM.

A modality needs an encoder and an adaptor. Here a strided convolution gives 16 features per 256 samples, a 2-layer MLP
takes them to the LLM's width, and they are put where the signal's placeholder tokens stand. The LLM, its packing, its
losses and its text head stay as they are. Run it: in seconds it learns to say whether a noisy wave is slow or fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from janus.model.config import make_config
from janus.model.network import Janus
from janus.packed import TASK_IDS, PackedBatch

SAMPLES, TOKENS = 256, 16
BOS, SIGNAL, SLOW, FAST = range(4)  # a document is BOS SIGNAL*16 answer


@dataclass
class SignalBatch(PackedBatch):
    """A packed batch that also holds signals."""

    signals: torch.Tensor  # float32[N, SAMPLES]
    signal_positions: torch.Tensor  # int64[N*TOKENS]: flat positions that take the features, signal by signal


class SignalJanus(Janus):
    """A Janus with a third path in; saving and loading, training and sampling work as before."""

    def __init__(self, config: JanusConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        self.signal_encoder = nn.Conv1d(1, 64, kernel_size=SAMPLES // TOKENS, stride=SAMPLES // TOKENS)
        self.signal_adaptor = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))

    def embed(self, batch: SignalBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Input embeddings with the signals' features in their places."""
        embeddings, idle = super().embed(batch)
        features = self.signal_adaptor(self.signal_encoder(batch.signals[:, None]).transpose(1, 2))
        flat = embeddings.flatten(0, 1).index_copy(0, batch.signal_positions, features.flatten(0, 1))
        return flat.view_as(embeddings), idle


def batch(count: int, generator: torch.Generator) -> SignalBatch:
    """`count` noisy waves of 2-5 or 9-12 periods, one document and one pack each."""
    fast = torch.randint(0, 2, (count,), generator=generator)
    periods = 2 + 7 * fast + 3 * torch.rand(count, generator=generator)
    phase = torch.rand(count, 1, generator=generator)
    waves = torch.sin(2 * torch.pi * (periods[:, None] * torch.linspace(0, 1, SAMPLES) + phase))
    answers = torch.where(fast.bool(), FAST, SLOW)
    length = TOKENS + 2
    prefix = torch.tensor([BOS, *[SIGNAL] * TOKENS]).expand(count, -1)
    none = torch.zeros(0, dtype=torch.int64)
    return SignalBatch(
        input_ids=torch.cat([prefix, answers[:, None]], dim=1),
        position_ids=torch.arange(length).expand(count, -1),
        lengths=torch.full((count,), length, dtype=torch.int32),
        **{"pixels": torch.zeros(0, 32, 32, 3, dtype=torch.uint8), "pixel_positions": none},
        **{"codes": none.view(0, 4), "code_positions": none},
        text_label_positions=torch.arange(count) * length + length - 2,
        text_labels=answers,
        text_label_tasks=torch.full((count,), TASK_IDS["understanding"]),
        uids=[b""] * count,
        tasks=["understanding"] * count,
        signals=waves + 0.3 * torch.randn(count, SAMPLES, generator=generator),
        signal_positions=(torch.arange(count)[:, None] * length + 1 + torch.arange(TOKENS)).flatten(),
    )


def main(steps: int = 60) -> float:
    """Train, and return the mean probability of the right answer on fresh waves (0.5 would be guessing)."""
    torch.manual_seed(0)
    llm = LlamaConfig(vocab_size=4, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    vision = JanusVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    vq = JanusVQVAEConfig(num_embeddings=64, base_channels=32, latent_channels=32, num_res_blocks=1)
    model = SignalJanus(make_config(text=llm, vision=vision, vq=vq, image_token_id=SIGNAL))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        losses = model.packed_loss(batch(32, generator))
        loss = losses.sums.sum() / losses.counts.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(f"step {step:3d}  loss {loss.item():.3f}")
    with torch.no_grad():
        losses = model.packed_loss(batch(256, generator))
    right = float(torch.exp(-losses.sums.sum() / losses.counts.sum()))
    print(f"probability of the right answer on fresh signals: {right:.3f}")
    return right


if __name__ == "__main__":
    main()
