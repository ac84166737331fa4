"""Prompt templates: how a question is put to a model.

The defaults are those with which the paper's authors reproduced their numbers (VLMEvalKit's
`vlmeval/vlm/janus.py`). A model trained on others says so in its own `config.json`:

    "evaluation": {"prompts": {"yes_no": "{question}"}, "max_new_tokens": 16}

The command line comes before both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Template = Literal["yes_no", "choice", "short", "direct", "free"]

TEMPLATES: dict[str, str] = {
    "yes_no": "{question}\nAnswer the question using a single word or phrase.",
    "choice": "{hint}{question}\n{options}\nAnswer with the option's letter from the given choices directly.",
    "short": "{question}\nAnswer the question using a single word or phrase.",
    "direct": "{hint}{question}\nAnswer the question directly.",
    "free": "{question}",
}
"""Name to text. {options} becomes a line "A. ..." per option, {hint} a line "Hint: ..." where there is a hint."""

MAX_NEW_TOKENS = 2048
"""Longest answer in the authors' reproduction."""


@dataclass(frozen=True)
class PromptTemplates:
    """How a model is asked: all templates, the longest answer, and where each comes from."""

    templates: Mapping[str, str]
    max_new_tokens: int
    origin: Mapping[str, str]
    """Template name to "protocol", "model" or "command line"."""

    def put(self, template: str, question: str, options: Mapping[str, str], hint: str = "") -> str:
        """The text of a question."""
        values = {
            "question": question,
            "options": "".join(f"{letter}. {text}\n" for letter, text in options.items()),
            "hint": f"Hint: {hint}\n" if hint else "",
        }
        return re.sub(r"\{(question|options|hint)\}", lambda mark: values[mark[1]], self.templates[template])


def prompt_templates(
    model: Mapping[str, Any], given: Mapping[str, str], max_new_tokens: int | None = None
) -> PromptTemplates:
    """The prompt templates for a model.

    Args:
        model: what the model's configuration says under `evaluation`; may be empty.
        given: templates of the command line.
        max_new_tokens: of the command line.

    Raises:
        ValueError: an unknown template, or one without {question}.
    """
    own = model.get("prompts", {})
    for where, templates in (("--prompt", given), ("the model's config.json: evaluation.prompts", own)):
        for name, text in templates.items():
            if name not in TEMPLATES:
                raise ValueError(f"{where} {name}: no such template; there are: {', '.join(TEMPLATES)}")
            if "{question}" not in text:
                raise ValueError(f"{where} {name}: {text!r} has no {{question}} in it")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens {max_new_tokens}: expected 1 or more")
    return PromptTemplates(
        {**TEMPLATES, **own, **given},
        max_new_tokens or model.get("max_new_tokens") or MAX_NEW_TOKENS,
        {name: "command line" if name in given else "model" if name in own else "protocol" for name in TEMPLATES},
    )
