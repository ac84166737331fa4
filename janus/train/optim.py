"""Optimisers: fused or 8-bit AdamW, or Muon beside AdamW, with state that is saved by parameter name.

Only trained parameters are here, so frozen ones have no state. Every trained parameter has a gradient at every step
(`janus.train.step`), so all step counts are the run's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from janus.model.network import MODULES, Janus
from janus.train.muon import Muon
from janus.train.recipe import Optimizer

ADAMW_STATE = ("exp_avg", "exp_avg_sq")
MUON_STATE = ("momentum_buffer",)
EIGHT_BIT_STATE = ("state1", "state2", "absmax1", "absmax2")
"""bitsandbytes' averages, and the scale of each block of them where they are in 8 bits (small tensors are not)."""
TABLES = ("embed_tokens", "generation_embeddings", "position_embedding")
"""Parts of the names of embedding tables, here and in other LLMs and encoders that `transformers` has."""
OUTPUTS = ("lm_head", "generation_head.vision_head")
"""Layers whose output is logits."""


def module_of(name: str, modules: Mapping[str, str] = MODULES) -> str:
    """Name in `modules` (`Janus.module_paths`) of the part that parameter `name` belongs to."""
    for module, path in modules.items():
        if name.startswith(path + "."):
            return module
    raise ValueError(f"parameter {name} belongs to no known module of a Janus")


def freeze(model: Janus, train: Iterable[str]) -> dict[str, nn.Parameter]:
    """Leave only the modules `train` trainable; returns their parameters by name.

    Frozen modules go to evaluation mode.
    """
    wanted = set(train)
    model.train()
    for module, path in model.module_paths.items():
        if module not in wanted:
            model.get_submodule(path).eval()
    trained = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(module_of(name, model.module_paths) in wanted)
        if parameter.requires_grad:
            trained[name] = parameter
    return trained


def is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether Muon may have it: a matrix that maps features to features, so no embedding, output layer or adapter."""
    return parameter.ndim == 2 and not any(part in name for part in (*TABLES, *OUTPUTS, ".lora_"))


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay acts on it: matrices and convolutions, but no table of embeddings."""
    return parameter.ndim >= 2 and not any(part in name for part in TABLES)


class Optimizers:
    """AdamW and possibly Muon over one model, stepped together."""

    def __init__(
        self, config: Optimizer, parameters: dict[str, nn.Parameter], modules: Mapping[str, str] = MODULES
    ) -> None:
        """Args: the trained `parameters` by name, as `freeze` returns them (after sharding, where there is any); the
        parts they belong to (`Janus.module_paths`).
        """
        self._modules = modules
        self.parameters = parameters
        self._all: list[torch.optim.Optimizer] = []
        hidden = {n for n, p in parameters.items() if config.name == "muon" and is_hidden_matrix(n, p)}
        rest = [name for name in parameters if name not in hidden]
        if rest:
            groups = self._groups(config, rest, config.lr)
            self._all.append(_adamw(config, groups))
        if hidden:
            groups = self._groups(config, [name for name in parameters if name in hidden], config.muon_lr)
            self._all.append(Muon(groups))
        self._peaks = [group["lr"] for optimizer in self._all for group in optimizer.param_groups]

    def _groups(self, config: Optimizer, names: list[str], lr: float) -> list[dict[str, Any]]:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name in names:
            parameter = self.parameters[name]
            peak = lr * config.lr_scale.get(module_of(name, self._modules), 1.0)
            decay = config.weight_decay if decays(name, parameter) else 0.0
            groups.setdefault((peak, decay), []).append(parameter)
        return [{"params": p, "lr": peak, "weight_decay": decay} for (peak, decay), p in groups.items()]

    def step(self, lr_factor: float) -> None:
        """Move the weights by their gradients, with peak learning rates times `lr_factor`."""
        groups = (group for optimizer in self._all for group in optimizer.param_groups)
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * lr_factor
        for optimizer in self._all:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def state(self, *, step: int) -> dict[str, torch.Tensor]:
        """The state tensors by `parameter.key`, made as zeros where a parameter has not been stepped yet.

        These are the tensors in use: loading into them in place restores the optimiser after `step` steps.
        """
        tensors = {}
        names = {parameter: name for name, parameter in self.parameters.items()}
        for optimizer in self._all:
            for number, group in enumerate(optimizer.param_groups):
                for index, parameter in enumerate(group["params"]):
                    state = optimizer.state[parameter]
                    if hasattr(optimizer, "init_state"):  # bitsandbytes
                        if not state:
                            optimizer.init_state(group, parameter, number, index)
                        state["step"] = step
                        keys: tuple[str, ...] = tuple(key for key in EIGHT_BIT_STATE if key in state)
                    elif isinstance(optimizer, torch.optim.AdamW):
                        # Fused AdamW wants it as a tensor beside the weights. It is the run's step, so never saved.
                        state["step"] = torch.tensor(float(step), device=parameter.device)
                        keys = ADAMW_STATE
                    else:
                        keys = MUON_STATE
                    for key in keys:
                        if key not in state:
                            state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                        tensors[f"{names[parameter]}.{key}"] = state[key]
        return tensors


def _adamw(config: Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if config.name != "adamw8bit":
        return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=True)
    from janus.model.quantized import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(groups, betas=config.betas, eps=config.eps)
