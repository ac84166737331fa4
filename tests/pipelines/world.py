"""A small world for the pipeline tests: a toy Janus, real picture files in real layouts, and specs over them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import JanusVisionConfig, JanusVQVAEConfig, LlamaConfig, PreTrainedTokenizerFast

from janus.model.config import PATCH_VQ, make_config
from janus.model.parts import vq_tokenizer
from janus.model.processor import SPECIAL_TOKENS, Processor
from schemas.spec import CorpusSpec

SIDE, GRID, CODES = 32, 4, 64
TOY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""A model config of open_clip."""


def make_model(folder: Path, *, side: int = SIDE, grid: int = GRID) -> Path:
    """A Janus folder with what a corpus needs: config, byte tokenizer, VQ weights. Images of grid * grid tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)
    config = make_config(
        text=LlamaConfig(
            vocab_size=264, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
        ),
        vision=JanusVisionConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=side, patch_size=side // grid
        ),
        vq=JanusVQVAEConfig(
            architecture=PATCH_VQ, patch_size=side // grid, num_patches=grid, embed_dim=8, num_embeddings=CODES,
            base_channels=32, latent_channels=32,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS["image_token"]),
    )  # fmt: skip
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    Processor.from_config(config, tokenizer, style="janus").save(folder)
    torch.manual_seed(0)
    vq = vq_tokenizer(config.vq_config)
    tensors = {f"model.vqmodel.{name}": torch.randn_like(tensor) for name, tensor in vq.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


def make_clip(folder: Path) -> dict[str, str]:
    """A toy open_clip model of random weights, from a JSON config and safetensors: options of the caption score."""
    import open_clip

    (folder / "toy-clip.json").write_text(json.dumps(TOY_CLIP))
    open_clip.add_model_config(folder / "toy-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("toy-clip")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "w.safetensors")
    return {"model": str(folder / "toy-clip.json"), "pretrained": str(folder / "w.safetensors")}


def scores_by_hand(clip: dict[str, str], images: list[Image.Image], captions: list[str]) -> list[float]:
    """Cosines of a toy model's embeddings of image and caption, one pair at a time."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms("toy-clip", pretrained=clip["pretrained"])
    tokenize = open_clip.get_tokenizer("toy-clip")
    values = []
    with torch.inference_mode():
        for image, caption in zip(images, captions, strict=True):
            one = model.eval().encode_image(preprocess(image).unsqueeze(0))[0]
            other = model.encode_text(tokenize([caption]))[0]
            values.append(torch.nn.functional.cosine_similarity(one, other, dim=0).item())
    return values


def picture(seed: object, width: int = 48, height: int = 40) -> Image.Image:
    """A picture that is a function of `seed` alone: smooth enough for JPEG, different enough for a perceptual hash."""
    numbers = np.frombuffer(hashlib.shake_256(repr(seed).encode()).digest(192), dtype=np.uint8)
    small = Image.fromarray(numbers.reshape(8, 8, 3))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def image_folder(root: Path, names: list[Any], *, width: int = 48, height: int = 40, caption: str = "") -> Path:
    """A folder of JPEG files with captions.jsonl. The file's name is its seed."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:
        picture(name, width, height).save(root / f"{name}.jpg", quality=90)
        text = caption or f"A picture with the number {name}. It has many colours."
        lines.append(json.dumps({"image": f"{name}.jpg", "caption": text}))
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return root


def spec(model: Path, sources: list[dict[str, Any]], **settings: Any) -> CorpusSpec:
    """A spec with small shards."""
    return CorpusSpec.model_validate(
        {"name": "test", "stage": 2, "models": {"janus": str(model)}, "shard_rows": 8, "sources": sources} | settings
    )


def folder_source(path: Path, name: str = "photos", task: str = "generation", **settings: Any) -> dict[str, Any]:
    """An image_folder source."""
    return {"name": name, "format": "image_folder", "path": str(path), "task": task} | settings


def contents(corpus: Path) -> dict[str, str]:
    """Relative path to digest of every file of a corpus that is meant to last."""
    return {
        path.relative_to(corpus).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(corpus.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
