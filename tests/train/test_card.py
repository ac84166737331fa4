"""The run card's numbers, and the check of the first losses."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.model.network import Janus
from janus.model.presets import preset_config
from janus.train.card import first_loss_notes, make_card, show
from janus.train.flops import count_flops, count_tokens, peak_of
from janus.train.loop import token_ids
from janus.train.optim import freeze
from janus.train.presets import recipe
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe


def test_card_says_what_trains_on_what(model: Path, corpus: Path) -> None:
    janus, processor = load_janus(model)
    little = little_recipe(1)
    loader = Loader(corpus, load_snapshot(corpus), data=little.data, tokens=token_ids(processor, janus), steps=4)
    card = make_card(
        little,
        janus,
        load_snapshot(corpus),
        count_flops(janus, little.train),
        loader.forecasts,
        loader.uses,
        shards=1,
        device="cpu",
    )
    counts = {part.name: part.parameters for part in card.parts}
    assert sum(counts.values()) == sum(parameter.numel() for parameter in janus.parameters())
    assert {part.name for part in card.parts if part.trained} == set(little.train)
    assert card.tokens == 4 * 4 * 64
    assert card.rows == {"understanding": 40, "generation": 80}
    assert card.shares == {"understanding": 0.5, "generation": 0.5}
    assert card.ceilings == pytest.approx({"understanding": math.log(64), "generation": math.log(32)})
    trained = sum(counts[name] for name in little.train)
    assert card.state_bytes == 4 * (sum(counts.values()) + 2 * trained)
    text = io.StringIO()
    show(card, little, Console(file=text, width=120))
    for part in ("llm", "22,688  frozen", "image_head", "trains", "50.0%", "3.466"):
        assert part in text.getvalue()
    # What it promises of a step is what steps hold.
    batches = [batch for steps in loader for batch in steps]
    promised = re.search(r"from step 1: about ([\d.]+) understanding \+ ([\d.]+) generation", text.getvalue())
    assert promised is not None
    for found, task in zip(promised.groups(), ("understanding", "generation"), strict=True):
        assert float(found) == pytest.approx(sum(batch.tasks.count(task) for batch in batches) / 4, rel=0.25)


def test_numbers_of_the_published_size(corpus: Path) -> None:
    """Stage 2 of janus-1.3b on 8 GPUs, against arithmetic: 1.70 B of 2.08 B weights train."""
    with torch.device("meta"):
        janus = Janus(preset_config("janus-1.3b", image_token_id=100_015))
    r = recipe("janus-1.3b", 2)
    flops = count_flops(janus, r.train)
    card = make_card(r, janus, load_snapshot(corpus), flops, [], [], shards=8, device="cpu")
    body, embeddings = 1_442_940_928, 209_715_200
    adaptors, head, table, text_head = 6_295_552 + 4_214_784, 37_767_168, 131_072, 209_715_200
    trained = body + adaptors + head + table + text_head
    assert sum(part.parameters for part in card.parts if part.trained) == trained
    assert card.state_bytes == 4 * (2_076_636_811 + 3 * trained) // 8
    norms = 2048 * (2 * 24 + 1)
    assert flops.per_position == 6 * (body - embeddings - norms)
    assert flops.per_square == 6 * 2048 * 24
    assert flops.per_text_label == 6 * text_head
    assert card.tokens == 180_000 * 512 * 4096


def test_first_losses_far_above_guessing_are_warned_of(model: Path, corpus: Path) -> None:
    janus, _ = load_janus(model)
    little = little_recipe(2)
    card = make_card(
        little, janus, load_snapshot(corpus), count_flops(janus, little.train), [], [], shards=1, device="cpu"
    )
    guessing = {"all": 4.0, "text": math.log(64), "understanding": 3.0, "generation": math.log(32)}
    assert first_loss_notes(card, guessing) == []
    (note,) = first_loss_notes(card, guessing | {"generation": 11.0})
    assert "first generation loss 11.000 is above ln(V) = 3.466, that of guessing" in note


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_flops_are_those_torch_counts(model: Path, corpus: Path, stage: int) -> None:
    """Against torch's count of matrix products in a real forward and backward. Attention is left out of both."""
    janus, processor = load_janus(model)
    little = little_recipe(stage)
    freeze(janus, little.train)
    loader = Loader(corpus, load_snapshot(corpus), data=little.data, tokens=token_ids(processor, janus), steps=1)
    batches = next(iter(loader))
    flops = count_flops(janus, little.train)
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            janus.packed_loss(batch).sums.sum().backward()
    products = {"mm", "addmm", "bmm", "convolution", "convolution_backward"}
    counted = sum(
        n for operator, n in counter.get_flop_counts()["Global"].items() if str(operator).split(".")[1] in products
    )
    vision = janus.config.vision_config
    attention_per_image = 2 * vision.num_image_tokens**2 * vision.hidden_size * vision.num_hidden_layers
    matrices = replace(
        flops,
        per_square=0.0,
        per_image=flops.per_image - attention_per_image * (6 if "understanding_encoder" in little.train else 2),
    )
    assert matrices.step(batches) == pytest.approx(counted, rel=0.002)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H20", 148),
        ("NVIDIA H800", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A800-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", 70),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA B200", 2250),
        ("NVIDIA B300 SXM6 AC", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 D", 147),
        ("NVIDIA GeForce RTX 3090", 71),
        ("Tesla V100-SXM2-32GB", None),
        ("NVIDIA L400", None),
    ],
)
def test_the_peak_of_a_device_is_its_own(name: str, teraflops: float | None) -> None:
    assert peak_of(name) == (None if teraflops is None else teraflops * 1e12)


def test_padding_is_no_token_and_no_flop(model: Path, corpus: Path) -> None:
    janus, processor = load_janus(model)
    little = little_recipe(2)
    flops = count_flops(janus, little.train)
    data = replace(little.data, sequences=3, micro_batch=2)  # the fourth is padding
    loader = Loader(corpus, load_snapshot(corpus), data=data, tokens=token_ids(processor, janus), steps=4)
    batches = [batch for batches in loader for batch in batches]
    assert sum(bool(batch.padding) for batch in batches) >= 4
    for batch in batches:
        lengths = batch.lengths.tolist()
        for tail in batch.padding:
            lengths.remove(tail)
        assert len(lengths) == len(batch.uids)
        assert count_tokens(batch) == sum(lengths)
        other = flops.step([replace(batch, input_ids=batch.input_ids[:0], lengths=batch.lengths[:0], padding=[])])
        expected = flops.per_position * sum(lengths) + flops.per_square * sum(length**2 for length in lengths) + other
        assert flops.step([batch]) == pytest.approx(expected, rel=1e-9)
