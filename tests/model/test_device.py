"""Where a model runs, and in which precision."""

from __future__ import annotations

import pytest
import torch

from janus.model.device import cast, placement
from tests.model.toy import toy_janus


def test_cast_rounds_weights_but_not_rotary_frequencies() -> None:
    model, _ = toy_janus()
    frequencies = model.model.language_model.rotary_emb.inv_freq.clone()
    cast(model, torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.model.language_model.rotary_emb.inv_freq, frequencies)


def test_a_cpu_computes_in_float32() -> None:
    assert placement("cpu") == (torch.device("cpu"), torch.float32)


def test_a_device_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="device 'gpu': expected auto, cpu, cuda"):
        placement("gpu")
