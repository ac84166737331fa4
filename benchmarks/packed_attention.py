"""Packed attention against a dense block mask: forward and backward of one layer, both in the same run.

    python benchmarks/packed_attention.py [--packs 8] [--length 512] [--document 40] [--heads 3] [--width 64]

Documents have 0.5 to 1.5 times the given length. On a GPU in bf16 the packed side is variable-length flash attention,
on a CPU in fp32 it is causal attention per group of documents. The block mask is what `transformers` would build.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import tyro

from janus.model.attention import Packing, packed_attention


def lengths_of(packs: int, length: int, document: int) -> list[int]:
    """Documents that fill every pack exactly."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = []
    for _ in range(packs):
        left = length
        while left:
            size = int(torch.randint(document // 2, document * 3 // 2 + 1, (1,), generator=generator))
            lengths.append(min(size, left))
            left -= lengths[-1]
    return lengths


def milliseconds(run: Callable[[], torch.Tensor], repeats: int, device: str) -> float:
    """Median time of forward and backward."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main(
    packs: int = 8, length: int = 512, document: int = 40, heads: int = 3, width: int = 64, repeats: int = 15
) -> None:
    """Time both."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    lengths = lengths_of(packs, length, document)
    # As a decoder layer makes them: [B, L, H, d] seen as [B, H, L, d].
    query, key, value = (
        torch.randn(packs, length, heads, width, device=device, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    sizes = torch.tensor(lengths, dtype=torch.int32, device=device)
    number = torch.repeat_interleave(torch.arange(len(lengths), device=device), sizes).view(packs, length)
    block = (number[:, :, None] == number[:, None, :]) & torch.ones(length, length, device=device).tril().bool()
    packing = Packing(sizes, length)

    def masked() -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=block[:, None])

    def packed() -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return packed_attention(torch.nn.Module(), q, k, v, packing.mask, packing=packing)[0]

    dense, ours = milliseconds(masked, repeats, device), milliseconds(packed, repeats, device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, {dtype}, {packs} packs of {length}, {len(lengths)} documents, {heads} heads of {width}")
    print(f"block mask {dense:.2f} ms, packed {ours:.2f} ms, ratio {dense / ours:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
