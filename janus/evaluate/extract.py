"""How an answer is found in what a model says.

Two protocols, named in every result (design D19):

`vlmevalkit`
    VLMEvalKit's exact matching to the letter, with which the paper's authors reproduced their numbers:
    `YOrN_Extraction` for yes and no, `can_infer` for multiple choice (with its later versions' limit on the length of
    an answer that is matched by an option's text).
`strict`
    Ours. Reads what a person would read where the kit does not ("yes:", "**Yes**", "answer is b"), and does not read
    what a person would not ("A dog is shown" is not option A).

What cannot be read is None, and wrong. There is no guessing and no model that helps.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Literal

Kind = Literal["yes_no", "choice", "number"]
Protocol = Literal["vlmevalkit", "strict"]


def read_answer(kind: Kind, text: str, options: Mapping[str, str] | None = None, *, protocol: Protocol) -> str | None:
    """The answer in `text`: "yes" or "no", a letter of `options`, a number in digits, or None if it cannot be told.

    Args:
        kind: yes_no, choice or number. Numbers are read alike in both protocols: VLMEvalKit has no rule for them.
        text: what the model said.
        options: letter to text, for kind choice: {"A": "a cat", "B": "a dog"}.
        protocol: vlmevalkit or strict.

    Raises:
        ValueError: unknown kind or protocol, or a choice without options.
    """
    if protocol not in ("vlmevalkit", "strict"):
        raise ValueError(f"protocol {protocol!r}: expected vlmevalkit or strict")
    if kind == "number":
        return _number(text)
    if kind == "yes_no":
        return _kit_yes_no(text) if protocol == "vlmevalkit" else _yes_no(text)
    if kind != "choice":
        raise ValueError(f"kind {kind!r}: expected yes_no, choice or number")
    if not options:
        raise ValueError("kind choice needs options: a letter and a text each")
    return _kit_choice(text, options) if protocol == "vlmevalkit" else _choice(text, options)


# --- protocol vlmevalkit -------------------------------------------------------------------------------------------

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_TO_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_FAILED_CALL = "Failed to obtain answer via API"


def strip_punctuation(text: str) -> str:
    """VQA's punctuation rule, which VLMEvalKit uses for yes and no too.

    A mark goes without a trace if it stands beside a blank anywhere in the text, or if the text has a comma between
    digits; else it becomes a blank. Of full stops, the first 32 that no digit follows go.
    """
    digits_with_comma = re.search(r"\d,\d", text) is not None
    result = text
    for mark in _PUNCTUATION:
        beside_blank = mark + " " in text or " " + mark in text
        result = result.replace(mark, "" if beside_blank or digits_with_comma else " ")
    # 32 is the value of re.UNICODE, which the published code passes where the count goes.
    return re.sub(r"\.(?!\d)", "", result, count=32)


def _kit_yes_no(text: str) -> str | None:
    found = {"yes", "no"} & set(strip_punctuation(text.lower()).split())
    return found.pop() if len(found) == 1 else None


def _kit_choice(text: str, options: Mapping[str, str]) -> str | None:
    if _FAILED_CALL not in text:
        if any(refusal in text for refusal in _REFUSALS):
            return None
        words = text.translate(_TO_BLANKS).split()
        letters = [letter for letter in options if letter in words]
        if len(letters) == 1:
            return letters[0]
        if not letters and "Z" in words:  # the kit's letter for "none of them"
            return None
    said = text.lower()
    if len(said) > 2 * sum(len(str(option)) for option in options.values()):
        return None
    named = [letter for letter, option in options.items() if str(option).lower() in said]
    return named[0] if len(named) == 1 else None


# --- protocol strict -----------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+")
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_STATED = re.compile(
    r"(?:\b(?:answer|option|choice)(?:\s+is)?|答案|选项|選項|选择|選擇|选|選)\s*(?:为|為|是)?\s*[:]?\s*[\"'(\[*]*([A-Za-z])(?![^\W_])"
)
"""A letter that is called the answer: "The answer is A.", "answer: b", "option (C)"."""
_MARKED = re.compile(r"[\s\"'(\[*]*([A-Z])(?:\s*[.):\]*\"']|\s*$)", re.MULTILINE)
"""A letter at the start of a line with a mark, or nothing, after it: "B", "B. a dog", "(B) a dog"."""
_ALONE = re.compile(r"(?<![^\W_])(?<![^\W_]['-])([A-Z])(?!['-]?[^\W_])")
_OPENS_A_PHRASE = re.compile(r"\s+(?!(?:or|and|is|was|not|but|because|since)\b)[^\W\d_]")
# Scripts written without blanks between words: there, a text may stand anywhere.
_NO_BLANKS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def _yes_no(text: str) -> str | None:
    found = {"yes", "no"} & set(_WORD.findall(_plain(text).casefold()))
    return found.pop() if len(found) == 1 else None


def _choice(text: str, options: Mapping[str, str]) -> str | None:
    """A letter called the answer; failing that one at the start; failing that the only one; failing that a text."""
    text = _plain(text)
    stated = {_stated_letter(text, match) for match in _STATED.finditer(text)} & set(options)
    if stated:
        return stated.pop() if len(stated) == 1 else None
    marked = {match.group(1) for line in text.splitlines() if (match := _MARKED.match(line))} & set(options)
    if marked:
        return marked.pop() if len(marked) == 1 else None
    alone = {match.group(1) for match in _ALONE.finditer(text) if not _is_article(text, match)} & set(options)
    if alone:
        return alone.pop() if len(alone) == 1 else None
    return _named(text.casefold(), {letter: _plain(option).casefold() for letter, option in options.items()})


def _stated_letter(text: str, match: re.Match[str]) -> str | None:
    """The letter of a match of _STATED in upper case; None for the article ("the answer is a dog")."""
    letter = match.group(1)
    return None if letter == "a" and _OPENS_A_PHRASE.match(text, match.end(1)) else letter.upper()


def _is_article(text: str, match: re.Match[str]) -> bool:
    """Whether a lone "A" opens a sentence, or a lone "I" is the pronoun: words, and no option's letter."""
    if match.group(1) not in "AI" or not _OPENS_A_PHRASE.match(text, match.end(1)):
        return False
    return match.group(1) == "I" or text[: match.start(1)].rstrip(" \"'*(")[-1:] in ("", ".", "!", "?", ":", "\n", "。")


