"""Mask2Former with Swin in OpenMMLab's layout, written from the published architecture: what conversion must equal.

`random_state` makes a checkpoint of any size, `forward` computes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    embed: int = 16
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    window: int = 7
    hidden: int = 32
    encoder_layers: int = 2
    encoder_ffn: int = 48
    decoder_layers: int = 4
    decoder_ffn: int = 64
    queries: int = 12
    classes: int = 80


FULL = Sizes(96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 256, 6, 1024, 9, 2048, 100, 80)
"""mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco."""
ATTENTION_HEADS, LEVELS, POINTS = 8, 3, 4


def random_state(sizes: Sizes, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def matrix(name: str, *shape: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(*shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        if bias:
            state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.5

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = 1 + torch.randn(width, generator=generator) * 0.3
        state[f"{name}.bias"] = torch.randn(width, generator=generator) * 0.3

    def attention(name: str, width: int) -> None:
        state[f"{name}.in_proj_weight"] = torch.randn(3 * width, width, generator=generator) / math.sqrt(width)
        state[f"{name}.in_proj_bias"] = torch.randn(3 * width, generator=generator) * 0.3
        matrix(f"{name}.out_proj", width, width)

    matrix("backbone.patch_embed.projection", sizes.embed, 3, 4, 4)
    norm("backbone.patch_embed.norm", sizes.embed)
    for stage, depth in enumerate(sizes.depths):
        width = sizes.embed * 2**stage
        for block in range(depth):
            at = f"backbone.stages.{stage}.blocks.{block}"
            norm(f"{at}.norm1", width)
            norm(f"{at}.norm2", width)
            table = torch.randn((2 * sizes.window - 1) ** 2, sizes.heads[stage], generator=generator)
            state[f"{at}.attn.w_msa.relative_position_bias_table"] = table
            state[f"{at}.attn.w_msa.relative_position_index"] = positions(sizes.window)
            matrix(f"{at}.attn.w_msa.qkv", 3 * width, width)
            matrix(f"{at}.attn.w_msa.proj", width, width)
            matrix(f"{at}.ffn.layers.0.0", 4 * width, width)
            matrix(f"{at}.ffn.layers.1", width, 4 * width)
        if stage < 3:
            norm(f"backbone.stages.{stage}.downsample.norm", 4 * width)
            matrix(f"backbone.stages.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
        norm(f"backbone.norm{stage}", width)

    hidden, head = sizes.hidden, "panoptic_head"
    pixels = f"{head}.pixel_decoder"
    for level in range(LEVELS):
        matrix(f"{pixels}.input_convs.{level}.conv", hidden, sizes.embed * 2 ** (3 - level), 1, 1)
        norm(f"{pixels}.input_convs.{level}.gn", hidden)
    for layer in range(sizes.encoder_layers):
        at = f"{pixels}.encoder.layers.{layer}"
        samples = ATTENTION_HEADS * LEVELS * POINTS
        matrix(f"{at}.attentions.0.sampling_offsets", 2 * samples, hidden)
        matrix(f"{at}.attentions.0.attention_weights", samples, hidden)
        matrix(f"{at}.attentions.0.value_proj", hidden, hidden)
        matrix(f"{at}.attentions.0.output_proj", hidden, hidden)
        matrix(f"{at}.ffns.0.layers.0.0", sizes.encoder_ffn, hidden)
        matrix(f"{at}.ffns.0.layers.1", hidden, sizes.encoder_ffn)
        norm(f"{at}.norms.0", hidden)
        norm(f"{at}.norms.1", hidden)
    state[f"{pixels}.level_encoding.weight"] = torch.randn(LEVELS, hidden, generator=generator)
    for name, inputs, kernel in (("lateral_convs", sizes.embed, 1), ("output_convs", hidden, 3)):
        matrix(f"{pixels}.{name}.0.conv", hidden, inputs, kernel, kernel, bias=False)
        norm(f"{pixels}.{name}.0.gn", hidden)
    matrix(f"{pixels}.mask_feature", hidden, hidden, 1, 1)
    for layer in range(sizes.decoder_layers):
        at = f"{head}.transformer_decoder.layers.{layer}"
        attention(f"{at}.attentions.0.attn", hidden)
        attention(f"{at}.attentions.1.attn", hidden)
        matrix(f"{at}.ffns.0.layers.0.0", sizes.decoder_ffn, hidden)
        matrix(f"{at}.ffns.0.layers.1", hidden, sizes.decoder_ffn)
        for index in range(3):
            norm(f"{at}.norms.{index}", hidden)
    norm(f"{head}.transformer_decoder.post_norm", hidden)
    for name, rows in (("query_embed", sizes.queries), ("query_feat", sizes.queries), ("level_embed", LEVELS)):
        state[f"{head}.{name}.weight"] = torch.randn(rows, hidden, generator=generator)
    matrix(f"{head}.cls_embed", sizes.classes + 1, hidden)
    for index in (0, 2, 4):
        matrix(f"{head}.mask_embed.{index}", hidden, hidden)
    return state


def positions(window: int) -> Tensor:
    """Row of the bias table for each pair of cells of a window: what lies how far below and right of what."""
    cells = [(row, column) for row in range(window) for column in range(window)]
    side, far = 2 * window - 1, window - 1
    return torch.tensor([[(a - c + far) * side + b - d + far for c, d in cells] for a, b in cells])


def forward(state: State, sizes: Sizes, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits [Q, C + 1] and mask logits [Q, H/4, W/4] of pixels [3, H, W]."""
    features = _swin(state, sizes, pixels)
    memories, mask_feature = _pixel_decoder(state, sizes, features)
    return _decoder(state, sizes, memories, mask_feature)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _ffn(state: State, name: str, x: Tensor, activation: str) -> Tensor:
    inner = getattr(functional, activation)(_linear(state, f"{name}.layers.0.0", x))
    return x + _linear(state, f"{name}.layers.1", inner)


