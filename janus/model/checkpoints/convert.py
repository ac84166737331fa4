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
from janus.model.checkpoints.model_folder import check_tensors, write_janus
from janus.model.checkpoints.tensors import read_json, read_tensor_file, read_tensors, replace_folder, write_tensors
from janus.model.codebook import CODEBOOK, unit_rows
from janus.model.config import config_from_dict, foreign_parts
from janus.model.parts import build
from janus.model.pixels import MIN_SIDE, PAD
from janus.model.processor import Processor, load_tokenizer
from janus.model.templates import STYLES

_THEIR_CODEBOOK = deepseek.to_deepseek_name(CODEBOOK)


@dataclass
class Checkpoint:
    """A model folder in memory, under Hugging Face names."""

    tensors: dict[str, torch.Tensor]
    config: JanusConfig
    processor: Processor
    extras: dict[str, torch.Tensor] = field(default_factory=dict)
    """Tensors under DeepSeek's names that only its layout holds."""


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a folder in either layout and check that its weights are those of its configuration.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, of another model, or does not fit the others.
    """
    folder = Path(folder)
    values = read_json(folder / "config.json")
    read = _read_deepseek if values.get("model_type") == deepseek.MODEL_TYPE else _read_hf
    checkpoint = read(folder, values)
    with torch.device("meta"):
        expected = build(checkpoint.config).state_dict()
    check_tensors(checkpoint.tensors, expected, where=str(folder))
    return checkpoint


def _read_hf(folder: Path, values: dict[str, Any]) -> Checkpoint:
    config = config_from_dict(values, where=str(folder / "config.json"))
    extras = folder / deepseek.EXTRAS_FILE
    return Checkpoint(
        tensors=read_tensors(folder),
        config=config,
        processor=Processor.from_folder(folder),
        extras=read_tensor_file(extras) if extras.is_file() else {},
    )


def _read_deepseek(folder: Path, values: dict[str, Any]) -> Checkpoint:
    tokenizer = load_tokenizer(folder)
    try:
        tensors, extras = deepseek.tensors_to_hf(read_tensors(folder))
        config = deepseek.config_to_hf(
            values,
            tensors,
            image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.image_token),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        # Only Janus-Pro's tokenizer has its speakers' names as tokens; the folder itself does not say which it is.
        style = "janus-pro" if STYLES["janus-pro"].user in tokenizer.get_added_vocab() else "janus"
        processor = Processor.from_config(config, tokenizer, style=style)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    if config.image_token_id >= config.text_config.vocab_size:
        raise ValueError(f"{folder}: the embedding table has no row for the image placeholder")
    return Checkpoint(tensors, config, processor, extras)


def write_hf(checkpoint: Checkpoint, out: str | Path) -> list[str]:
    """Write the Hugging Face layout; what a person should know about the result, one line each.

    Codebook rows that are not of unit norm are normalised, so that transformers' own `encode` gives the official codes;
    the original is kept among the extras.

    Raises:
        FileExistsError: `out` holds something that is not a model.
    """
    notes = []
    tensors, extras = dict(checkpoint.tensors), dict(checkpoint.extras)
    if CODEBOOK in tensors:
        found = unit_rows(tensors[CODEBOOK])
        if found.changed:
            extras.setdefault(_THEIR_CODEBOOK, tensors[CODEBOOK])
            tensors[CODEBOOK] = found.rows
            notes.append(
                f"the codebook's rows had norms from {found.lowest:.4g} to {found.highest:.4g}; they are now of unit "
                "norm, so that transformers encodes images to the official codes (decoding is unchanged)"
            )
    write_janus(out, tensors, checkpoint.config, checkpoint.processor, extras)
    if foreign := foreign_parts(checkpoint.config):
        notes.append(
            f"not a plain Hugging Face Janus: {' and '.join(foreign)}. It opens with Janus Forge; "
            "JanusForConditionalGeneration cannot open it"
        )
    return notes


def write_deepseek(checkpoint: Checkpoint, out: str | Path) -> list[str]:
    """Write DeepSeek's layout; what a person should know about the result, one line each.

    Raises:
        FileExistsError: `out` holds something that is not a model.
        ValueError: the model has parts that the layout cannot hold.
    """
    config, notes = checkpoint.config, []
    if foreign := foreign_parts(config):
        raise ValueError(f"DeepSeek's layout cannot hold this model: {' and '.join(foreign)}")
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
