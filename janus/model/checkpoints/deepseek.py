"""DeepSeek's checkpoint layout (`multi_modality`): names, tensors and configuration, both ways.

The tensors are the same numbers under other names; only SigLIP's fused qkv and its position table change shape. Two
things have no place in the Hugging Face layout: SigLIP's pooling head (13 tensors, stored but never used by Janus) and
the quantiser's `codebook_used` counter. They are kept beside the weights in `EXTRAS_FILE`, so that a DeepSeek folder
comes back byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import JanusConfig, JanusVisionConfig, LlamaConfig

from janus.model.checkpoints.official_vq import COUNTER, COUNTER_SIZE, to_hf_vq_name, to_official_vq_name, vq_config
from janus.model.config import make_config

HF_VQ = "model.vqmodel."
"""Where the VQ tokenizer's tensors are in the Hugging Face layout."""

EXTRAS_FILE = "deepseek_extras.safetensors"
"""Beside the weights of an imported folder: tensors, under DeepSeek's names, that the other layout has no place for."""
MODEL_TYPE = "multi_modality"

_TOWER = "vision_model.vision_tower."
_BLOCKS, _HF_BLOCKS = f"{_TOWER}blocks.", "model.vision_model.encoder.layers."
_POOL = f"{_TOWER}attn_pool."
_VQ = "gen_vision_model."
_POSITIONS, _HF_POSITIONS = f"{_TOWER}pos_embed", "model.vision_model.embeddings.position_embedding.weight"

_PREFIXES = (
    (_POSITIONS, _HF_POSITIONS),
    (f"{_TOWER}patch_embed.proj.", "model.vision_model.embeddings.patch_embedding."),
    (_BLOCKS, _HF_BLOCKS),
    (f"{_TOWER}norm.", "model.vision_model.post_layernorm."),
    ("aligner.layers.0.", "model.aligner.fc1."),
    ("aligner.layers.2.", "model.aligner.hidden_layers.0."),
    (_VQ, HF_VQ),
    ("gen_aligner.layers.0.", "model.generation_aligner.fc1."),
    ("gen_aligner.layers.2.", "model.generation_aligner.hidden_layers.0."),
    ("gen_embed.", "model.generation_embeddings."),
    ("gen_head.output_mlp_projector.", "model.generation_head.proj_out."),
    ("gen_head.vision_head.", "model.generation_head.vision_head."),
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
)
_IN_BLOCK = (
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.proj.", ".self_attn.projection_layer."),
    (".attn.", ".self_attn."),
)
_QKV = ("q_proj", "k_proj", "v_proj")


def to_hf_name(name: str) -> str | None:
    """The Hugging Face name of a DeepSeek tensor (a fused one keeps the word `qkv`), None for an extra.

    Raises:
        ValueError: no DeepSeek Janus has such a tensor.
    """
    if name.startswith(_POOL):
        return None
    if name.startswith(_VQ):
        ours = to_hf_vq_name(name.removeprefix(_VQ))
        return None if ours is None else HF_VQ + ours
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            if theirs == _BLOCKS:
                for old, new in _IN_BLOCK:
                    rest = rest.replace(old, new)
            return ours + rest
    raise ValueError(f"tensor {name}: not part of a DeepSeek Janus")


def to_deepseek_name(name: str) -> str:
    """The inverse of `to_hf_name`.

    Raises:
        ValueError: no plain Janus has such a tensor.
    """
    for theirs, ours in _PREFIXES:
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            if theirs == _BLOCKS:
                for new, old in _IN_BLOCK:
                    rest = rest.replace(old, new)
            return theirs + (to_official_vq_name(rest) if theirs == _VQ else rest)
    raise ValueError(f"tensor {name}: DeepSeek's layout has no place for it")