def _swin(state: State, sizes: Sizes, pixels: Tensor) -> list[Tensor]:
    projection = "backbone.patch_embed.projection"
    x = functional.conv2d(pixels[None], state[f"{projection}.weight"], state[f"{projection}.bias"], stride=4)
    x = _norm(state, "backbone.patch_embed.norm", x[0].permute(1, 2, 0))  # (H, W, C)
    features = []
    for stage, depth in enumerate(sizes.depths):
        for block in range(depth):
            at = f"backbone.stages.{stage}.blocks.{block}"
            shift = sizes.window // 2 if block % 2 else 0
            normed = _norm(state, f"{at}.norm1", x)
            x = x + _window_attention(state, f"{at}.attn.w_msa", normed, sizes.heads[stage], sizes.window, shift)
            inner = functional.gelu(_linear(state, f"{at}.ffn.layers.0.0", _norm(state, f"{at}.norm2", x)))
            x = x + _linear(state, f"{at}.ffn.layers.1", inner)
        features.append(_norm(state, f"backbone.norm{stage}", x).permute(2, 0, 1))
        if stage < 3:
            at = f"backbone.stages.{stage}.downsample"
            x = functional.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            height, width = x.shape[0] // 2, x.shape[1] // 2
            joined = torch.nn.Unfold(2, stride=2)(x.permute(2, 0, 1)[None])[0].T  # (cells, 4C)
            x = _linear(state, f"{at}.reduction", _norm(state, f"{at}.norm", joined)).reshape(height, width, -1)
    return features


