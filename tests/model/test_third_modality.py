"""The example of docs/model.md runs, learns and keeps its promise of length."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import torch

from janus.train.optim import Optimizers, freeze, module_of
from janus.train.recipe import Optimizer

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "third_modality.py"


def test_a_third_modality_is_learned_through_the_trainer() -> None:
    """Packed, accumulated, clipped and stepped, saved and continued: `main` returns 0 unless bit for bit."""
    assert len(EXAMPLE.read_text().splitlines()) <= 160
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of so small a model, more threads mostly wait for each other
    try:
        probability = runpy.run_path(str(EXAMPLE))["main"](steps=40)
    finally:
        torch.set_num_threads(threads)
    assert probability > 0.9  # guessing gives 0.5


def test_a_batch_keeps_its_own_fields_on_its_way_to_a_device() -> None:
    example = runpy.run_path(str(EXAMPLE))
    batch = example["make_batch"](7, 0)
    moved = batch.to("meta")
    assert type(moved).__name__ == "SignalBatch"
    assert moved.signals.device.type == moved.signal_positions.device.type == "meta"
    assert moved.signals.shape == (7, 256)


def test_parts_of_a_third_modality_are_named_like_all_others() -> None:
    """Its own learning rate and norm; a batch without signals leaves it a gradient of zero."""
    example = runpy.run_path(str(EXAMPLE))
    model = example["make_model"]()
    trained = freeze(model, ["signal_encoder", "text_head"])
    assert {module_of(name, model.module_paths) for name in trained} == {"signal_encoder", "text_head"}
    config = Optimizer(lr=1.0, lr_scale={"signal_encoder": 0.5})
    optimizers = Optimizers(config, trained, model.module_paths)
    rates = {group["lr"] for optimizer in optimizers._all for group in optimizer.param_groups}
    assert rates == {1.0, 0.5}
    batch = example["make_batch"](7, 0)
    without = replace(batch, signals=batch.signals[:0], signal_positions=batch.signal_positions[:0])
    model.packed_loss(without).sums.sum().backward()
    gradient = model.signal_encoder.weight.grad
    assert gradient is not None
    assert not gradient.any()
