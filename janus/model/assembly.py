"""A stage-1 starting point from parts: a language model, a vision encoder and a VQ tokenizer, joined by fresh adaptors.

Parts that are not given are random, in the preset's size: for tests, benchmarks, and training everything from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    JanusVisionConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from janus.model.checkpoints.model_folder import load_vq
from janus.model.checkpoints.sums import read_sums
from janus.model.checkpoints.tensors import WeightFiles, read_json
from janus.model.checkpoints.tokenizer import load_tokenizer
from janus.model.device import cast
from janus.model.network import MODULES, Janus
from janus.model.presets import find_preset, preset_config
from janus.model.processor import Processor

_SIGLIP_HEAD = "head."
_RANDOM = "random"


@dataclass(frozen=True)
class Origin:
    """One line of the card: a part of the model and where it came from."""

    part: str
    """Name in `janus.model.network.MODULES`."""
    parameters: int
    source: str
    """Folder or file, or how it was initialised."""
    note: str = ""


@dataclass(frozen=True)
class Assembly:
    """An assembled model."""

    model: Janus
    processor: Processor
    card: list[Origin]
    """In the order of `MODULES`."""
    added_tokens: list[str]
    """Special tokens that the language model's tokenizer did not have."""


@dataclass
class _Part:
    config: PretrainedConfig
    tensors: dict[str, torch.Tensor]
    source: str
    note: str = ""


def assemble(
    *,
    preset: str,
    llm: Path | None = None,
    vision: Path | None = None,
    vq: Path | None = None,
    tokenizer: Path | None = None,
    seed: int = 0,
) -> Assembly:
    """Join the parts.

    The language model keeps its weights; rows for new special tokens are drawn from the distribution of its embedding
    rows. The code embedding starts as the VQ codebook ("the codebook embeddings corresponding to each ID", paper
    section 3.1), adaptors and image head as random matrices. All weights get the widest type that a part comes in,
    but the VQ tokenizer stays in float32.

    Args:
        preset: sizes of the parts that are not given, and the chat style.
        llm: folder of any causal language model that `AutoModelForCausalLM` opens, with its tokenizer.
        vision: folder of a SigLIP (whole or vision tower) or of another image encoder `AutoModel` knows.
        vq: LlamaGen's `.pt` file, or a Janus folder to take the tokenizer of.
        tokenizer: folder of a tokenizer, when there is no `llm` to take it from.
        seed: of everything random.

    Raises:
        FileNotFoundError, ValueError: a part is missing or not what it should be.
    """
    folder = tokenizer or llm
    if folder is None:
        raise ValueError("no tokenizer: name a language model (--llm) or a tokenizer folder (--tokenizer)")
    read_sums(folder).check_small()
    words = load_tokenizer(folder, add_missing=True)
    llm_part = None if llm is None else _llm(llm)
    vision_part = None if vision is None else _vision(vision)
    side = vision_part.config.image_size if vision_part else find_preset(preset).vision.get("image_size", 384)
    vq_model = None if vq is None else load_vq(vq, image_size=side)
    config = preset_config(
        preset,
        image_token_id=words.convert_tokens_to_ids(words.image_token),
        tokenizer_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        text=llm_part and llm_part.config,
        vision=vision_part and vision_part.config,
        vq=None if vq_model is None else vq_model.config,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Janus(config)
        sources = {name: (_RANDOM, "") for name in MODULES}
        if llm_part:
            grown = _fill_llm(model, llm_part, seed)
            note = f"{grown} rows added" if grown else ""
            sources["llm"] = sources["text_head"] = (llm_part.source, note)
    if vision_part:
        _load(model.model.vision_model, vision_part.tensors, vision_part.source)
        sources["understanding_encoder"] = (vision_part.source, vision_part.note)
    if vq_model is not None:
        model.model.vqmodel.load_state_dict(vq_model.state_dict())
        sources["vq"] = (str(vq), "frozen in every stage")
    with torch.no_grad():
        model.model.generation_embeddings.weight.copy_(
            F.normalize(model.model.vqmodel.quantize.embedding.weight, dim=-1)
        )
    sources["code_embedding"] = ("the VQ codebook", "rows of unit norm")

    dtype = _widest([part.tensors for part in (llm_part, vision_part) if part])
    for part in MODULES.keys() - {"vq"}:
        cast(model.get_submodule(MODULES[part]), dtype)
    card = [Origin(name, _size(model, path), *sources[name]) for name, path in MODULES.items()]
    processor = Processor.from_config(config, words, style=find_preset(preset).style)
    return Assembly(model.eval(), processor, card, _added(folder, words))


def _llm(folder: Path) -> _Part:
    _need_config(folder)
    read_sums(folder).check_all()
    try:
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder}: not a causal language model: {str(error).splitlines()[0]}") from None
    if not hasattr(config, "vocab_size") or not hasattr(config, "hidden_size"):
        raise ValueError(f"{folder}: a {config.model_type} is not a plain language model")
    body, head = model.base_model, model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError(f"{folder}: its text head has a bias, which a Janus has no place for")
    tensors = {f"body.{name}": tensor for name, tensor in body.state_dict().items()}
    # A head tied to the embeddings becomes a matrix of its own: no Janus is tied.
    return _Part(config, tensors | {"head": head.weight.detach()}, str(folder))