def _window_attention(state: State, name: str, x: Tensor, heads: int, window: int, shift: int) -> Tensor:
    """Window by window: a cell sees the cells of its window, after the shift only those that were beside it before."""
    height, width, channels = x.shape
    x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[:2]

    def region(at: int, size: int) -> int:
        return 0 if at < size - window else 1 if at < size - shift else 2

    bias = state[f"{name}.relative_position_bias_table"][positions(window)].permute(2, 0, 1)
    x = torch.roll(x, (-shift, -shift), (0, 1))
    out = torch.empty_like(x)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            cells = x[top : top + window, left : left + window].reshape(window**2, channels)
            query, key, value = (
                _linear(state, f"{name}.qkv", cells).reshape(window**2, 3, heads, -1).permute(1, 2, 0, 3)
            )
            scores = query @ key.transpose(1, 2) / math.sqrt(channels // heads) + bias
            if shift:
                regions = torch.tensor(
                    [
                        3 * region(row, rows) + region(column, columns)
                        for row in range(top, top + window)
                        for column in range(left, left + window)
                    ]
                )
                scores = scores.masked_fill(regions[:, None] != regions[None], -math.inf)
            seen = (scores.softmax(-1) @ value).transpose(0, 1).reshape(window**2, channels)
            out[top : top + window, left : left + window] = _linear(state, f"{name}.proj", seen).reshape(
                window, window, channels
            )
    return torch.roll(out, (shift, shift), (0, 1))[:height, :width]


def _sine(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """[H * W, channels]: sines and cosines of the row, then of the column."""
    half = channels // 2
    period = 10000 ** (2 * (torch.arange(half).to(like) // 2) / half)

    def one(size: int) -> Tensor:
        places = torch.arange(1, size + 1).to(like) / (size + 1e-6) * 2 * math.pi
        angles = places[:, None] / period
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)

    rows = one(height)[:, None].expand(height, width, half)
    columns = one(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], 2).reshape(height * width, channels)


def _conv(state: State, name: str, x: Tensor, padding: int = 0) -> Tensor:
    x = functional.conv2d(x[None], state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias"), padding=padding)
    return functional.group_norm(x, 32, state[f"{name}.gn.weight"], state[f"{name}.gn.bias"])[0]


def _pixel_decoder(state: State, sizes: Sizes, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    at = "panoptic_head.pixel_decoder"
    inputs = [_conv(state, f"{at}.input_convs.{level}", features[3 - level]) for level in range(LEVELS)]
    shapes = [tuple(one.shape[1:]) for one in inputs]
    x = torch.cat([one.flatten(1).T for one in inputs])
    position = torch.cat(
        [
            _sine(*shape, sizes.hidden, x) + state[f"{at}.level_encoding.weight"][level]
            for level, shape in enumerate(shapes)
        ]
    )
    places = torch.cat(
        [
            torch.stack(
                [
                    ((torch.arange(width).to(x) + 0.5) / width).expand(height, width),
                    ((torch.arange(height).to(x) + 0.5) / height)[:, None].expand(height, width),
                ],
                2,
            ).reshape(-1, 2)
            for height, width in shapes
        ]
    )
    for layer in range(sizes.encoder_layers):
        name = f"{at}.encoder.layers.{layer}"
        x = _norm(state, f"{name}.norms.0", x + _deformable(state, f"{name}.attentions.0", x, position, places, shapes))
        x = _norm(state, f"{name}.norms.1", _ffn(state, f"{name}.ffns.0", x, "relu"))
    parts = x.split([height * width for height, width in shapes])
    memories = [part.T.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
    lateral = _conv(state, f"{at}.lateral_convs.0", features[0])
    larger = functional.interpolate(memories[-1][None], lateral.shape[1:], mode="bilinear", align_corners=False)[0]
    merged = _conv(state, f"{at}.output_convs.0", lateral + larger, padding=1).relu()
    name = f"{at}.mask_feature"
    return memories, functional.conv2d(merged[None], state[f"{name}.weight"], state[f"{name}.bias"])[0]


def _deformable(
    state: State, name: str, x: Tensor, position: Tensor, places: Tensor, shapes: list[tuple[int, ...]]
) -> Tensor:
    """Every cell reads four points a level and head, at places of its own choosing."""
    cells, hidden = x.shape
    layout = (cells, ATTENTION_HEADS, LEVELS, POINTS)
    offsets = _linear(state, f"{name}.sampling_offsets", x + position).reshape(*layout, 2)
    weights = _linear(state, f"{name}.attention_weights", x + position).reshape(cells, ATTENTION_HEADS, -1).softmax(-1)
    weights = weights.reshape(layout)
    values = _linear(state, f"{name}.value_proj", x).split([height * width for height, width in shapes])
    out = torch.zeros(cells, ATTENTION_HEADS, hidden // ATTENTION_HEADS).to(x)
    for level, (height, width) in enumerate(shapes):
        maps = values[level].reshape(height, width, ATTENTION_HEADS, -1).permute(2, 3, 0, 1)
        at = places[:, None, None] + offsets[:, :, level] / torch.tensor([width, height]).to(x)
        read = functional.grid_sample(
            maps, 2 * at.transpose(0, 1) - 1, align_corners=False
        )  # (heads, C, cells, points)
        out += (read * weights[:, :, level].transpose(0, 1)[:, None]).sum(-1).permute(2, 0, 1)
    return _linear(state, f"{name}.output_proj", out.reshape(cells, hidden))


def _decoder(state: State, sizes: Sizes, memories: list[Tensor], mask_feature: Tensor) -> tuple[Tensor, Tensor]:
    head = "panoptic_head"
    levels = [one.flatten(1).T + state[f"{head}.level_embed.weight"][level] for level, one in enumerate(memories)]
    positions_ = [_sine(one.shape[1], one.shape[2], sizes.hidden, one) for one in memories]
    x, query_position = state[f"{head}.query_feat.weight"], state[f"{head}.query_embed.weight"]

    def predict(x: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        normed = _norm(state, f"{head}.transformer_decoder.post_norm", x)
        embedding = _linear(state, f"{head}.mask_embed.0", normed).relu()
        embedding = _linear(state, f"{head}.mask_embed.4", _linear(state, f"{head}.mask_embed.2", embedding).relu())
        masks = torch.einsum("qc,chw->qhw", embedding, mask_feature)
        small = functional.interpolate(masks[None], memories[level].shape[1:], mode="bilinear", align_corners=False)[0]
        hidden = small.flatten(1).sigmoid() < 0.5
        hidden[hidden.all(1)] = False
        return _linear(state, f"{head}.cls_embed", normed), masks, hidden

    classes, masks, hidden = predict(x, 0)
    for layer in range(sizes.decoder_layers):
        at, level = f"{head}.transformer_decoder.layers.{layer}", layer % LEVELS
        keys = levels[level] + positions_[level]
        seen = _attention(state, f"{at}.attentions.0.attn", x + query_position, keys, levels[level], hidden)
        x = _norm(state, f"{at}.norms.0", x + seen)
        mixed = _attention(state, f"{at}.attentions.1.attn", x + query_position, x + query_position, x)
        x = _norm(state, f"{at}.norms.1", x + mixed)
        x = _norm(state, f"{at}.norms.2", _ffn(state, f"{at}.ffns.0", x, "relu"))
        classes, masks, hidden = predict(x, (layer + 1) % LEVELS)
    return classes, masks


def _attention(
    state: State, name: str, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None
) -> Tensor:
    weights, biases = state[f"{name}.in_proj_weight"].chunk(3), state[f"{name}.in_proj_bias"].chunk(3)
    split = [
        functional.linear(one, weight, bias).reshape(len(one), ATTENTION_HEADS, -1).transpose(0, 1)
        for one, weight, bias in zip((query, key, value), weights, biases, strict=True)
    ]
    scores = split[0] @ split[1].transpose(1, 2) / math.sqrt(split[0].shape[-1])
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    return _linear(state, f"{name}.out_proj", (scores.softmax(-1) @ split[2]).transpose(0, 1).flatten(1))
