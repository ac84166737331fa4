"""The tokenizer of a folder, read without the rules that classes of transformers add, and the chat style it implies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from janus.model.checkpoints.tensors import first_line, read_json
from janus.model.processor import SPECIAL_TOKENS
from janus.model.templates import STYLES

_LONGEST = 10**9
"""transformers' `model_max_length` for "not known", which it writes as a number of 30 digits."""


def load_tokenizer(folder: str | Path, *, add_missing: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer exactly as tokenizer.json says, with its image tokens known by name.

    Not `AutoTokenizer`: the class named in DeepSeek's folders would put its own rules in place of the file's.

    Args:
        folder: holds tokenizer.json, and tokenizer_config.json if there is one.
        add_missing: add every special token the vocabulary lacks (for a language model's own tokenizer); otherwise only
            the image placeholder, which no text holds and whose embedding is never used, is added.

    Raises FileNotFoundError or ValueError with one line.
    """
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not found; the folder must hold its tokenizer in the fast format")
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises nothing more specific
        raise ValueError(f"{file}: not a readable tokenizer: {first_line(error)}") from None
    settings = _settings(Path(folder) / "tokenizer_config.json")
    vocabulary = backend.get_vocab()
    names = {}
    for name, default in SPECIAL_TOKENS.items():
        token = settings.get(name) or default
        if token in vocabulary or name == "image_token" or add_missing:
            names[name] = token
    longest = settings.get("model_max_length")
    if isinstance(longest, int) and longest < _LONGEST:
        names["model_max_length"] = longest
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)


def _settings(path: Path) -> dict[str, Any]:
    """`tokenizer_config.json`, if there is one, with its special tokens as words."""
    if not path.is_file():
        return {}
    settings = read_json(path)
    extra = settings.get("extra_special_tokens")  # where transformers keeps the names that are not its own
    for name in SPECIAL_TOKENS:
        token = settings.get(name) or (extra.get(name) if isinstance(extra, dict) else None)
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None and not isinstance(token, str):
            raise ValueError(f"{path}: {name} is {token!r}, expected a token")
        settings[name] = token
    return settings


def find_style(folder: Path, tokenizer: PreTrainedTokenizerFast) -> str:
    """The chat style of a model folder: as its chat template names the speakers, or else as the vocabulary does.

    Only Janus-Pro's tokenizer has its speakers' names as tokens. DeepSeek's folders hold no template.

    Raises ValueError with one line for a template that cannot be read.
    """
    pro = STYLES["janus-pro"].user
    template = _chat_template(folder)
    is_pro = pro in tokenizer.get_added_vocab() if template is None else pro in template
    return "janus-pro" if is_pro else "janus"


def _chat_template(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{file}: not text in UTF-8") from None
    # Where older versions of transformers keep it.
    for name in ("tokenizer_config.json", "chat_template.json"):
        if (folder / name).is_file() and (template := read_json(folder / name).get("chat_template")) is not None:
            return str(template)
    return None
