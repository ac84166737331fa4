"""Images from a trained Janus (paper, section 3.4): the prompt up to `<begin_of_image>`, then one VQ code after another
from the image head, with classifier-free guidance against the null condition, then the VQ decoder.

Shape legend: N images, B images of one batch, R rows of the LLM (2B with guidance), K codebook size, N_g codes per
image, S side in pixels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from janus.model.inference.guidance import guide, null_prompt
from janus.model.inference.kv_cache import Decoder, batches, left_pad
from janus.model.inference.noise import seed_keys
from janus.model.inference.sampling_params import SamplingParams, sample
from janus.model.pixels import to_uint8
from janus.model.templates import encode_sample
from janus.model.vq import decode_codes
from schemas.sample import Message

if TYPE_CHECKING:
    from janus.model.network import Janus
    from janus.model.processor import Processor


def image_prompt(processor: Processor, caption: str, template: str) -> list[int]:
    """Token ids of a text-to-image prompt, BOS ... BOI: a training row of `template` cut at its first BOI."""
    message = Message(role="caption", text=caption)
    ids = encode_sample(processor, task="generation", template=template, messages=[message]).input_ids
    return ids[: ids.index(processor.boi_id) + 1]


def sample_images(
    model: Janus,
    processor: Processor,
    prompts: Sequence[str],
    *,
    template: str = "plain",
    cfg_scale: float = 5.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seeds: Sequence[int],
    batch_size: int = 16,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """uint8[N, S, S, 3]: one image per prompt. Arguments and errors as in `sample_codes`."""
    images = np.empty((len(prompts), processor.image_size, processor.image_size, 3), dtype=np.uint8)
    done = 0

    def decode(indices: list[int], codes: torch.Tensor) -> None:
        nonlocal done
        images[indices] = codes_to_images(model, codes)
        done += len(indices)
        if on_progress is not None:
            on_progress(done)

    sample_codes(
        model,
        processor,
        prompts,
        template=template,
        cfg_scale=cfg_scale,
        params=SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p),
        seeds=seeds,
        batch_size=batch_size,
        on_batch=decode,
    )
    return images


@torch.inference_mode()
def sample_codes(
    model: Janus,
    processor: Processor,
    prompts: Sequence[str],
    *,
    template: str = "plain",
    cfg_scale: float = 5.0,
    params: SamplingParams,
    seeds: Sequence[int],
    batch_size: int = 16,
    on_batch: Callable[[list[int], torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """VQ codes int64[N, N_g] on the CPU, one image per prompt.

    An image depends on its own prompt, its seed and `params`, not on its neighbours: the noise is a function of the
    seed, padding is masked, and a prompt's padded length follows from its own length. Only floating-point rounding may
    differ between batch shapes, and turn a close choice; on CUDA, where bf16 makes that likely, every batch is filled
    up to `batch_size`, so that calls with the same `batch_size` run the very same kernels.

    Args:
        cfg_scale: 1 means no guidance and no second row.
        seeds: one per prompt.
        batch_size: images at once. The cache of a 1.3B model takes 0.3 GB per image with guidance in bf16.
        on_batch: called with the indices and codes int64[B, N_g] of each finished batch.

    Raises:
        ValueError: not one seed per prompt.
    """
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: expected one seed per prompt")
    ids = [image_prompt(processor, prompt, template) for prompt in prompts]
    codes = torch.empty(len(ids), processor.generation_tokens, dtype=torch.int64)
    loop = _CodeLoop(model, processor, cfg_scale, params)
    for width, indices in batches([len(row) for row in ids], batch_size, multiple=max(codes.shape[1] // 4, 8)):
        filled = indices + indices[-1:] * (batch_size - len(indices)) if loop.device.type == "cuda" else indices
        batch = loop.run([ids[i] for i in filled], [seeds[i] for i in filled], width)[: len(indices)].cpu()
        codes[indices] = batch
        if on_batch is not None:
            on_batch(indices, batch)
    return codes


@torch.inference_mode()
def codes_to_images(model: Janus, codes: torch.Tensor) -> np.ndarray:
    """uint8[B, S, S, 3] from codes int64[B, N_g].

    One image at a time: a convolution over another batch size rounds differently, and the full-resolution feature maps
    are the memory peak of sampling.
    """
    vq = model.model.vqmodel
    device = next(vq.parameters()).device
    return torch.cat([to_uint8(decode_codes(vq, one.to(device))).cpu() for one in codes.split(1)]).numpy()


class _CodeLoop:
    """The sampling loop over batches, keeping the decoder (and its CUDA graph) while the shape stays the same."""

    def __init__(self, model: Janus, processor: Processor, cfg_scale: float, params: SamplingParams) -> None:
        self._model, self._processor = model, processor
        self._scale, self._params = cfg_scale, params
        self._table = _code_table(model)
        self._decoder: Decoder | None = None
        self._shape = (0, 0)
        self.device = self._table.device

    def run(self, prompts: list[list[int]], seeds: list[int], width: int) -> torch.Tensor:
        """Codes int64[B, N_g] of one batch of prompts, left-padded to `width`."""
        length, pad_id = self._processor.generation_tokens, self._processor.pad_id
        guided = self._scale != 1
        rows = prompts + [null_prompt(prompt, pad_id) for prompt in prompts] if guided else prompts
        decoder = self._decoder_for(len(rows), width)
        ids, attend = left_pad(rows, width, pad_id)
        keys = seed_keys(seeds, self.device)
        codes = torch.empty(len(prompts), length, dtype=torch.int64, device=self.device)
        hidden = decoder.prefill(self._model.get_input_embeddings()(ids.to(self.device)), attend)
        for step in range(length):
            if step > 0:
                code = codes[:, step - 1]
                hidden = decoder.step(self._table[code.repeat(2) if guided else code])
            logits = self._model.model.generation_head(hidden)
            if guided:
                conditional, unconditional = logits.chunk(2)
                logits = guide(conditional, unconditional, self._scale)
            codes[:, step] = sample(logits, keys, step, self._params)
        return codes

    def _decoder_for(self, rows: int, width: int) -> Decoder:
        if self._decoder is None or self._shape != (rows, width):
            self._decoder = Decoder(
                self._model.model.language_model,
                rows=rows,
                prompt=width,
                new_tokens=self._processor.generation_tokens - 1,
            )
            self._shape = (rows, width)
        return self._decoder


def _code_table(model: Janus) -> torch.Tensor:
    """float[K, D]: what the LLM sees for each code, `adaptor(code embedding)`, once instead of at every step."""
    embeddings = model.model.generation_embeddings.weight
    return model.prepare_embeddings_for_image_generation(torch.arange(len(embeddings), device=embeddings.device))
