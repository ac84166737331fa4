"""One token at a time through the LLM, with a static key-value cache.

Shape legend: R rows, P prompt length (left-padded), T = P + new tokens, D hidden size.

The cache is allocated once and written in place; on CUDA decoding steps are captured as CUDA graphs, because a step of
a 1.3B model is about 1 ms of memory traffic and many times that in kernel launches from Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_GRAPH_STEP = 128
"""A captured step attends to a fixed length of the cache: the next multiple of this."""


class _Slots:
    """Where the next keys and values go, shared by all layers of a cache."""

    def __init__(self, device: torch.device) -> None:
        self.visible = 0
        """Cache length that attention sees."""
        self.next = torch.zeros(1, dtype=torch.int64, device=device)
        """int64[1]: slot of the next token, a tensor so that a captured CUDA graph follows it."""


class _StaticLayer(CacheLayerMixin):
    """Keys and values of one layer, [R, heads, T, head size], allocated at the first prompt."""

    is_sliding = False

    def __init__(self, slots: _Slots, length: int) -> None:
        super().__init__()
        self._slots, self._length = slots, length

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate for the shape of the first keys and values."""
        rows, heads, _, _ = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, self._length, key_states.shape[-1])
        self.values = value_states.new_zeros(rows, heads, self._length, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a prompt at the start or one token at the next slot; the keys and values attention is to see."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        count = key_states.shape[2]
        if count > 1:
            self.keys[:, :, :count] = key_states
            self.values[:, :, :count] = value_states
        else:
            self.keys.index_copy_(2, self._slots.next, key_states)
            self.values.index_copy_(2, self._slots.next, value_states)
        visible = self._slots.visible
        return self.keys[:, :, :visible], self.values[:, :, :visible]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self._slots.visible, 0

    def get_seq_length(self) -> int:
        """Keys that attention sees."""
        return self._slots.visible

    def get_max_length(self) -> int:
        """T."""
        return self._length


def left_pad(rows: list[list[int]], width: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids int64[R, width] and attend bool[R, width]. The null condition's pad tokens do count."""
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    attend = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, tokens in enumerate(rows):
        ids[row, width - len(tokens) :] = torch.tensor(tokens, dtype=torch.int64)
        attend[row, width - len(tokens) :] = True
    return ids, attend


def batches(lengths: Sequence[int], size: int, multiple: int) -> Iterator[tuple[int, list[int]]]:
    """Prompt indices in batches of up to `size`, each with its padded width.

    A width is the prompt's own length rounded up to a multiple of `multiple`, and only prompts of one width share a
    batch: how far a prompt is padded never depends on its neighbours. Shortest first, otherwise in order.

    Raises:
        ValueError: `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"batch size {size}: expected 1 or more")
    by_width: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_width.setdefault(_round_up(length, multiple), []).append(index)
    for width, indices in sorted(by_width.items()):
        for start in range(0, len(indices), size):
            yield width, indices[start : start + size]


class Decoder:
    """Incremental pass of `language_model` over R rows: `prefill` a prompt, then `step` up to `new_tokens` times.

    Padding changes no result: padded positions are never attended to and positions count real tokens only. One
    decoder serves any number of prompts of the same shape.
    """

    def __init__(self, language_model: torch.nn.Module, *, rows: int, prompt: int, new_tokens: int) -> None:
        self._llm = language_model
        weight = next(language_model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._prompt, self._length = prompt, prompt + new_tokens
        self._slots = _Slots(self._device)
        capacity = _round_up(self._length, 8)  # rows of the mask then start at addresses that fast kernels accept
        layers = [_StaticLayer(self._slots, capacity) for _ in range(language_model.config.num_hidden_layers)]
        self._cache = Cache(layers=layers)
        # Additive, in the model's dtype: every attention implementation takes it.
        self._mask = torch.zeros(rows, 1, 1, capacity, dtype=self._dtype, device=self._device)
        self._positions = torch.zeros(rows, 1, dtype=torch.int64, device=self._device)
        self._used = 0
        self._graphs: dict[int, _Graph] = {}

    def prefill(self, embeds: torch.Tensor, attend: torch.Tensor) -> torch.Tensor:
        """Hidden state float[R, D] of the last prompt token.

        Args:
            embeds: float[R, P, D], left-padded.
            attend: bool[R, P], False at the padding.
        """
        attend = attend.to(self._device)
        positions = (attend.cumsum(dim=-1) - 1).clamp(min=0)
        allowed = attend[:, None, None, :].expand(-1, 1, self._prompt, -1).tril()
        # A padded position sees itself: a row of nothing but -inf would put NaN into the cache.
        allowed = allowed | torch.eye(self._prompt, dtype=torch.bool, device=self._device)
        self._mask.fill_(torch.finfo(self._dtype).min)
        self._mask[:, 0, 0, : self._prompt].masked_fill_(attend, 0.0)
        self._positions.copy_(positions[:, -1:])
        self._slots.next.fill_(self._prompt - 1)
        self._slots.visible = self._used = self._prompt
        return self._forward(embeds.to(self._dtype), _additive(allowed, self._dtype), positions)

    def step(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden state float[R, D] after one more token, given its embeddings float[R, D].

        Raises:
            IndexError: all `new_tokens` steps are used.
        """
        if self._used == self._length:
            raise IndexError(f"the cache of {self._length} tokens is full")
        self._used += 1
        if self._device.type != "cuda":
            self._slots.visible = self._used
            return self._advance(embeds)
        self._slots.visible = min(_round_up(self._used, _GRAPH_STEP), self._mask.shape[-1])
        if self._slots.visible not in self._graphs:
            self._graphs[self._slots.visible] = self._capture(embeds)
        return self._graphs[self._slots.visible].replay(embeds)

    def _advance(self, embeds: torch.Tensor) -> torch.Tensor:
        self._slots.next += 1
        self._positions += 1
        self._mask.index_fill_(3, self._slots.next, 0.0)
        return self._forward(embeds[:, None], self._mask[..., : self._slots.visible], self._positions)

    def _forward(self, embeds: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        outputs = self._llm(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        return outputs.last_hidden_state[:, -1]

    def _capture(self, embeds: torch.Tensor) -> _Graph:
        """Record `_advance` for the present visible length; the state is as if it had not run."""
        static = embeds.to(self._dtype).clone()
        before = self._slots.next.clone(), self._positions.clone(), self._mask.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries allocate their workspaces in a first run, outside the graph
            for _ in range(2):
                self._advance(static)
                self._restore(before)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Only what this thread does is checked: a loader's thread may pin memory meanwhile, which the default forbids.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            hidden = self._advance(static)
        return _Graph(graph, static, hidden)

    def _restore(self, state: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        for tensor, value in zip((self._slots.next, self._positions, self._mask), state, strict=True):
            tensor.copy_(value)


@dataclass(frozen=True)
class _Graph:
    """A captured decoding step with its fixed input and output."""

    graph: torch.cuda.CUDAGraph
    embeds: torch.Tensor
    hidden: torch.Tensor

    def replay(self, embeds: torch.Tensor) -> torch.Tensor:
        self.embeds.copy_(embeds)
        self.graph.replay()
        return self.hidden.clone()


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where `allowed`, the lowest finite number elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, torch.finfo(dtype).min)
