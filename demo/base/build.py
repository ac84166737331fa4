"""Builds and keeps the base models: `<out>/janus`, where stage 1 starts, and `<out>/clip`, which scores captions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from demo.base import clip, data, llm, tokenizer, vq
from demo.dependencies import Checkout
from janus.model.checkpoints.model_folder import save_janus
from janus.model.network import Janus
from janus.model.presets import preset_config
from janus.model.processor import Processor
from janus.model.templates import DESCRIBE, STYLES, TURN_END
from schemas.digest import digest
from schemas.files import atomic_folder

CLIP_PICTURES = 8000
TOKENIZER_TEXTS = 500
PROMPTS = {"yes_no": "{question}", "choice": "{question}\n{options}", "short": "{question}"}
MAX_NEW_TOKENS = 16
RECORD = "base.json"
"""What the folder was made from; written last."""


def base_digest(seed: int) -> str:
    """Names the base models that this code fits with this seed, on this version of torch."""
    return digest({"code": Checkout().code_digest(__name__), "seed": seed, "torch": torch.__version__})


def build_base(out: Path, seed: int, console: Console) -> bool:
    """Fit all base models and write them to `out`, unless they are there already. Returns whether they were fitted.

    The folder appears whole or not at all. Raises ValueError if `out` holds anything but base models.
    """
    made_from = {"digest": base_digest(seed), "seed": seed}
    record = out / RECORD
    if record.is_file() and json.loads(record.read_text()) == made_from:
        return False
    if out.exists() and not record.is_file() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty and no base models in it; give another --out")
    torch.set_num_threads(os.cpu_count() or 1)
    model, processor, scorer = fit(seed, console)
    with atomic_folder(out) as unfinished:
        save_janus(unfinished / "janus", model, processor)
        clip.save_clip(unfinished / "clip", scorer)
        (unfinished / RECORD).write_text(json.dumps(made_from))
    return True


def fit(seed: int, console: Console) -> tuple[Janus, Processor, torch.nn.Module]:
    """A Janus whose encoder, VQ tokenizer and LLM are fitted and whose other parts are random, and the scorer."""
    with Progress(
        TextColumn("{task.description:<22}"), BarColumn(), TextColumn("{task.fields[note]:<12}"), TimeElapsedColumn(),
        console=console,
    ) as progress:  # fmt: skip

        def bar(name: str, steps: int) -> Callable[[float], None]:
            task = progress.add_task(name, total=steps, note="")
            return lambda loss: progress.update(task, advance=1, note=f"loss {loss:.3f}")

        words = tokenizer.fit_tokenizer(tokenizer_texts(seed))
        ids = {
            name: getattr(words, name) for name in ("image_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
        }
        config = preset_config("tiny", tokenizer_size=len(words), **ids)
        torch.manual_seed(seed)
        model = Janus(config)
        processor = Processor.from_config(config, words, style="janus")

        pictures = data.pictures(seed, CLIP_PICTURES)
        done = bar("VQ tokenizer", 1)
        model.model.vqmodel = vq.fit_vq(pictures, config.vq_config, seed)
        # The generation path starts from the tokenizer's own code vectors.
        model.model.generation_embeddings.weight.data.copy_(model.model.vqmodel.quantize.embedding.weight)
        done(0.0)
        scorer = clip.fit_clip(pictures, data.captions(seed, CLIP_PICTURES), seed, bar("open_clip model", clip.STEPS))
        model.model.vision_model.load_state_dict(clip.understanding_weights(scorer))
        llm.fit_llm(model, processor, seed, bar("language model", llm.STEPS))
    # How stage 3 puts questions to it: janus.evaluate asks in the same words.
    model.config.evaluation = {"prompts": PROMPTS, "max_new_tokens": MAX_NEW_TOKENS}
    return model.eval(), processor, scorer


def tokenizer_texts(seed: int) -> chain[str]:
    """What the tokenizer is fitted to: documents, conversations in the chat template, and the describe prompt."""
    speakers = STYLES["janus"]
    chats = (
        f"{speakers.user}: {turn.text}{TURN_END}{speakers.assistant}: {turn.answer}"
        for turns in data.conversations(seed, TOKENIZER_TEXTS)
        for turn in turns
    )
    return chain(data.documents(seed, TOKENIZER_TEXTS), chats, [DESCRIBE] * TOKENIZER_TEXTS)
