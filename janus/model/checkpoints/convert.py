"""Whole folders from one checkpoint layout to the other, without building the network.

`hf` is the layout of transformers' `JanusForConditionalGeneration`, which is also ours; `deepseek` is the layout of
DeepSeek's own code and published weights. Either can be read, either can be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import JanusConfig

from janus.model.checkpoints import deepseek
from janus.model.checkpoints.model_folder import VQ_PREFIX, open_model, write_janus
from janus.model.checkpoints.tensors import replace_folder, write_tensors
from janus.model.codebook import CODEBOOK, unit_rows
from janus.model.config import foreign_parts
from janus.model.pixels import MIN_SIDE, PAD
from janus.model.processor import Processor

_THEIR_CODEBOOK = deepseek.to_deepseek_name(CODEBOOK)


@dataclass
class Checkpoint:
    """A model folder in memory, under Hugging Face names."""

    tensors: dict[str, torch.Tensor]
    config: JanusConfig
    processor: Processor
    extras: dict[str, torch.Tensor] = field(default_factory=dict)
    """Tensors under DeepSeek's names that only its layout holds."""


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Read a folder in either layout and check that its weights are those of its configuration.

    A VQ-16 codebook that is not of unit norm comes normalised in float32, so that transformers' own `encode` gives the
    official codes; as it was stored, it is among the extras.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, of another model, or does not fit the others.
    """
    folder = open_model(source)
    processor = folder.processor()
    tensors, extras = folder.tensors(), folder.extras()
    folder.check(tensors)
    rows = unit_rows(tensors[CODEBOOK])
    if rows.changed and not foreign_parts(folder.config):
        extras[_THEIR_CODEBOOK], tensors[CODEBOOK] = tensors[CODEBOOK], rows.rows
    return Checkpoint(tensors, folder.config, processor, extras)


def cast(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    """Turn all weights to `dtype` but those of the VQ tokenizer: a rounded one makes other codes than a corpus has."""
    for name, tensor in checkpoint.tensors.items():
        if not name.startswith(VQ_PREFIX):
            checkpoint.tensors[name] = tensor.to(dtype)


def write_hf(checkpoint: Checkpoint, out: str | Path) -> list[str]:
    """Write the Hugging Face layout; what a person should know about the result, one line each.

    Raises:
        FileExistsError: `out` holds something that is not a model.
    """
    notes = []
    original = checkpoint.extras.get(_THEIR_CODEBOOK)
    if original is not None:
        found = unit_rows(original)
        notes.append(
            f"the codebook's rows had norms from {found.lowest:.4g} to {found.highest:.4g}; they are of unit norm in "
            "float32 here, so that transformers encodes images to the official codes where it loads them as float32 "
            "(decoding is unchanged)"
        )
    write_janus(out, checkpoint.tensors, checkpoint.config, checkpoint.processor, checkpoint.extras)
    return [*notes, *foreign_notes(checkpoint.config)]


def foreign_notes(config: JanusConfig) -> list[str]:
    """What a person should know before opening a model in transformers; nothing for a plain Janus."""
    foreign = foreign_parts(config)
    if not foreign:
        return []
    return [
        f"not a plain Hugging Face Janus: {'; '.join(foreign)}. config.json says model_type janus_forge, which "
        "transformers refuses; load_janus of Janus Forge opens it. LLM, adaptors, heads and tokenizer are those of a "
        "plain one"
    ]


def write_deepseek(checkpoint: Checkpoint, out: str | Path) -> list[str]:
    """Write DeepSeek's layout; what a person should know about the result, one line each.

    Raises:
        FileExistsError: `out` holds something that is not a model.
        ValueError: the model has parts that the layout cannot hold.
    """
    config, notes = checkpoint.config, []
    if foreign := foreign_parts(config):
        raise ValueError(f"DeepSeek's layout cannot hold this model: {'; '.join(foreign)}")
    extras = dict(checkpoint.extras)
    original = extras.pop(_THEIR_CODEBOOK, None)
    tensors = dict(checkpoint.tensors)
    if original is not None and torch.equal(unit_rows(original).rows, tensors[CODEBOOK]):
        tensors[CODEBOOK] = original
    converted = deepseek.tensors_to_deepseek(tensors, extras)
    if not extras:
        notes.append("SigLIP's pooling head and the codebook's usage counter, which Janus never uses, are zeros")
    if not deepseek.is_published_shape(config):
        notes.append("DeepSeek's own code builds SigLIP-L/16-384 and VQ-16 only and cannot open these sizes")
    with replace_folder(out) as staging:
        values = deepseek.config_to_deepseek(config, tensors["lm_head.weight"].dtype)
        _write_json(staging / "config.json", values)
        write_tensors(staging, converted)
        _write_deepseek_processor(checkpoint.processor, staging)
    return notes


def _write_deepseek_processor(processor: Processor, folder: Path) -> None:
    """The files that DeepSeek's VLChatProcessor reads."""
    tokenizer = processor.tokenizer
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token")}
    _write_json(folder / "special_tokens_map.json", special)
    settings = {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizerFast"}
    _write_json(folder / "tokenizer_config.json", special | settings)
    preprocessor = {
        "background_color": list(PAD),
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "VLMImageProcessor",
        "image_size": processor.image_size,
        "image_std": [0.5, 0.5, 0.5],
        "min_size": MIN_SIDE,
        "processor_class": "VLChatProcessor",
        "rescale_factor": 1 / 255,
    }
    _write_json(folder / "preprocessor_config.json", preprocessor)
    chat = {
        "add_special_token": False,
        "ignore_id": -100,
        "image_tag": tokenizer.image_token,
        "mask_prompt": True,
        "num_image_tokens": processor.understanding_tokens,
        "processor_class": "VLChatProcessor",
        "sft_format": "deepseek",
    }
    _write_json(folder / "processor_config.json", chat)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
