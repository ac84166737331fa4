"""Open answers: VQA's normalisation and accuracy, and MMMU's comparison of open questions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from janus.evaluate.extract import strip_punctuation

_ARTICLES = {"a", "an", "the"}
_NUMBERS = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(value) for value, word in enumerate(_NUMBERS.split())} | {"none": "0"}
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)
# VQA mends a contraction that lacks one of its apostrophes, unless that makes another word (well, wed, ill).
_CONTRACTIONS = {
    form[:place] + form[place + 1 :]: form
    for form in _CONTRACTED.split()
    for place, char in enumerate(form)
    if char == "'"
} | {"somebody'd": "somebodyd"}


def normalize_vqa(answer: str) -> str:
    """An answer as VQA compares it: lower case, no punctuation and articles, digits, apostrophes put back.

    The rules of the VQA challenge (`processPunctuation`, `processDigitArticle`), applied to every answer, as VLMEvalKit
    does. (The challenge's own script leaves out questions on which all ten people agree.)
    """
    text = strip_punctuation(answer.replace("\n", " ").replace("\t", " ").strip())
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(said: str, answers: Sequence[str]) -> float:
    """VQA accuracy: the mean, over leaving out each person in turn, of min(people who said the same / 3, 1)."""
    said = normalize_vqa(said)
    same = [normalize_vqa(answer) == said for answer in answers]
    agreeing = sum(same)
    return sum(min((agreeing - own) / 3, 1.0) for own in same) / len(same)


_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBER_FORMS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",  # 12,345
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # 1.2e-3
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",  # 1.2 and .5 and 7
)


def mmmu_open_right(said: str, answers: Sequence[str]) -> bool:
    """Whether an open answer is right by MMMU's own rules.

    What follows the last of words such as "is" and "answer" is looked at, in every sentence that has one, else all of
    it; a number is right if it equals an answer to two decimals, a text if it contains an answer.
    """
    wanted = [form for answer in answers for form in _comparable(answer)]
    for found in _candidates(said):
        for form in _comparable(found):
            if isinstance(form, float):
                if form in wanted:
                    return True
            elif any(isinstance(one, str) and one in form for one in wanted):
                return True
    return False


def _candidates(said: str) -> list[str]:
    """The parts of an answer that may hold it, and the numbers in them."""
    said = said.strip().strip(".").lower()
    # MMMU splits sentences at ". " before a capital, and after lower() there is none: lines are all there is.
    lines = said.split("\n")
    parts = []
    for place, line in enumerate(lines):
        last = place == len(lines) - 1
        indicators = (*_INDICATORS, "=") if last else _INDICATORS
        tails = [line.rpartition(indicator)[2].strip() for indicator in indicators if indicator in line]
        shortest = ""
        for tail in tails:  # not min(): in the published code an empty tail replaces what was found before it
            if not shortest or len(tail) < len(shortest):
                shortest = tail
        if shortest and shortest not in {":", ",", ".", "!", "?", ";", "'"}:
            parts.append(shortest)
    parts = parts or [said]
    return parts + [number for part in parts for form in _NUMBER_FORMS for number in re.findall(form, part)]


def _comparable(answer: str) -> list[str | float]:
    """A number rounded to two decimals, or lower-case text; a single letter with a blank on either side."""
    answer = answer.strip()
    try:
        return [round(float(answer.replace(",", "")), 2)]
    except ValueError:
        answer = answer.lower()
        return [f" {answer}", f"{answer} "] if len(answer) == 1 else [answer]
