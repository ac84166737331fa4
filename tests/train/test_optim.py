"""Optimisers: which parameters get which rule, and the rules against torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from janus.model.checkpoints.model_folder import load_janus
from janus.model.network import MODULES, Janus
from janus.train.gradients import Clipper
from janus.train.optim import Optimizers, decays, freeze, is_hidden_matrix, module_of
from janus.train.recipe import Lora, Optimizer
from janus.train.trained import choose_trained


@pytest.fixture
def janus(model: Path) -> Janus:
    """The little Janus."""
    return load_janus(model)[0]


def with_gradients(parameters: dict[str, nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_every_parameter_belongs_to_one_module(janus: Janus) -> None:
    for name, _ in janus.named_parameters():
        assert sum(name.startswith(path + ".") for path in MODULES.values()) == 1
        assert name.startswith(MODULES[module_of(name)])
    with pytest.raises(ValueError, match="no known module"):
        module_of("model.something.weight")


def test_frozen_modules_have_neither_gradient_nor_state(janus: Janus) -> None:
    trained = freeze(janus, ["image_head"])
    assert set(trained) == {n for n, _ in janus.named_parameters() if n.startswith("model.generation_head.")}
    assert [n for n, p in janus.named_parameters() if p.requires_grad] == list(trained)
    assert janus.model.generation_head.training
    assert not janus.model.language_model.training
    optimizers = Optimizers(Optimizer(), trained)
    with_gradients(trained, 0)
    optimizers.step(1.0)
    assert {name.rsplit(".", 1)[0] for name in optimizers.state(step=1)} == set(trained)


def test_muon_gets_hidden_matrices_only(janus: Janus) -> None:
    hidden = {name for name, parameter in janus.named_parameters() if is_hidden_matrix(name, parameter)}
    assert "model.language_model.layers.0.mlp.up_proj.weight" in hidden
    assert "model.generation_head.proj_out.weight" in hidden
    assert "model.aligner.fc1.weight" in hidden
    outer = ("lm_head", "embed_tokens", "generation_embeddings", "vision_head", "norm", "bias", "position_embedding")
    assert not [name for name in hidden if any(part in name for part in outer)]


def test_adapters_are_for_adamw(janus: Janus) -> None:
    choose_trained(janus, (), Lora(rank=2), seed=0)
    adapters = {name: parameter for name, parameter in janus.named_parameters() if parameter.requires_grad}
    assert not [name for name, parameter in adapters.items() if is_hidden_matrix(name, parameter)]
    assert all(decays(name, parameter) for name, parameter in adapters.items())


def test_weight_decay_spares_vectors_and_tables(janus: Janus) -> None:
    spared = {name for name, parameter in janus.named_parameters() if not decays(name, parameter)}
    assert "model.language_model.embed_tokens.weight" in spared
    assert "model.vision_model.embeddings.position_embedding.weight" in spared
    assert "model.language_model.norm.weight" in spared
    assert not {"lm_head.weight", "model.vision_model.embeddings.patch_embedding.weight"} & spared


def test_adamw_is_torchs(janus: Janus, model: Path) -> None:
    """Three steps with warm-up against torch.optim.AdamW (not fused) over all parameters."""
    parameters = freeze(janus, ["llm", "text_head"])
    config = Optimizer(lr=1e-3, weight_decay=0.1, lr_scale={"text_head": 0.5})
    ours = Optimizers(config, parameters)
    reference = dict(load_janus(model)[0].named_parameters())
    groups = [
        {
            "params": [reference[name]],
            "lr": 1e-3 * (0.5 if name.startswith("lm_head") else 1.0),
            "weight_decay": 0.1 if decays(name, parameter) else 0.0,
        }
        for name, parameter in parameters.items()
    ]
    theirs = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    peaks = [group["lr"] for group in theirs.param_groups]
    for step, factor in enumerate((0.5, 1.0, 1.0)):
        with_gradients(parameters, step)
        with_gradients({name: reference[name] for name in parameters}, step)
        ours.step(factor)
        for group, peak in zip(theirs.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        theirs.step()
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter, reference[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_restores_exactly(model: Path, name: str) -> None:
    """Two steps, or one step, save, load elsewhere, and the second."""
    config = Optimizer(name, lr=1e-2, weight_decay=0.1)
    sets = [freeze(load_janus(model)[0], ["llm", "text_head"]) for _ in range(2)]
    optimizers = [Optimizers(config, parameters) for parameters in sets]
    with_gradients(sets[0], 0)
    optimizers[0].step(1.0)
    with torch.no_grad():
        for key, tensor in optimizers[1].state(step=1).items():
            tensor.copy_(optimizers[0].state(step=1)[key])
        for key, parameter in sets[1].items():
            parameter.copy_(sets[0][key])
    for parameters, optimizer in zip(sets, optimizers, strict=True):
        with_gradients(parameters, 1)
        optimizer.step(0.5)
    for key, parameter in sets[0].items():
        assert torch.equal(parameter, sets[1][key]), key


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_is_torchs(janus: Janus, model: Path, max_norm: float) -> None:
    parameters = freeze(janus, ["llm", "image_head"])
    reference = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in parameters.items()}
    with_gradients(parameters, 0)
    with_gradients(reference, 0)
    clipper = Clipper(parameters, max_norm, None)
    total, *by_module = clipper.clip().tolist()
    expected = {
        module: sum(float(p.grad.square().sum()) for n, p in reference.items() if module_of(n) == module) ** 0.5
        for module in clipper.modules
    }
    assert by_module == pytest.approx([expected[module] for module in clipper.modules], rel=1e-5)
    assert total == pytest.approx(float(nn.utils.clip_grad_norm_(reference.values(), max_norm)), rel=1e-5)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-5, atol=1e-8)
