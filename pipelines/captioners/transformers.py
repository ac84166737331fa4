"""Any model folder that transformers opens as image-text-to-text: LLaVA, Qwen-VL, BLIP, a Janus ...

Pictures are described one at a time, so that an answer depends on no other row. Where that is too slow, serve the model
with vLLM or SGLang and use the captioner `openai`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.captioners import Answer, Asked, Sampling
from pipelines.captioners import Options as Base
from pipelines.models.fingerprints import folder_digest, model_folder
from pipelines.signals import Device
from pipelines.steps.device import reproducible
from schemas.spec import Precision

VERSION = 1
OPERATIONAL = ()


class Options(Base):
    """Which model."""

    model: str
    """Its folder, with safetensors; or a hub id, fetched into the usual cache."""
    precision: Precision = "fp32"


def fingerprint(options: Options) -> dict[str, str]:
    """A digest of the files of the model's folder. Raises FileNotFoundError with one line."""
    folder = model_folder(options.model)
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"model: {folder}: no .safetensors file in it")
    return {"model": folder_digest(folder)}


class Captioner:
    """A loaded model."""

    at_once = 16

    def __init__(self, options: Options, sampling: Sampling, device: Device) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = model_folder(options.model)
        self._sampling, self._device, self._precision = sampling, device.name, options.precision
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
            line = str(error).strip().splitlines()[0]
            raise ValueError(f"{folder}: not a model that transformers opens as image-text-to-text: {line}") from None
        self._model.eval().to(device.name)

    def describe(self, asked: Sequence[Asked], done: Callable[[int, Answer], None]) -> None:
        """Describe one picture after the other."""
        for index, one in enumerate(asked):
            done(index, self._answer(one))

    def _answer(self, asked: Asked) -> Answer:
        import torch

        inputs = self._inputs(asked).to(self._device)
        length = inputs["input_ids"].shape[1]
        how: dict[str, Any] = {"do_sample": False}
        if self._sampling.temperature:
            torch.manual_seed(asked.seed)
            how = {"do_sample": True, "temperature": self._sampling.temperature, "top_p": self._sampling.top_p}
        with reproducible(self._precision, self._device):
            tokens = self._model.generate(**inputs, max_new_tokens=self._sampling.max_tokens, **how)[0]
        # Encoder-decoder models answer without the prompt.
        new = tokens if self._model.config.is_encoder_decoder else tokens[length:]
        ends = self._model.generation_config.eos_token_id
        ended = new.numel() < self._sampling.max_tokens or int(new[-1]) in (ends if isinstance(ends, list) else [ends])
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        return Answer(tokenizer.decode(new, skip_special_tokens=True), truncated=not ended)

    def _inputs(self, asked: Asked) -> Any:
        if getattr(self._processor, "chat_template", None):
            content = [{"type": "image", "image": asked.picture}, {"type": "text", "text": asked.prompt}]
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            )  # fmt: skip
        return self._processor(images=asked.picture, text=asked.prompt, return_tensors="pt")
