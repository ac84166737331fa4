"""VLMEvalKit's model `JanusForge` (docs/harnesses.md). Two lines at the end of the kit's `vlmeval/config.py` add it:

    from janus.evaluate.harnesses.vlmevalkit import JanusForge
    supported_VLM["janus"] = partial(JanusForge, model_path="FOLDER OR HUB ID")

then `python run.py --model janus --data POPE MMBench_DEV_EN`. The kit's own class `Janus` needs DeepSeek's package,
whose name `janus` is ours too. Only the kit imports this module.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmeval.dataset import DATASET_TYPE
from vlmeval.vlm.base import BaseModel

from janus.evaluate.benchmarks.mmvet import SYSTEM
from schemas.sample import IMAGE_MARK, Message

if TYPE_CHECKING:
    from PIL import Image

POPE_SUFFIX = " Please answer yes or no."
"""In the kit's table of POPE; the authors' reproduction takes it out."""


class JanusForge(BaseModel):  # type: ignore[misc]
    """A Janus that answers the kit's questions with the prompt templates of `janus.evaluate`."""

    INSTALL_REQ = False
    INTERLEAVE = True

    def __init__(
        self,
        model_path: str,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int | None = None,
    ) -> None:
        """Load the model; arguments as the options of `python -m janus.evaluate`."""
        from janus.evaluate.prompts import prompt_templates
        from janus.evaluate.subject import load_subject

        super().__init__()
        self.subject, own = load_subject(model_path, device, dtype)
        self.prompts = prompt_templates(own, {}, max_new_tokens)

    def use_custom_prompt(self, dataset: str) -> bool:
        """Whether the prompt is ours: yes or no, multiple choice and MM-Vet, as in the kit's own class for Janus."""
        return DATASET_TYPE(dataset) in ("Y/N", "MCQ") or dataset == "MMVet"

    def build_prompt(self, line: Mapping[str, Any], dataset: str) -> list[dict[str, str]]:
        """The pictures of a row of the kit's tables, then its question in our template."""
        question = str(line["question"])
        if DATASET_TYPE(dataset) == "Y/N":
            text = self.prompts.put("yes_no", question.replace(POPE_SUFFIX, "") if dataset == "POPE" else question, {})
        elif dataset == "MMVet":
            text = self.prompts.put("free", question, {})
        else:
            options = {letter: str(line[letter]) for letter in string.ascii_uppercase if _given(line, letter)}
            hint = str(line["hint"]) if _given(line, "hint") else ""
            text = self.prompts.put("choice" if options else "direct", question, options, hint)
        paths = self.dump_image(line, dataset)
        pictures = [paths] if isinstance(paths, str) else list(paths)
        return [*({"type": "image", "value": str(path)} for path in pictures), {"type": "text", "value": text}]

    def generate_inner(self, message: Sequence[Mapping[str, Any]], dataset: str | None = None) -> str:
        """The answer to one message of pictures and text in any order, greedily."""
        return self._answer([("user", message)], dataset)

    def chat_inner(self, message: Sequence[Mapping[str, Any]], dataset: str | None = None) -> str:
        """The answer to a conversation: turns of {"role", "content"}."""
        return self._answer([(turn["role"], turn["content"]) for turn in message], dataset)

    def _answer(self, turns: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], dataset: str | None) -> str:
        from janus.evaluate.harnesses.asking import answers
        from janus.model.inference.sampling_params import SamplingParams

        conversation = [Message(role="system", text=SYSTEM)] if dataset is not None and "MMVet" in dataset else []
        pictures: list[Image.Image] = []
        for role, content in turns:
            conversation.append(Message(role=role, text=_text(content)))  # type: ignore[arg-type]
            pictures += [_open(str(part["value"])) for part in content if part["type"] == "image"]
        said: list[str] = []
        answers(
            self.subject,
            [conversation],
            lambda _: pictures,
            max_new_tokens=self.prompts.max_new_tokens,
            params=SamplingParams(temperature=0.0),
            seeds=[0],
            batch_size=1,
            on_answer=lambda _, text: said.append(text),
        )
        return said[0]


def _given(line: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a value: missing fields are NaN in the kit's tables."""
    return name in line and line[name] is not None and line[name] == line[name]


def _text(content: Sequence[Mapping[str, Any]]) -> str:
    """Marks for pictures where they stand. Text that follows one begins on a new line, as in training."""
    text = ""
    for part in content:
        if part["type"] == "image":
            text += IMAGE_MARK
        elif part["type"] == "text":
            value = str(part["value"])
            text += f"\n{value}" if text.endswith(IMAGE_MARK) and not value.startswith("\n") else value
        else:
            raise ValueError(f"a {part['type']} in a message; Janus reads pictures and text")
    return text


def _open(path: str) -> Image.Image:
    from janus.evaluate.benchmark import Picture

    return Picture(path, Path(path).read_bytes).open()
