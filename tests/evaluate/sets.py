"""COCO-30K's and MJHQ-30K's files with a CLIP model and a toy Janus, and the command that measures sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.evaluate.test_run import main
from tests.evaluate.worlds import write_model
from tests.model.toy import toy_tokenizer

CATEGORIES = ("animals", "art")


def noise(seed: int, width: int = 40, height: int = 40) -> Image.Image:
    """A picture of soft blots, unlike others of other seeds."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(folder: Path, pictures: Mapping[str, Image.Image]) -> Path:
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder


def write_sets(folder: Path) -> Path:
    """All of it below a folder."""
    data = folder / "data"
    captions = [{"id": 7 * index, "image_id": index, "caption": f" thing {index}\n"} for index in range(6)]
    (data / "coco" / "annotations").mkdir(parents=True)
    (data / "coco" / "annotations" / "captions_val2014.json").write_text(json.dumps({"annotations": captions}))
    save(data / "coco" / "val2014", {f"COCO_val2014_{i:012d}.jpg": noise(100 + i, 40 + 3 * i, 50) for i in range(5)})
    about = {f"{c}{i}": {"category": c, "prompt": f"{c} {i}"} for c in CATEGORIES for i in range(3)}
    save(data / "mjhq30k" / "mjhq30k_imgs", {f"{one['category']}/{name}.jpg": noise(i, 64, 64)
         for i, (name, one) in enumerate(about.items())})  # fmt: skip
    (data / "mjhq30k" / "meta_data.json").write_text(json.dumps(about))
    write_clip(folder / "clip-toy")
    write_model(folder / "model")
    return folder


def write_clip(folder: Path) -> None:
    tokenizer = toy_tokenizer()
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**small, **text}, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    model = CLIPModel(config)
    for parameter in model.parameters():
        parameter.data *= 8  # so that pictures and texts differ
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)


def run(world: Path, out: str, name: str, *options: object, model: bool = True) -> Path:
    words = [*(("--model", world / "model") if model else ()), "--data", world / "data", "--out", world / out]
    words += ["--benchmarks", name, "--device", "cpu", "--batch-size", 2, "--cfg-scale", 2, *options]
    main([str(word) for word in words])
    return world / out