def _fill_llm(model: Janus, part: _Part, seed: int) -> int:
    """Copy the language model in; how many rows of embeddings and text head it lacked."""
    embeddings = model.get_input_embeddings().weight
    have = part.tensors["head"].shape[0]
    lacking = len(embeddings) - have
    body = {name.removeprefix("body."): tensor for name, tensor in part.tensors.items() if name != "head"}
    table = next(name for name, tensor in model.model.language_model.named_parameters() if tensor is embeddings)
    generator = torch.Generator().manual_seed(seed)
    body[table] = _grow(body[table], lacking, generator)
    _load(model.model.language_model, body, part.source)
    _load(model.lm_head, {"weight": _grow(part.tensors["head"], lacking, generator)}, part.source)
    return lacking


def _grow(table: torch.Tensor, rows: int, generator: torch.Generator) -> torch.Tensor:
    """`table` with rows more, drawn from the mean and spread of each of its columns."""
    values = table.float()
    new = values.mean(0) + values.std(0) * torch.randn(rows, values.shape[1], generator=generator)
    return torch.cat([table, new.to(table.dtype)])


def _vision(folder: Path) -> _Part:
    values = read_json(folder / "config.json")
    read_sums(folder).check_all()
    if values.get("model_type") in ("siglip", "siglip_vision_model"):
        return _siglip(folder, values)
    try:
        config = AutoConfig.from_pretrained(folder)
        encoder = AutoModel.from_pretrained(folder, dtype="auto")
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder}: not an image encoder: {str(error).splitlines()[0]}") from None
    if not all(isinstance(getattr(config, name, None), int) for name in ("image_size", "patch_size", "hidden_size")):
        raise ValueError(f"{folder}: a {config.model_type} is not a plain image encoder on square patches")
    return _Part(config, encoder.state_dict(), str(folder), "opens in Janus Forge only")


def _siglip(folder: Path, values: dict) -> _Part:
    """SigLIP's vision tower under Janus's names.

    The activation becomes exact GELU, as in DeepSeek's code, where SigLIP was trained with the tanh approximation.
    """
    values = values.get("vision_config", values)
    tower = AutoConfig.for_model("siglip_vision_model", **{k: v for k, v in values.items() if k != "model_type"})
    config = JanusVisionConfig(
        hidden_size=tower.hidden_size,
        num_hidden_layers=tower.num_hidden_layers,
        num_attention_heads=tower.num_attention_heads,
        mlp_ratio=tower.intermediate_size / tower.hidden_size,
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        layer_norm_eps=tower.layer_norm_eps,
    )
    tensors = {}
    for name, tensor in WeightFiles(folder).read().items():
        ours = name.removeprefix("vision_model.").replace(".self_attn.out_proj.", ".self_attn.projection_layer.")
        if not ours.startswith((_SIGLIP_HEAD, "text_model.", "logit_")):
            tensors[ours] = tensor
    return _Part(config, tensors, str(folder), "SigLIP without its pooling head, exact GELU")


def _load(module: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        problems = " ".join(str(error).split())
        raise ValueError(f"{source}: the weights do not fit its config.json: {problems[:300]}") from None


def _need_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder / 'config.json'}: not found; expected a model folder")


def _widest(parts: list[dict[str, torch.Tensor]]) -> torch.dtype:
    dtypes = {tensor.dtype for tensors in parts for tensor in tensors.values() if tensor.is_floating_point()}
    return torch.float32 if len(dtypes) != 1 else dtypes.pop()


def _size(model: nn.Module, path: str) -> int:
    return sum(parameter.numel() for parameter in model.get_submodule(path).parameters())


def _added(folder: Path, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Tokens of `tokenizer` that the vocabulary in `folder` lacks, by id."""
    before = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    added = sorted(tokenizer.get_added_vocab().items(), key=lambda item: item[1])
    return [token for token, _ in added if token not in before]
