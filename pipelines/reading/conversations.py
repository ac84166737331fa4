"""Conversations as the field writes them: LLaVA/ShareGPT (`conversations`, from/value) and OpenAI (`messages`)."""

from __future__ import annotations

from typing import Any

from pipelines.reading.errors import SourceError
from pipelines.reading.records import Record, as_text, short
from schemas.sample import Message, Role

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


def conversation(record: Record) -> tuple[Message, ...]:
    """The turns of `record`. Raises SourceError if there is none, or one of an unknown speaker."""
    field = "conversations" if "conversations" in record.data else "messages"
    turns = record.items(field)
    if not turns:
        raise SourceError(f"{record.where}: {field}: the list of turns is empty")
    return tuple(_turn(turn, f"{record.where}: {field}[{index}]") for index, turn in enumerate(turns))


def _turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise SourceError(f"{where}: expected an object with from and value, or role and content; found {short(turn)}")
    speaker, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise SourceError(f"{where}: unknown speaker {short(speaker)}; known are {', '.join(ROLES)}")
    if isinstance(content, list):
        return Message(role=role, text="".join(_part(part, where) for part in content))
    return Message(role=role, text=as_text(content, f"{where}: text"))


def _part(part: Any, where: str) -> str:
    """One piece of a turn written as a list: {"type": "text", "text": ...}, some sets say value for text."""
    if isinstance(part, dict) and part.get("type") == "text":
        return as_text(part.get("text", part.get("value")), f"{where}: text")
    raise SourceError(f"{where}: expected parts of type text, found {short(part)}")
