"""Text of users as tokens: what it says is never taken for a token that structures a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Encoding, Tokenizer

from janus.model.templates import TemplateError


class UserText:
    """Tokenizes captions, questions and documents, whose authors may write out the names of special tokens.

    Three ways to forge one are closed: an added token marked special is matched in text by default; one that is not
    marked (`<|User|>` in Janus-Pro's tokenizer) even where special ones are left alone; and the model behind a
    tokenizer may hold the name as an ordinary piece.
    """

    def __init__(self, tokenizer: Tokenizer, reserved: Iterable[str]) -> None:
        """Make it from a tokenizer, which is left as it is.

        Args:
            tokenizer: turns text into ids.
            reserved: tokens that no text may hold, besides those that the tokenizer itself marks as special.
        """
        content = json.loads(tokenizer.to_str())
        names = set(reserved)
        for token in content["added_tokens"]:
            token["special"] = token["special"] or token["content"] in names
            if token["special"]:
                names.add(token["content"])
        self._tokenizer = Tokenizer.from_str(json.dumps(content))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Whatever a vocabulary has no piece for becomes this one, which says nothing.
        model = content["model"]
        unknown = model.get("unk_id") if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
        self._reserved = {tokenizer.token_to_id(name) for name in names} - {unknown}

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. None of them is that of a reserved token.

        Raises TemplateError for a text with a reserved token of a single character.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._reserved.isdisjoint(encoding.ids):
            return encoding.ids
        return self._cut(text, encoding)

    def _cut(self, text: str, encoding: Encoding) -> list[int]:
        """As `encode`, for a text of which a part would be a reserved token: cut in the middle of that part."""
        index = next(i for i, number in enumerate(encoding.ids) if number in self._reserved)
        start, end = encoding.offsets[index]
        middle = (start + end) // 2
        if not start < middle < end:  # a single character
            raise TemplateError(f"the text holds {text[start:end]!r}, which is a special token of this tokenizer")
        return self.encode(text[:middle]) + self.encode(text[middle:])
