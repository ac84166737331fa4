"""The processor: tokenizer, templates and image transforms of one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import JanusConfig, PreTrainedTokenizerFast

from janus.model import pixels
from janus.model.templates import STYLES, Style, chat_template
from janus.model.user_text import UserText

# DeepSeek's names of the special tokens; a folder's own, in tokenizer_config.json, come first.
SPECIAL_TOKENS = {
    "bos_token": "<｜begin▁of▁sentence｜>",
    "eos_token": "<｜end▁of▁sentence｜>",
    "pad_token": "<｜▁pad▁｜>",
    "boi_token": "<begin_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_placeholder>",
}


class Processor:
    """What turns text and pictures into a model's input, and its output back.

    Token ids always come from the tokenizer: they differ between Janus-1.3B, Janus-Pro-1B and Janus-Pro-7B.

    Attributes:
        tokenizer: the tokenizer, exactly as its tokenizer.json says.
        bos_id, eos_id, pad_id, boi_id, eoi_id, image_id: ids of the special tokens.
        image_size: side of both kinds of image, pixels.
        understanding_tokens: image tokens per understanding image.
        generation_tokens: codes per generated image.
        style: key of `templates.STYLES`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        image_size: int,
        understanding_tokens: int,
        generation_tokens: int,
        style: str,
    ) -> None:
        """Raises ValueError if the tokenizer lacks a special token or the style is unknown."""
        if style not in STYLES:
            raise ValueError(f"chat style {style!r}: expected one of {', '.join(STYLES)}")
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.understanding_tokens = understanding_tokens
        self.generation_tokens = generation_tokens
        self.style = style
        self.bos_id, self.eos_id, self.pad_id, self.boi_id, self.eoi_id, self.image_id = (
            _special_id(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad", "boi", "eoi", "image")
        )
        names = [getattr(tokenizer, name) for name in SPECIAL_TOKENS]
        speakers = [name for name in (self.speakers.user, self.speakers.assistant) if self.token_id(name) is not None]
        self._user_text = UserText(tokenizer.backend_tokenizer, [*names, *speakers])

    @classmethod
    def from_config(cls, config: JanusConfig, tokenizer: PreTrainedTokenizerFast, *, style: str) -> Processor:
        """The processor of a model with this configuration."""
        return cls(
            tokenizer,
            image_size=config.vision_config.image_size,
            understanding_tokens=config.vision_config.num_image_tokens,
            generation_tokens=config.vq_config.num_patches**2,
            style=style,
        )

    @property
    def speakers(self) -> Style:
        """Names of user and assistant in the chat template."""
        return STYLES[self.style]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without BOS or EOS. Special tokens written out in `text` stay text."""
        return self._user_text.encode(text)

    def decode(self, ids: list[int] | torch.Tensor) -> str:
        """Text of `ids`, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def token_id(self, token: str) -> int | None:
        """Id of `token` if it is one added token of the vocabulary."""
        return self.tokenizer.get_added_vocab().get(token)

    def understanding_pixels(self, image: Image.Image) -> np.ndarray:
        """uint8[S, S, 3] for the understanding encoder; see `janus.model.pixels`."""
        return pixels.understanding_pixels(image, self.image_size)

    def generation_pixels(self, image: Image.Image) -> np.ndarray:
        """uint8[S, S, 3] for the VQ tokenizer; see `janus.model.pixels`."""
        return pixels.generation_pixels(image, self.image_size)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """uint8[N, S, S, 3] to float32[N, 3, S, S] in [-1, 1]."""
        return pixels.normalize(images)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer, chat template and processor files that `transformers`' JanusProcessor reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.chat_template = chat_template(
            self.speakers, image_token=self._token("image"), eos_token=self._token("eos")
        )
        self.tokenizer.save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps(self._files_content(), indent=2) + "\n")

    def tokenizer_identity(self) -> dict[str, Any]:
        """What decides token ids and loss masks, for fingerprints."""
        content = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # Run-time settings of the tokenizer object, not part of what it is.
        content.pop("padding", None)
        content.pop("truncation", None)
        ids = [self.bos_id, self.eos_id, self.pad_id, self.boi_id, self.eoi_id, self.image_id]
        return {"version": 2, "tokenizer": content, "special_ids": ids, "style": self.style}

    def image_identity(self) -> dict[str, Any]:
        """What decides pixels, for fingerprints."""
        return {
            "version": 1,
            "size": self.image_size,
            "understanding": ["long side, rounded down", "bicubic", pixels.PAD, pixels.MIN_SIDE],
            "generation": ["short side, rounded down", "bicubic", "centre crop"],
        }

    def _token(self, name: str) -> str:
        return getattr(self.tokenizer, f"{name}_token")

    def _files_content(self) -> dict[str, Any]:
        return {
            "image_processor": {
                "background_color": list(pixels.PAD),
                "do_normalize": True,
                "do_pad": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "JanusImageProcessor",
                "image_std": [0.5, 0.5, 0.5],
                "min_size": pixels.MIN_SIDE,
                "resample": int(Image.Resampling.BICUBIC),
                "rescale_factor": 1 / 255,
                "size": {"height": self.image_size, "width": self.image_size},
            },
            "num_image_tokens": self.understanding_tokens,
            "processor_class": "JanusProcessor",
            "use_default_system_prompt": False,
        }


def _special_id(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    token = getattr(tokenizer, name, None)
    number = None if token is None else tokenizer.get_vocab().get(str(token))
    if number is None:
        raise ValueError(f"the tokenizer has no {name}; janus.assemble adds what a language model's tokenizer lacks")
    return number