def _named(said: str, options: Mapping[str, str]) -> str | None:
    """The one option whose text occurs; places inside a longer option's ("blue" in "light blue") do not count."""
    places = {letter: _places(said, option) for letter, option in options.items()}
    everywhere = [place for found in places.values() for place in found]
    named = [letter for letter, found in places.items() if any(not _inside(place, everywhere) for place in found)]
    return named[0] if len(named) == 1 else None


def _places(said: str, option: str) -> list[tuple[int, int]]:
    """Where `option` stands in `said` and cuts no word in two."""
    option = option.strip().strip(".。")
    if not option:
        return []
    found = ((match.start(), match.start() + len(option)) for match in re.finditer(f"(?={re.escape(option)})", said))
    return [(start, end) for start, end in found if not _in_a_word(said, start) and not _in_a_word(said, end)]


def _in_a_word(text: str, place: int) -> bool:
    """Whether a word goes on across `place`."""
    return 0 < place < len(text) and _of_a_word(text[place - 1]) and _of_a_word(text[place])


def _of_a_word(char: str) -> bool:
    return (char.isalnum() or unicodedata.category(char)[0] == "M") and not _NO_BLANKS.match(char)


def _inside(place: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    """Whether `place` lies within a longer one of `others`."""
    start, end = place
    return any(low <= start and end <= high and high - low > end - start for low, high in others)


def _number(text: str) -> str | None:
    """The one number in `text`, in digits or words up to twelve; "two or three" is None, "three (3)" is 3."""
    words = _WORD.findall(_plain(text).casefold())
    found = {str(int(word)) for word in words if word.isdecimal()} | {_NUMBERS[w] for w in words if w in _NUMBERS}
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    """Compatibility forms (full-width letters, ligatures) as ordinary ones; accents and scripts stay."""
    return unicodedata.normalize("NFKC", text)