def tensors_to_hf(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Hugging Face tensors, and the extras under their own names.

    Raises:
        ValueError: a tensor that no DeepSeek Janus has.
    """
    converted: dict[str, torch.Tensor] = {}
    extras: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        hf_name = to_hf_name(name)
        if hf_name is None:
            extras[name] = tensor
        elif ".qkv." in hf_name:
            for part, piece in zip(_QKV, tensor.chunk(3), strict=True):
                converted[hf_name.replace(".qkv.", f".{part}.")] = piece.clone()  # safetensors refuses views
        else:
            converted[hf_name] = tensor.squeeze(0) if name == _POSITIONS else tensor
    return converted, extras


def tensors_to_deepseek(
    tensors: Mapping[str, torch.Tensor], extras: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """DeepSeek's tensors. Extras that are not given are written as zeros: nothing reads them, but a strict load asks.

    Raises:
        ValueError: a tensor that DeepSeek's layout has no place for.
    """
    converted: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_HF_BLOCKS) and any(f".{part}." in name for part in _QKV):
            if ".q_proj." in name:
                fused = [tensors[name.replace(".q_proj.", f".{part}.")] for part in _QKV]
                converted[to_deepseek_name(name.replace(".q_proj.", ".qkv."))] = torch.cat(fused)
            continue
        converted[to_deepseek_name(name)] = tensor.unsqueeze(0) if name == _HF_POSITIONS else tensor
    return converted | _unused(converted) | dict(extras)


def _unused(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zeros for what DeepSeek's modules hold but Janus never uses: timm's attention pooling and the usage counter."""
    norm = tensors[f"{_TOWER}norm.weight"]
    width, inner = norm.numel(), tensors[f"{_BLOCKS}0.mlp.fc1.weight"].shape[0]
    shapes = {
        "latent": (1, 1, width),
        "q.weight": (width, width),
        "q.bias": (width,),
        "kv.weight": (2 * width, width),
        "kv.bias": (2 * width,),
        "proj.weight": (width, width),
        "proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "mlp.fc1.weight": (inner, width),
        "mlp.fc1.bias": (inner,),
        "mlp.fc2.weight": (width, inner),
        "mlp.fc2.bias": (width,),
    }
    unused = {_POOL + name: norm.new_zeros(shape) for name, shape in shapes.items()}
    unused[_VQ + COUNTER] = norm.new_zeros(COUNTER_SIZE)
    return unused


def config_to_hf(
    values: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    *,
    image_token_id: int,
    bos_token_id: int,
    eos_token_id: int,
    pad_token_id: int,
) -> JanusConfig:
    """Our configuration from DeepSeek's `config.json` and its tensors under Hugging Face names.

    Sizes are read off the tensors where they show there; DeepSeek's file names SigLIP and VQ-16 instead of describing
    them.

    Raises:
        ValueError: a field or tensor is missing, or the LLM is not a Llama.
    """
    try:
        language = dict(values["language_config"])
        vision = values["vision_config"]["params"]
        patch = tensors["model.vision_model.embeddings.patch_embedding.weight"]
        inner = tensors[f"{_HF_BLOCKS}0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"not a DeepSeek Janus: {error} is missing") from None
    if language.get("model_type", "llama") != "llama":
        raise ValueError(f"language_config.model_type is {language['model_type']!r}, expected 'llama'")
    language |= {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
    vq_tensors = {name.removeprefix(HF_VQ): tensor for name, tensor in tensors.items() if name.startswith(HF_VQ)}
    return make_config(
        text=LlamaConfig(**{key: value for key, value in language.items() if key != "model_type"}),
        vision=JanusVisionConfig(
            hidden_size=patch.shape[0],
            patch_size=patch.shape[-1],
            image_size=vision["image_size"],
            num_hidden_layers=1 + max(int(name.split(".")[4]) for name in tensors if name.startswith(_HF_BLOCKS)),
            num_attention_heads=vision.get("heads", 16),  # of both SigLIP sizes that the official code knows
            mlp_ratio=inner / patch.shape[0],
        ),
        vq=vq_config(vq_tensors, image_size=vision["image_size"], where="gen_vision_model"),
        image_token_id=image_token_id,
    )


def config_to_deepseek(config: JanusConfig, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSeek's `config.json` for a plain Janus on a Llama.

    Raises:
        ValueError: the LLM is not a Llama.
    """
    text, vision, vq = config.text_config, config.vision_config, config.vq_config
    if text.model_type != "llama":
        raise ValueError(f"the LLM is a {text.model_type}; DeepSeek's layout holds Llama models only")
    language = text.to_dict()
    rope = language.pop("rope_parameters", None) or {}
    # The older transformers that DeepSeek's code needs writes the rotary settings this way.
    language["rope_theta"] = rope.get("rope_theta", 10000.0)
    if rope.get("rope_type", "default") != "default":
        language["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    language["torch_dtype"] = language.pop("dtype", None) or str(dtype).removeprefix("torch.")

    def projector(inputs: int) -> dict[str, Any]:
        params = {"depth": 2, "input_dim": inputs, "n_embed": text.hidden_size, "projector_type": "mlp_gelu"}
        return {"cls": "MlpProjector", "params": params}

    vision_params = {
        "image_size": vision.image_size,
        "model_name": "siglip_large_patch16_384",
        "select_feature": "same",
        "select_layer": -1,
    }
    if not is_published_shape(config):
        vision_params["heads"] = vision.num_attention_heads
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": MODEL_TYPE,
        "torch_dtype": language["torch_dtype"],
        "aligner_config": {"model_type": "aligner", **projector(vision.hidden_size)},
        "gen_aligner_config": {"model_type": "gen_aligner", **projector(vq.embed_dim)},
        "gen_head_config": {
            "model_type": "gen_head",
            "cls": "vision_head",
            "params": {
                "image_token_embed": vq.projection_dim,
                "image_token_size": vq.num_embeddings,
                "n_embed": text.hidden_size,
            },
        },
        "gen_vision_config": {
            "model_type": "gen_vision",
            "cls": "VQ-16",
            "params": {"image_token_size": vq.num_embeddings, "n_embed": vq.embed_dim},
        },
        "vision_config": {"model_type": "vision", "cls": "CLIPVisionTower", "params": vision_params},
        "language_config": language,
    }


def is_published_shape(config: JanusConfig) -> bool:
    """Whether SigLIP and VQ are the sizes that DeepSeek's own code can build: SigLIP-L/16-384 and VQ-16."""
    published = JanusConfig()
    vision = ("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "image_size", "patch_size")
    vq = ("embed_dim", "num_embeddings", "latent_channels", "base_channels", "num_res_blocks")
    return all(
        getattr(config.vision_config, name) == getattr(published.vision_config, name) for name in vision
    ) and all(getattr(config.vq_config, name) == getattr(published.vq_config, name) for name in vq)
