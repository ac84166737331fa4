"""Noise that is a pure function of (seed, step, choice).

A random number generator has state, so what it hands to one image depends on what was drawn for its neighbours. Here
the noise of choice `k` at step `t` of an image is a hash of (seed, t, k): the same image comes out alone, in a batch of
64, in any order, on CPU or GPU.
"""

from __future__ import annotations

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MAX_SEED = 2**63


def _signed(value: int) -> int:
    """`value` as the int64 with the same 64 bits."""
    return value - 2**64 if value >= 2**63 else value


def _logical_shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """int64 `x` shifted right with zeros coming in (torch shifts the sign in)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _splitmix64(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output function (Steele, Lea, Flood 2014) on int64 bit patterns; overflow wraps, as it must."""
    x = (x ^ _logical_shift(x, 30)) * _signed(_MIX[0])
    x = (x ^ _logical_shift(x, 27)) * _signed(_MIX[1])
    return x ^ _logical_shift(x, 31)


def seed_keys(seeds: list[int], device: torch.device | str) -> torch.Tensor:
    """int64[B]: one well-mixed key per seed, for `gumbel`.

    Raises:
        ValueError: a seed is negative or does not fit 63 bits.
    """
    for seed in seeds:
        if not 0 <= seed < _MAX_SEED:
            raise ValueError(f"seed {seed}: expected 0 <= seed < 2**63")
    return _splitmix64(torch.tensor(seeds, dtype=torch.int64, device=device) + _signed(_GOLDEN))


def gumbel(keys: torch.Tensor, step: int, choices: int) -> torch.Tensor:
    """float32[B, choices]: standard Gumbel noise of `step` for each row's key (int64[B], from `seed_keys`).

    argmax(logits + noise) is then a draw from softmax(logits).
    """
    row = _splitmix64(keys + _signed((_GOLDEN * (step + 1)) % 2**64))
    choice = _splitmix64(torch.arange(1, choices + 1, device=keys.device) * _signed(_GOLDEN))
    bits = _logical_shift(_splitmix64(row[:, None] ^ choice), 11)
    # 53 bits keep the tail that matters exact: a small uniform is a large Gumbel value, and float32 has all its
    # relative precision near zero. A uniform that rounds to 1 gives -inf: that choice simply is not taken.
    uniform = ((bits.double() + 0.5) * 2.0**-53).float()
    return -torch.log(-torch.log1p(-uniform))
