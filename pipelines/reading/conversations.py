"""Conversations as the field writes them: LLaVA/ShareGPT (`conversations`, from/value), OpenAI (`messages`), and
Docmatix (`texts`, a question and its answer as user/assistant)."""

from __future__ import annotations

from typing import Any

from pipelines.reading.errors import RowError
from pipelines.reading.records import Record, as_text, short
from schemas.sample import IMAGE_MARK, Message, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
"""Names of the speakers in public sets."""
FIELDS = ("conversations", "messages", "texts")


def conversation(record: Record, images: int = 0) -> tuple[Message, ...]:
    """The turns of `record`.

    Some sets have no `<image>` marks: if there is none for `images` images, they are put before the first question.
    Raises RowError if there is no turn, or one of an unknown speaker.
    """
    field = next((name for name in FIELDS if name in record.data), "messages")
    turns: list[Message] = []
    for index, turn in enumerate(record.items(field)):
        turns += _turns(turn, f"{record.where}: {field}[{index}]")
    if not turns:
        raise RowError(f"{record.where}: {field}: the list of turns is empty")
    return with_marks(turns, images)


def with_marks(turns: list[Message], images: int) -> tuple[Message, ...]:
    """`turns` with a mark for each image before the first question, if they have none."""
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if images and first is not None and not any(IMAGE_MARK in turn.text for turn in turns):
        marked = f"{IMAGE_MARK}\n" * images + turns[first].text
        turns = [*turns[:first], Message(role="user", text=marked), *turns[first + 1 :]]
    return tuple(turns)


def _turns(turn: Any, where: str) -> list[Message]:
    if not isinstance(turn, dict):
        raise RowError(f"{where}: expected an object with from and value, or role and content; found {short(turn)}")
    if "user" in turn and "assistant" in turn:
        pair: tuple[Role, ...] = ("user", "assistant")
        return [Message(role=role, text=as_text(turn[role], f"{where}: {role}")) for role in pair]
    speaker, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise RowError(f"{where}: unknown speaker {short(speaker)}; known are {', '.join(ROLES)}")
    if isinstance(content, list):
        return [Message(role=role, text="".join(_part(part, where) for part in content))]
    return [Message(role=role, text=as_text(content, f"{where}: text"))]


def _part(part: Any, where: str) -> str:
    """One piece of a turn written as a list: {"type": "text", "text": ...}, some sets say value for text."""
    if isinstance(part, dict) and part.get("type") == "text":
        return as_text(part.get("text", part.get("value")), f"{where}: text")
    if isinstance(part, dict) and part.get("type") == "image":
        return IMAGE_MARK
    raise RowError(f"{where}: expected parts of type text, found {short(part)}")
