"""Model folders: a Hugging Face Janus (config, safetensors, processor files), read into our network and written back.

Weights pass through untouched: what is loaded and saved again is byte-identical. Layout changes and repairs (DeepSeek's
names, a codebook that is not of unit norm) belong to `janus.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, JanusConfig
from transformers.initialization import no_init_weights

from janus.model.checkpoints.deepseek import EXTRAS_FILE
from janus.model.checkpoints.tensors import read_tensors, replace_folder, write_tensors
from janus.model.config import foreign_parts, read_config
from janus.model.network import Janus
from janus.model.parts import build
from janus.model.processor import Processor
from janus.model.vq import PREFIX as VQ_PREFIX


def load_janus(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Janus, Processor]:
    """The model, in evaluation mode, and its processor from a folder in the Hugging Face layout.

    The VQ tokenizer keeps the type it is stored in whatever `dtype` says: no stage trains it, and a rounded one would
    make other codes than those a corpus was built with.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, or the weights are not those of the configuration.
    """
    config = read_config(folder)
    processor = Processor.from_folder(folder)
    with no_init_weights():
        model = build(config)
    tensors = read_tensors(folder)
    check_tensors(tensors, model.state_dict(), where=str(folder))
    # Not model.to(dtype): that would also round the rotary frequencies, which every precision keeps in float32.
    typed = {name: tensor if name.startswith(VQ_PREFIX) else tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(typed, assign=True)
    return model.to(device).eval(), processor


def save_janus(folder: str | Path, model: Janus, processor: Processor) -> None:
    """Write `model` and `processor` as a Hugging Face Janus folder, whole or not at all.

    Raises:
        FileExistsError: `folder` holds something that is not a model.
    """
    write_janus(folder, model.state_dict(), model.config, processor)


def write_janus(
    folder: str | Path,
    tensors: Mapping[str, torch.Tensor],
    config: JanusConfig,
    processor: Processor,
    extras: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """As `save_janus`, from a full state dict: for callers whose model is sharded, or was never built.

    `extras` are tensors that only DeepSeek's layout holds; they are kept in a file of their own.
    """
    with replace_folder(folder) as staging:
        config.dtype = tensors["lm_head.weight"].dtype
        config.architectures = ["Janus" if foreign_parts(config) else "JanusForConditionalGeneration"]
        config.save_pretrained(staging)
        generation_config(processor).save_pretrained(staging)
        processor.save(staging)
        write_tensors(staging, tensors)
        if extras:
            save_file(dict(extras), staging / EXTRAS_FILE, metadata={"format": "pt"})


def generation_config(processor: Processor) -> GenerationConfig:
    """Generation settings that make transformers' `generate`, text and image, work after a reload.

    `generate(generation_mode="image")` reads the BOI id from `generation_kwargs` only, and transformers drops that on
    reload when the file says that it was derived from a model config.
    """
    settings = GenerationConfig(
        bos_token_id=processor.bos_id,
        eos_token_id=processor.eos_id,
        pad_token_id=processor.pad_id,
        guidance_scale=5.0,
        generation_kwargs={"boi_token_id": processor.boi_id},
    )
    settings._from_model_config = False
    return settings


def check_tensors(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Compare names and shapes.

    Raises:
        ValueError: in one line, what is missing, unexpected or of another shape.
    """
    problems = []
    for label, names in (("missing", expected.keys() - found.keys()), ("unexpected", found.keys() - expected.keys())):
        if names:
            problems.append(f"{len(names)} {label} (first: {min(names)})")
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
            problems.append(f"{name} has shape {shapes}")
            break
    if problems:
        raise ValueError(f"{where}: the weights are not those of config.json: {'; '.join(problems)}")
