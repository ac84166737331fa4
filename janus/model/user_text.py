"""Text of users as tokens: what it says is never taken for a token that structures a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

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
        content = tokenizer.to_str()
        self._tokenizer = Tokenizer.from_str(content)
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        model = json.loads(content)["model"]
        # Whatever a vocabulary has no piece for becomes this one, which says nothing.
        unknown = model.get("unk_id") if "unk_id" in model else tokenizer.token_to_id(model.get("unk_token") or "")
        self._reserved = {tokenizer.token_to_id(name) for name in (*reserved, *special)} - {unknown}

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. None of them is that of a reserved token.

        Raises TemplateError for a text with a reserved token of a single character.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._reserved.isdisjoint(encoding.ids):
            return encoding.ids
        return self._cut(text, encoding)

    def _cut(self, text: str, encoding: Encoding) -> list[int]:
        """As `encode`, for a text of which parts would be reserved tokens: cut in the middle of each of them."""
        places = [0]
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if number in self._reserved:
                middle = (start + end) // 2
                if middle <= max(start, places[-1]):  # a single character
                    raise TemplateError(
                        f"the text holds {text[start:end]!r}, which is a special token of its tokenizer"
                    )
                places.append(middle)
        pieces = [text[start:end] for start, end in pairwise([*places, len(text)])]
        return [number for piece in pieces for number in self.encode(piece)]
