"""What the text filters of Gopher (Rae et al., arXiv 2112.11446, table A1) and C4 (Raffel et al., arXiv 1910.10683,
section 2.2) look at, a field for each rule. Thresholds are the filter's.

Words stand between blanks, lines and paragraphs are those that are not blank, messages are paragraphs. Shares of
characters are of those that are no blanks. Sentences are told by their end marks, where C4 has a sentence splitter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values
from schemas.sample import IMAGE_MARK

VERSION = 1
TOP, REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)
SHARES = (
    "bullet_lines", "ellipsis_lines", "alphabetic_words", "duplicate_lines", "duplicate_line_chars",
    "duplicate_paragraphs", "duplicate_paragraph_chars", *(f"top_{n}gram_chars" for n in TOP),
    *(f"duplicate_{n}gram_chars" for n in REPEATED), "c4_lines",
)  # fmt: skip
FIELDS = {
    "words": pa.int32(),
    "mean_word_length": pa.float32(),
    "symbols_per_word": pa.float32(),
    "stop_words": pa.int8(),
    **dict.fromkeys(SHARES, pa.float32()),
    "c4_sentences": pa.int32(),  # in the lines that C4 keeps
    "c4_placeholder": pa.bool_(),  # "lorem ipsum" or a curly bracket
}
NEEDS = ("text",)

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("\u2022", "-", "*", "\u2023", "\u25e6", "\u25aa")
ELLIPSES = ("...", "\u2026")
SYMBOL = re.compile(r"#|\.\.\.|\u2026")
NOT_A_LETTER = re.compile(r"^[\W_]+|[\W_]+$")
SENTENCE_END = re.compile(r"[.!?]+[\"'\u201d\u2019)]*(?!\S)")
TERMINAL = (".", "!", "?", '"', "\u201d")
BOILERPLATE = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip
MIN_LINE_WORDS = 5


def measure(row: Row) -> Values:
    """Of all text of the row, shares to four decimals."""
    text = "\n\n".join(message["text"] for message in row.messages).replace(IMAGE_MARK, " ")
    words, lines = text.split(), [line.strip() for line in text.splitlines() if line.strip()]
    paragraphs = [part.strip() for part in re.split(r"\n(?:[^\S\n]*\n)+", text) if part.strip()]
    chars = sum(map(len, words))
    kept = [line for line in lines if kept_by_c4(line)]
    values = {
        "mean_word_length": chars / len(words),
        "symbols_per_word": len(SYMBOL.findall(text)) / len(words),
        "bullet_lines": sum(line.startswith(BULLETS) for line in lines) / len(lines),
        "ellipsis_lines": sum(line.endswith(ELLIPSES) for line in lines) / len(lines),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words) / len(words),
        "c4_lines": len(kept) / len(lines),
    }
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        seen = Counter(parts)
        again = {part: count - 1 for part, count in seen.items() if count > 1}
        values[f"duplicate_{name}s"] = sum(again.values()) / len(parts)
        values[f"duplicate_{name}_chars"] = sum(len("".join(p.split())) * count for p, count in again.items()) / chars
    values |= {f"top_{n}gram_chars": ngram_chars(words, n, top=True) / chars for n in TOP}
    values |= {f"duplicate_{n}gram_chars": ngram_chars(words, n) / chars for n in REPEATED}
    return {name: round(value, 4) for name, value in values.items()} | {
        "words": len(words),
        "stop_words": len(STOP_WORDS & {NOT_A_LETTER.sub("", word).lower() for word in words}),
        "c4_sentences": sum(len(SENTENCE_END.findall(line)) for line in kept),
        "c4_placeholder": "lorem ipsum" in text.lower() or "{" in text,
    }


def kept_by_c4(line: str) -> bool:
    """Whether it ends as a sentence does, has five words, and is not about scripts, terms or cookies."""
    lower = line.lower()
    enough = len(line.split()) >= MIN_LINE_WORDS and line.endswith(TERMINAL) and not line.endswith("...")
    return enough and not any(phrase in lower for phrase in BOILERPLATE)


def ngram_chars(words: Sequence[str], n: int, top: bool = False) -> int:
    """Characters in n-grams that occur more than once, each counted once; `top`: in the most frequent one alone, of
    several the longest."""
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    counts = {gram: count for gram, count in Counter(grams).items() if count > 1}
    if top and counts:
        counts = dict([max(counts.items(), key=lambda one: (one[1], sum(map(len, one[0]))))])
    inside = {start + place for start, gram in enumerate(grams) if gram in counts for place in range(n)}
    return sum(len(words[place]) for place in inside)
