"""Packed attention against attention written out with a block mask."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from janus.model.attention import Packing, packed_attention

LENGTHS = [5, 3, 1, 7, 16, 9, 7]
ROW = 16


def reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], window: int | None = None
) -> torch.Tensor:
    """[B, L, H, d] by softmax over an explicit mask: same document, not later, not beyond the window."""
    batch, heads, length, width = query.shape
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).view(batch, length)
    place = torch.arange(length)
    allowed = (document[:, :, None] == document[:, None, :]) & (place[:, None] >= place[None, :])
    if window is not None:
        allowed &= place[:, None] - place[None, :] < window
    groups = heads // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) / width**0.5
    scores = scores.masked_fill(~allowed[:, None], float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


def inputs(kv_heads: int = 4, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    heads = (4, kv_heads, kv_heads)
    return [torch.randn(3, h, ROW, 8, generator=generator, dtype=dtype).requires_grad_() for h in heads]


def attend(qkv: list[torch.Tensor], lengths: list[int], **kwargs: object) -> torch.Tensor:
    packing = Packing(torch.tensor(lengths, dtype=torch.int32), ROW)
    return packed_attention(torch.nn.Module(), *qkv, packing.mask, packing=packing, **kwargs)[0]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("lengths", [LENGTHS, [16, 16, 16], [1] * 48])
def test_output_and_gradients_equal_the_block_mask(lengths: list[int], window: int | None, kv_heads: int) -> None:
    ours, expected = inputs(kv_heads, torch.float64), inputs(kv_heads, torch.float64)
    weights = torch.randn(3, ROW, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    output = attend(ours, lengths, sliding_window=window)
    target = reference(*expected, lengths, window)
    torch.testing.assert_close(output, target)
    (output * weights).sum().backward()
    (target * weights).sum().backward()
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_document_is_blind_to_its_neighbours() -> None:
    """Exactly: not one bit of a document's output depends on another document."""
    query, key, value = inputs()
    before = attend([query, key, value], LENGTHS)
    with torch.no_grad():
        for tensor in (query, key, value):
            tensor[0, :, 5:8] = 1e4  # the second document of the first pack
    after = attend([query, key, value], LENGTHS)
    same = torch.ones(3, ROW, dtype=torch.bool)
    same[0, 5:8] = False
    assert torch.equal(before[same], after[same])


def test_groups_hold_every_position_once_and_pad_within_the_document() -> None:
    positions, inverse = Packing(torch.tensor(LENGTHS, dtype=torch.int32), ROW).groups
    rows = torch.cat([group.flatten() for group in positions])
    assert torch.equal(rows[inverse], torch.arange(sum(LENGTHS)))
    assert sorted(start for group in positions for start in group[:, 0].tolist()) == [0, 5, 8, 9, 16, 32, 41]
    # Padding at most doubles a document.
    assert rows.numel() <= 2 * sum(LENGTHS)


def test_asking_for_a_mask_costs_no_square() -> None:
    packing = Packing(torch.tensor([4096] * 64, dtype=torch.int32), 4096)
    assert packing.mask.ndim == 4  # which transformers takes as ready-made
    assert packing.mask.numel() == 65


def test_without_packing_it_is_sdpa() -> None:
    query, key, value = inputs()
    module = SimpleNamespace(is_causal=True, num_key_value_groups=1)
    output, _ = packed_attention(module, query, key, value, None)  # type: ignore[arg-type]
    torch.testing.assert_close(output, reference(query, key, value, [ROW] * 3))


def test_what_cannot_be_packed_is_refused() -> None:
    qkv = inputs()
    with pytest.raises(ValueError, match="softcap"):
        attend(qkv, LENGTHS, softcap=30.0)
    packing = Packing(torch.tensor(LENGTHS, dtype=torch.int32), ROW)
    with pytest.raises(RuntimeError, match="did not receive its `packing`"):
        packed_attention(torch.nn.Module(), *qkv, packing.mask)


@pytest.mark.gpu
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 20])
def test_flash_attention_on_a_gpu_equals_the_block_mask(kv_heads: int, window: int | None) -> None:
    lengths, row = [100, 156, 256, 1, 130, 125], 256
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(3, heads, row, 64) for heads in (4, kv_heads, kv_heads)]
    qkv = [torch.randn(s, generator=generator, device="cuda", dtype=torch.bfloat16).requires_grad_() for s in shapes]
    packing = Packing(torch.tensor(lengths, dtype=torch.int32, device="cuda"), row)
    output = packed_attention(torch.nn.Module(), *qkv, packing.mask, packing=packing, sliding_window=window)[0]
    output.float().square().sum().backward()
    exact = [x.detach().double().cpu().requires_grad_() for x in qkv]
    target = reference(*exact, lengths, window)
    target.square().sum().backward()
    torch.testing.assert_close(output.double().cpu(), target, rtol=0.02, atol=0.02)
    for ours, theirs in zip(qkv, exact, strict=True):
        torch.testing.assert_close(ours.grad.double().cpu(), theirs.grad, rtol=0.05, atol=0.05)
