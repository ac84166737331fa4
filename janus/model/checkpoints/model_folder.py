"""Model folders: the one reader of both layouts, and the writer of ours.

`hf` is the layout of transformers' `JanusForConditionalGeneration`, which is also ours; `deepseek` is the layout of
DeepSeek's own code and published weights. Every command reads either through `open_model`: configuration and tensors
come out under Hugging Face names, and what is wrong with a file is one line that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import GenerationConfig, JanusConfig, JanusVQVAEConfig, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from janus.model.checkpoints import deepseek
from janus.model.checkpoints.hub import local_folder
from janus.model.checkpoints.official_vq import to_hf_vq_name, vq_config
from janus.model.checkpoints.sums import read_sums
from janus.model.checkpoints.tensors import (
    WeightFiles,
    first_line,
    load_torch_file,
    read_json,
    read_tensor_file,
    replace_folder,
    write_tensors,
)
from janus.model.checkpoints.tokenizer import find_style, load_tokenizer
from janus.model.codebook import CODEBOOK, unit_rows
from janus.model.config import config_from_dict, foreign_parts
from janus.model.network import Janus
from janus.model.parts import vq_tokenizer
from janus.model.processor import Processor

VQ_PREFIX = deepseek.HF_VQ


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that is there; its parts are read when they are asked for.

    All properties and methods raise FileNotFoundError or ValueError with one line that names the file.
    """

    path: Path
    layout: Literal["hf", "deepseek"]

    @cached_property
    def config(self) -> JanusConfig:
        """The configuration, with all its sizes."""
        file = self.path / "config.json"
        values = read_json(file)
        if self.layout == "hf":
            return config_from_dict(values, where=str(file))
        # DeepSeek's file names SigLIP and VQ-16 instead of describing them: sizes are read off the tensors.
        words = self.tokenizer
        try:
            config = deepseek.config_to_hf(
                values,
                self._deepseek_tensors,
                image_token_id=words.convert_tokens_to_ids(words.image_token),
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        except Exception as error:  # whatever a field of another type leads to
            raise ValueError(f"{file}: not the configuration of a DeepSeek Janus: {first_line(error)}") from None
        if config.image_token_id >= config.text_config.vocab_size:
            raise ValueError(f"{self.path}: the embedding table has no row for the image placeholder")
        return config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer. One without an image placeholder (Janus-1.3B's) gets one."""
        return load_tokenizer(self.path)

    def processor(self, style: str | None = None) -> Processor:
        """Tokenizer, templates and image transforms.

        Args:
            style: chat style, a key of `templates.STYLES`; None finds it out (`find_style`).
        """
        config = self.config
        try:
            processor = Processor.from_config(
                config, self.tokenizer, style=style or find_style(self.path, self.tokenizer)
            )
        except ValueError as error:
            where = "" if str(self.path) in str(error) else f"{self.path / 'tokenizer.json'}: "
            raise ValueError(f"{where}{error}") from None
        size = config.text_config.vocab_size
        if max(processor.image_id, processor.boi_id, processor.eoi_id, processor.pad_id) >= size:
            raise ValueError(
                f"{self.path / 'tokenizer.json'}: has special tokens beyond the model's vocabulary of {size}"
            )
        return processor

    @cached_property
    def weights(self) -> WeightFiles:
        """The files of weights, with the names that are in them."""
        return WeightFiles(self.path)

    def tensors(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """The tensors whose Hugging Face name starts with `prefix`, in the type they are stored in.

        From DeepSeek's layout, a codebook that is not of unit norm comes normalised in float32 (`unit_rows`), as it is
        after an import.
        """
        if self.layout == "hf":
            return self.weights.read(name for name in self.weights.names if name.startswith(prefix))
        tensors = {name: tensor for name, tensor in self._deepseek_tensors.items() if name.startswith(prefix)}
        if CODEBOOK in tensors:
            tensors[CODEBOOK] = _unit_codebook(tensors[CODEBOOK])
        return tensors

    def extras(self) -> dict[str, torch.Tensor]:
        """Tensors, under DeepSeek's names, that only its layout holds; the codebook as it was, where it changed."""
        if self.layout == "hf":
            file = self.path / deepseek.EXTRAS_FILE
            if not file.is_file():
                return {}
            read_sums(self.path).check(file)
            return read_tensor_file(file)
        extras = dict(self._deepseek[1])
        stored = self._deepseek_tensors.get(CODEBOOK)
        if stored is not None and unit_rows(stored).changed:
            extras[deepseek.to_deepseek_name(CODEBOOK)] = stored
        return extras

    def build(self, device: torch.device | str = "cpu") -> Janus:
        """A Janus of this configuration with random weights."""
        config = self.config
        try:
            with torch.device(device):
                return Janus(config)
        except Exception as error:  # layers raise whatever sizes that do not fit each other lead to
            where = self.path / "config.json"
            raise ValueError(f"{where}: no Janus can be built from it: {first_line(error)}") from None

    def check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Compare names, shapes and kind of number of all `tensors` with what the configuration asks for."""
        # On the meta device: a configuration of other sizes must not take their memory.
        check_tensors(tensors, self.build("meta").state_dict(), where=str(self.weights.path))

    @cached_property
    def _deepseek(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        tensors = self.weights.read()
        try:
            return deepseek.tensors_to_hf(tensors)
        except ValueError as error:
            raise ValueError(f"{self.weights.path}: {error}") from None

    @property
    def _deepseek_tensors(self) -> dict[str, torch.Tensor]:
        return self._deepseek[0]


def _unit_codebook(stored: torch.Tensor) -> torch.Tensor:
    found = unit_rows(stored)
    return found.rows if found.changed else stored


def open_model(source: str | Path, *, weights: bool = True) -> ModelFolder:
    """The model folder `source` in either layout, or a hub id such as "deepseek-ai/Janus-Pro-1B".

    Args:
        source: a folder, or a hub id where no such folder exists.
        weights: fetch the weights of a hub id too. (DeepSeek's layout always needs them: they tell its sizes.)

    Raises FileNotFoundError or ValueError with one line if it is neither, or another model, or not what its SHA256SUMS
    says.
    """
    folder = local_folder(source, weights=weights)
    read_sums(folder).check_small()
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; a Janus model folder holds config.json beside its weights")
    if read_json(file).get("model_type") != deepseek.MODEL_TYPE:
        return ModelFolder(folder, "hf")
    return ModelFolder(local_folder(source, weights=True), "deepseek")


def load_processor(source: str | Path, *, style: str | None = None) -> Processor:
    """The processor of a model folder or hub id. Arguments and errors as of `ModelFolder.processor`."""
    return open_model(source, weights=False).processor(style)


def load_janus(
    source: str | Path,
    *,
    dtype: torch.dtype | Callable[[str], torch.dtype] = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[Janus, Processor]:
    """The model, in evaluation mode, and its processor, from a folder in either layout or a hub id.

    The VQ tokenizer keeps the type it is stored in whatever `dtype` says: no stage trains it, and a rounded one would
    make other codes than those a corpus was built with.

    Args:
        source: folder or hub id.
        dtype: of all other weights, or of each by its name.
        device: where to put the model.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, or the weights are not those of the configuration.
    """
    folder = open_model(source)
    processor = folder.processor()
    tensors = folder.tensors()
    folder.check(tensors)
    with no_init_weights():
        model = folder.build()
    # Not model.to(dtype): that would also round the rotary frequencies, which every precision keeps in float32.
    type_of = dtype if callable(dtype) else lambda name: dtype
    typed = {n: tensor if n.startswith(VQ_PREFIX) else tensor.to(type_of(n)) for n, tensor in tensors.items()}
    model.load_state_dict(typed, assign=True)
    return model.to(device).eval(), processor


def load_vq(
    source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *, image_size: int = 384
) -> nn.Module:
    """A VQ tokenizer and nothing else, frozen and in evaluation mode.

    Args:
        source: a Janus folder in either layout or a hub id, or LlamaGen's `vq_ds16_t2i.pt`.
        device: where to put it.
        dtype: fp32 by default: in bf16 one code in ten comes out different (docs/model.md).
        image_size: image side in pixels, for a LlamaGen file, which does not say (it fits any multiple of 16).

    Raises FileNotFoundError or ValueError with one line.
    """
    if Path(source).suffix == ".pt":
        vq = _llamagen_vq(Path(source), image_size)
    else:
        folder = open_model(source)
        tensors = folder.tensors(VQ_PREFIX)
        vq = _fill_vq(folder.config.vq_config, tensors, VQ_PREFIX, where=str(folder.weights.path), of="config.json")
    return vq.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _llamagen_vq(path: Path, image_size: int) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such VQ file or Janus folder")
    content = load_torch_file(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ValueError(f'{path}: no state dict under the key "model"; expected LlamaGen\'s vq_ds16_t2i.pt layout')
    tensors = {ours: tensor for name, tensor in state.items() if (ours := to_hf_vq_name(name)) is not None}
    config = vq_config(tensors, image_size=image_size, where=str(path))
    return _fill_vq(config, tensors, "", where=str(path), of="a VQ-16")


def _fill_vq(
    config: JanusVQVAEConfig, tensors: dict[str, torch.Tensor], prefix: str, *, where: str, of: str
) -> nn.Module:
    try:
        with torch.device("meta"):
            vq = vq_tokenizer(config)
    except Exception as error:
        raise ValueError(f"{where}: no VQ tokenizer can be built for it: {first_line(error)}") from None
    check_tensors(tensors, {prefix + name: tensor for name, tensor in vq.state_dict().items()}, where=where, of=of)
    vq.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, assign=True)
    return vq


def check_tensors(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, where: str, of: str = "config.json"
) -> None:
    """Compare names, shapes and kind of number.

    Args:
        found: the tensors of the file `where`.
        expected: those there should be, with any values.
        where: what to name in the message.
        of: what it is that they should belong to, for the message.

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
        if found[name].is_floating_point() != expected[name].is_floating_point():
            problems.append(f"{name} holds {str(found[name].dtype).removeprefix('torch.')}")
            break
    if problems:
        raise ValueError(f"{where}: the weights are not those of {of}: {'; '.join(problems)}")


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
            save_file(dict(extras), staging / deepseek.EXTRAS_FILE, metadata={"format": "pt"})


def generation_config(processor: Processor) -> GenerationConfig:
    """Generation settings that make transformers' `generate`, text and image, work after a reload.

    `generate(generation_mode="image")` reads the BOI id from `generation_kwargs` only, and transformers drops that on
    reload when the file says that it was derived from a model config: so the file says that it was not.
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
