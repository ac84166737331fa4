"""The incremental pass with its static cache, against one full pass of the same LLM."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

from janus.model.inference.kv_cache import Decoder, batches, left_pad

SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


@pytest.fixture(scope="module", params=["sdpa", "eager", "qwen3"])
def llm(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    if request.param == "qwen3":
        return Qwen3Model(Qwen3Config(**SIZES)).eval()
    return LlamaModel._from_config(LlamaConfig(**SIZES), attn_implementation=request.param).eval()


@torch.no_grad()
def test_steps_equal_one_full_pass_whatever_the_padding(llm: torch.nn.Module) -> None:
    prompts = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12]]
    following = torch.randint(0, 50, (3, 6), generator=torch.Generator().manual_seed(1))
    ids, attend = left_pad(prompts, 9, pad_id=0)
    decoder = Decoder(llm, rows=3, prompt=9, new_tokens=6)
    hidden = [decoder.prefill(llm.embed_tokens(ids), attend)]
    hidden += [decoder.step(llm.embed_tokens(following[:, step])) for step in range(6)]
    for row, prompt in enumerate(prompts):
        full = torch.tensor([prompt + following[row].tolist()])
        expected = llm(input_ids=full, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
        torch.testing.assert_close(torch.stack([step[row] for step in hidden]), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_decoder_serves_a_second_prompt(llm: torch.nn.Module) -> None:
    """Nothing of the first prompt is left in the cache or the mask, even where the second is padded more."""
    decoder = Decoder(llm, rows=1, prompt=6, new_tokens=3)
    for prompt in ([[3, 4, 5, 6, 7, 8]], [[9, 2]]):
        ids, attend = left_pad(prompt, 6, pad_id=0)
        states = [decoder.prefill(llm.embed_tokens(ids), attend)]
        states += [decoder.step(llm.embed_tokens(torch.tensor([token]))) for token in (20, 21, 22)]
    expected = llm(input_ids=torch.tensor([[9, 2, 20, 21, 22]]), use_cache=False).last_hidden_state[0, 1:]
    torch.testing.assert_close(torch.cat(states), expected, rtol=1e-5, atol=1e-5)


def test_one_step_too_many_is_an_error(llm: torch.nn.Module) -> None:
    decoder = Decoder(llm, rows=1, prompt=2, new_tokens=1)
    ids, attend = left_pad([[3, 4]], 2, pad_id=0)
    embed = llm.embed_tokens(torch.tensor([5]))
    decoder.prefill(llm.embed_tokens(ids), attend)
    decoder.step(embed)
    with pytest.raises(IndexError, match="cache of 3 tokens is full"):
        decoder.step(embed)


def test_padded_width_depends_on_a_prompt_alone() -> None:
    lengths = [5, 17, 8, 9, 16, 3, 30]
    planned = list(batches(lengths, size=2, multiple=8))
    assert planned == [(8, [0, 2]), (8, [5]), (16, [3, 4]), (24, [1]), (32, [6])]
    assert sorted(index for _, indices in planned for index in indices) == list(range(len(lengths)))
    widths = {index: width for width, indices in planned for index in indices}
    for index, length in enumerate(lengths):
        assert list(batches([length], size=2, multiple=8)) == [(widths[index], [0])]


def test_a_batch_size_below_one_is_named() -> None:
    with pytest.raises(ValueError, match="batch size 0"):
        list(batches([3], size=0, multiple=8))


def test_left_padding() -> None:
    ids, attend = left_pad([[1, 2, 3], [4]], 4, pad_id=9)
    assert ids.tolist() == [[9, 1, 2, 3], [9, 9, 9, 4]]
    assert attend.tolist() == [[False, True, True, True], [False, False, False, True]]
