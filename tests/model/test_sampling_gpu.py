"""Sampling with captured steps on a GPU: the same codes as without, and as on the CPU."""

from __future__ import annotations

import pytest
import torch

from janus.model.device import cast
from janus.model.inference.answering import answer
from janus.model.inference.sampling import sample_codes
from janus.model.inference.sampling_params import SamplingParams
from schemas.sample import Message
from tests.model.toy import toy_janus

pytestmark = pytest.mark.gpu

PROMPTS = ["a red fish", "two blue squares left of a very small green triangle", "x", "a yellow cross"]


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_captured_steps_give_the_codes_of_the_cpu(scale: float) -> None:
    model, processor = toy_janus()
    settings = {"cfg_scale": scale, "params": SamplingParams(temperature=0.7), "seeds": [1, 2, 3, 4]}
    expected = sample_codes(model, processor, PROMPTS, **settings)
    found = sample_codes(model.cuda(), processor, PROMPTS, **settings)
    assert torch.equal(found, expected)


def test_in_bf16_an_image_does_not_depend_on_its_batch() -> None:
    model, processor = toy_janus()
    cast(model.cuda(), torch.bfloat16)
    together = sample_codes(model, processor, PROMPTS, params=SamplingParams(), seeds=[1, 2, 3, 4], batch_size=4)
    for index, prompt in enumerate(PROMPTS):
        alone = sample_codes(model, processor, [prompt], params=SamplingParams(), seeds=[index + 1], batch_size=4)
        assert torch.equal(alone, together[index : index + 1])


def test_long_answers_cross_captured_lengths() -> None:
    """More than 128 new tokens: several graphs over one cache."""
    model, processor = toy_janus()
    question = [[Message(role="user", text="Tell me a long story.")]]
    expected = answer(model, processor, question, [[]], max_new_tokens=200)
    assert answer(model.cuda(), processor, question, [[]], max_new_tokens=200) == expected
