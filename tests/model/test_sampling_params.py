"""Noise as a pure function of (seed, step, choice), and the choices made with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from janus.model.inference.guidance import guide
from janus.model.inference.noise import gumbel, seed_keys
from janus.model.inference.sampling_params import SamplingParams, keep_top, sample


def splitmix64(state: int) -> int:
    """The reference generator's next output from `state` (Vigna's splitmix64.c), in Python integers."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**63 - 1])
def test_seed_keys_are_the_published_splitmix64(seed: int) -> None:
    assert int(seed_keys([seed], "cpu")[0]) % 2**64 == splitmix64(seed)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed {seed}"):
        seed_keys([seed], "cpu")


def test_noise_depends_on_seed_step_and_choice_alone() -> None:
    alone = gumbel(seed_keys([7], "cpu"), 3, 50)
    among = gumbel(seed_keys([1, 7, 9], "cpu"), 3, 80)
    torch.testing.assert_close(among[1, :50], alone[0], rtol=0, atol=0)
    assert not torch.equal(gumbel(seed_keys([7], "cpu"), 4, 50), alone)
    assert not torch.equal(among[0], among[1])


def test_noise_is_standard_gumbel() -> None:
    """Mean, variance and distribution function of 2M draws, to four standard errors."""
    draws = gumbel(seed_keys(list(range(200)), "cpu"), 0, 10_000).double()
    assert draws.isfinite().all()
    count = draws.numel()
    assert abs(draws.mean().item() - np.euler_gamma) < 4 * np.pi / np.sqrt(6 * count)
    assert abs(draws.var().item() - np.pi**2 / 6) < 0.02
    for x in (-1.0, 0.0, 1.0, 3.0, 8.0):
        expected = np.exp(-np.exp(-x))
        measured = (draws <= x).double().mean().item()
        assert abs(measured - expected) < 4 * np.sqrt(expected * (1 - expected) / count)


def test_neighbouring_seeds_steps_and_choices_are_uncorrelated() -> None:
    seeds = gumbel(seed_keys(list(range(1000)), "cpu"), 0, 256)
    later = gumbel(seed_keys(list(range(1000)), "cpu"), 1, 256)
    pairs = [(seeds[:-1], seeds[1:]), (seeds[:, :-1], seeds[:, 1:]), (seeds, later)]
    for left, right in pairs:
        correlation = torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1].item()
        assert abs(correlation) < 4 / np.sqrt(left.numel())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -6.0])
    count = 40_000
    keys = seed_keys(list(range(count)), "cpu")
    drawn = sample(logits.expand(count, -1), keys, 5, SamplingParams(temperature=temperature))
    measured = torch.bincount(drawn, minlength=5) / count
    expected = (logits / temperature).softmax(-1)
    tolerance = 4 * (expected * (1 - expected) / count).sqrt() + 1e-9
    assert ((measured - expected).abs() < tolerance).all()


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    chosen = sample(logits, seed_keys([0] * 6, "cpu"), 0, SamplingParams(temperature=0))
    torch.testing.assert_close(chosen, logits.argmax(-1))


def test_top_k_and_top_p_keep_the_right_set() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.06, 0.04]]).log()[:, [3, 0, 4, 1, 2]]

    def kept(top_k: int | None, top_p: float | None) -> list[int]:
        return keep_top(logits, top_k, top_p)[0].isfinite().nonzero().flatten().tolist()

    assert kept(2, None) == [1, 3]
    assert kept(None, 0.65) == [1, 3]  # .4 alone is less, .4 + .3 is enough
    assert kept(None, 0.75) == [1, 3, 4]
    assert kept(None, 1e-6) == [1]
    assert kept(99, 1.0) == [0, 1, 2, 3, 4]
    assert kept(3, 0.5) == [1, 3]  # the nucleus is taken of what top-k left: .44, .33, .22


def test_filters_agree_with_transformers() -> None:
    from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(64, 300, generator=torch.Generator().manual_seed(1)) * 3
    expected = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(50)(None, logits))
    torch.testing.assert_close(keep_top(logits, 50, 0.8), expected)


def test_guidance_is_the_papers_formula() -> None:
    conditional, unconditional = torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 1.0]])
    torch.testing.assert_close(guide(conditional, unconditional, 5.0), torch.tensor([[2.0 - 5.0, 1.0 + 15.0]]))
    torch.testing.assert_close(guide(conditional, unconditional, 1.0), conditional)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**settings)
