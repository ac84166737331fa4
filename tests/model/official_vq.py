"""VQ-16 written down a second time, from its published description: plain functions over a state dict in the official
layout (the names in LlamaGen's `vq_ds16_t2i.pt`). The reference that `janus.model.vq` is held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]
MULTIPLIERS = (1, 1, 2, 2, 4)


def random_state(*, base: int, blocks: int, latent: int, width: int, codes: int, seed: int = 0) -> State:
    """Random weights in the official layout; codebook rows of very different lengths."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> None:
        scale = (inputs * kernel**2) ** -0.5
        state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 1 + torch.randn(channels, generator=generator) * 0.1
        state[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.1

    def resnet(name: str, inputs: int, outputs: int) -> None:
        norm(f"{name}.norm1", inputs)
        conv(f"{name}.conv1", inputs, outputs, 3)
        norm(f"{name}.norm2", outputs)
        conv(f"{name}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            conv(f"{name}.nin_shortcut", inputs, outputs, 1)

    def attention(name: str, channels: int) -> None:
        norm(f"{name}.norm", channels)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", channels, channels, 1)

    def middle(name: str, channels: int) -> None:
        resnet(f"{name}.0", channels, channels)
        attention(f"{name}.1", channels)
        resnet(f"{name}.2", channels, channels)

    last = len(MULTIPLIERS) - 1
    channels = base
    conv("encoder.conv_in", 3, base, 3)
    for level, factor in enumerate(MULTIPLIERS):
        for block in range(blocks):
            resnet(f"encoder.conv_blocks.{level}.res.{block}", channels, base * factor)
            channels = base * factor
            if level == last:
                attention(f"encoder.conv_blocks.{level}.attn.{block}", channels)
        if level != last:
            conv(f"encoder.conv_blocks.{level}.downsample.conv", channels, channels, 3)
    middle("encoder.mid", channels)
    norm("encoder.norm_out", channels)
    conv("encoder.conv_out", channels, latent, 3)

    conv("decoder.conv_in", latent, channels, 3)
    middle("decoder.mid", channels)
    for level, factor in enumerate(reversed(MULTIPLIERS)):
        for block in range(blocks + 1):
            resnet(f"decoder.conv_blocks.{level}.res.{block}", channels, base * factor)
            channels = base * factor
            if level == 0:
                attention(f"decoder.conv_blocks.{level}.attn.{block}", channels)
        if level != last:
            conv(f"decoder.conv_blocks.{level}.upsample.conv", channels, channels, 3)
    norm("decoder.norm_out", channels)
    conv("decoder.conv_out", channels, 3, 3)

    conv("quant_conv", latent, width, 1)
    conv("post_quant_conv", width, latent, 1)
    lengths = torch.exp(torch.randn(codes, 1, generator=generator))
    state["quantize.embedding.weight"] = torch.randn(codes, width, generator=generator) * lengths
    state["quantize.codebook_used"] = torch.zeros(65536)
    return state


def encode(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """int64[N, h*w]: the row of the L2-normalised codebook nearest to the L2-normalised latent."""
    levels, blocks = _levels(state, "encoder"), _blocks(state, "encoder")
    x = _conv(state, "encoder.conv_in", pixels, padding=1)
    for level in range(levels):
        for block in range(blocks):
            x = _level_block(state, f"encoder.conv_blocks.{level}", block, x)
        if level != levels - 1:
            x = _conv(state, f"encoder.conv_blocks.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
    x = _swish(_norm(state, "encoder.norm_out", _middle(state, "encoder.mid", x)))
    x = _conv(state, "encoder.conv_out", x, padding=1)
    z = F.normalize(_conv(state, "quant_conv", x).permute(0, 2, 3, 1).flatten(1, 2), dim=-1)
    codebook = F.normalize(state["quantize.embedding.weight"], dim=-1)
    # For unit vectors the nearest is the one of greatest cosine.
    return (z @ codebook.T).argmax(-1)


def decode(state: State, codes: torch.Tensor) -> torch.Tensor:
    """float[N, 3, S, S] of int64[N, n]."""
    side = int(codes.shape[1] ** 0.5)
    z = F.normalize(state["quantize.embedding.weight"], dim=-1)[codes]
    x = _conv(state, "post_quant_conv", z.transpose(1, 2).unflatten(2, (side, side)))
    x = _middle(state, "decoder.mid", _conv(state, "decoder.conv_in", x, padding=1))
    levels, blocks = _levels(state, "decoder"), _blocks(state, "decoder")
    for level in range(levels):
        for block in range(blocks):
            x = _level_block(state, f"decoder.conv_blocks.{level}", block, x)
        if level != levels - 1:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = _conv(state, f"decoder.conv_blocks.{level}.upsample.conv", x, padding=1)
    return _conv(state, "decoder.conv_out", _swish(_norm(state, "decoder.norm_out", x)), padding=1)


def _levels(state: State, half: str) -> int:
    return len({name.split(".")[2] for name in state if name.startswith(f"{half}.conv_blocks.")})


def _blocks(state: State, half: str) -> int:
    return len({name.split(".")[4] for name in state if name.startswith(f"{half}.conv_blocks.0.res.")})


def _conv(state: State, name: str, x: torch.Tensor, *, stride: int = 1, padding: int = 0) -> torch.Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=padding)


def _norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def _swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def _resnet(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    h = _conv(state, f"{name}.conv1", _swish(_norm(state, f"{name}.norm1", x)), padding=1)
    h = _conv(state, f"{name}.conv2", _swish(_norm(state, f"{name}.norm2", h)), padding=1)
    return h + (_conv(state, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x)


def _attention(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (_conv(state, f"{name}.{part}", _norm(state, f"{name}.norm", x)).flatten(2) for part in "qkv")
    weights = torch.softmax(q.transpose(1, 2) @ k * q.shape[1] ** -0.5, dim=-1)  # [N, query, key]
    return x + _conv(state, f"{name}.proj_out", (v @ weights.transpose(1, 2)).view_as(x))


def _middle(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return _resnet(state, f"{name}.2", _attention(state, f"{name}.1", _resnet(state, f"{name}.0", x)))


def _level_block(state: State, level: str, block: int, x: torch.Tensor) -> torch.Tensor:
    x = _resnet(state, f"{level}.res.{block}", x)
    return _attention(state, f"{level}.attn.{block}", x) if f"{level}.attn.{block}.q.weight" in state else x
