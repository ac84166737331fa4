"""Models that answer questions about drawn pictures: any of transformers' image-text models, or an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from janus.evaluate.judge import Judge
from janus.evaluate.weights import judge_name, model_folder

if TYPE_CHECKING:
    from PIL import Image

LONGEST = 16
"""Tokens of an answer: it is a word."""


class Vqa(Protocol):
    """What answers questions about one picture."""

    def answers(self, picture: Image.Image, questions: Sequence[str]) -> list[str]:
        """What it says to each."""
        ...


class Endpoint:
    """A model behind an OpenAI-style endpoint."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def answers(self, picture: Image.Image, questions: Sequence[str]) -> list[str]:
        """One request for each question."""
        return [self._judge.ask(question, picture) for question in questions]


class Local:
    """An image-text model of a transformers folder or hub id, with its own chat template; greedy."""

    def __init__(self, weights: str, device: str) -> None:
        """Load it: bfloat16 on a GPU, float32 elsewhere. Raises ValueError or FileNotFoundError with one line."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText, AutoProcessor

        judge_name(weights)
        folder = model_folder(weights)
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        try:
            self._processor = AutoProcessor.from_pretrained(folder)
            model, loading = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True
            )
        except (RuntimeError, OSError, ValueError, SafetensorError) as error:
            problem = str(error).strip().splitlines()[0]
            raise ValueError(f"{weights}: not an image-text model of transformers: {problem}") from None
        if missing := set(loading["missing_keys"]):
            raise ValueError(f"{weights}: the weights lack {min(missing)}")
        if not getattr(self._processor, "chat_template", None):
            raise ValueError(f"{weights}: no chat template in this folder; expected a model that takes conversations")
        self._processor.tokenizer.padding_side = "left"
        self._model = model.to(device).eval()

    def answers(self, picture: Image.Image, questions: Sequence[str]) -> list[str]:
        """All questions in one batch."""
        words, found = self._generate(picture, questions, LONGEST)
        said = found.sequences[:, words["input_ids"].shape[1] :]
        return self._processor.tokenizer.batch_decode(said, skip_special_tokens=True)

    def probabilities(
        self, picture: Image.Image, questions: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """How likely the answer to each question is to begin with the first token of one of its `answers`."""
        import torch

        _, found = self._generate(picture, questions, 1)
        shares = torch.softmax(found.logits[0].float(), dim=-1)
        result = []
        for share, forms in zip(shares, answers, strict=True):
            first = {self._processor.tokenizer.encode(form, add_special_tokens=False)[0] for form in forms}
            result.append(float(share[sorted(first)].sum()))
        return result

    def _generate(self, picture: Image.Image, questions: Sequence[str], longest: int) -> tuple[Any, Any]:
        import torch

        texts = []
        for question in questions:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            turn = [{"role": "user", "content": content}]
            texts.append(self._processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        # The template has put the special tokens in already.
        words = self._processor(
            text=texts, images=[picture] * len(texts), padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            found = self._model.generate(
                **words, max_new_tokens=longest, do_sample=False, return_dict_in_generate=True, output_logits=True
            )
        return words, found


def vqa_name(option: str, weights: str, url: str, model: str) -> str:
    """What answers, as results name it.

    Args:
        option: how the benchmark's options begin, for messages.
        weights: folder or hub id, or empty for an endpoint.
        url: of the endpoint.
        model: the name of its model.

    Raises ValueError or FileNotFoundError with one line unless it is exactly one of the two.
    """
    if bool(url) != bool(model):
        raise ValueError(f"an endpoint is {option}.judge-url and {option}.judge-model; one of them is missing")
    if bool(weights) == bool(url):
        raise ValueError(f"give one judge: {option}.vqa-model, or {option}.judge-url and {option}.judge-model")
    return judge_name(weights) if weights else Judge(url, model).model


def load_vqa(weights: str, url: str, model: str, device: str) -> Vqa:
    """A model of transformers, or an endpoint."""
    return Local(weights, device) if weights else Endpoint(Judge(url, model))
