"""Rows of a .json file without holding the file: the big sets are lists or objects of gigabytes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.limits import MAX_ROW, json_problem
from pipelines.reading.streams import Stream
from schemas.reasons import Outcome

CHUNK = 1 << 20
"""Characters read at a time."""


class TooLong(ValueError):
    """A value that has not ended, or not begun to be JSON, within MAX_ROW characters."""


class Scanner:
    """Takes JSON values off a stream."""

    _blank = re.compile(r"[ \t\r\n]*")
    _special = re.compile(r'["\[\]{}]')
    _string_end = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
    _decoder = json.JSONDecoder()

    def __init__(self, file: io.TextIOBase) -> None:
        self.file = file
        self.buffer = ""
        self.position = 0
        self._before = 0  # characters that are no longer in the buffer

    def _more(self) -> bool:
        # Doubling keeps the repeated attempts at one very long value linear in its length.
        block = self.file.read(max(CHUNK, len(self.buffer) - self.position))
        self._before += self.position
        self.buffer, self.position = self.buffer[self.position :] + block, 0
        return bool(block)

    @property
    def offset(self) -> int:
        """Characters stepped over so far."""
        return self._before + self.position

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self.position = self._blank.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer) or not self._more():
                return self.buffer[self.position : self.position + 1]

    def take(self) -> str:
        """Step over that character."""
        character = self.peek()
        self.position += len(character)
        return character

    def value(self) -> tuple[Any, str]:
        """The next value and its text. Raises ValueError, and TooLong, before having stepped over it."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                if len(self.buffer) - self.position > MAX_ROW:
                    raise TooLong(str(error)) from None
                if not self._more():
                    raise
            else:
                text = self.buffer[self.position : end]
                # The end of a number may be in the next block.
                if end == len(self.buffer) and value.__class__ in (int, float) and self._more():
                    continue
                self.position = end
                return value, text

    def skip(self) -> bool:
        """Step over the next value by its brackets and quotes, in constant memory. False if the file ends in it."""
        depth = 0
        if self.peek() not in ('"', "[", "{"):
            self.value()
            return True
        while True:
            found = self._special.search(self.buffer, self.position)
            if found is None:
                self.position = len(self.buffer)
                if not self._more():
                    return False
                continue
            self.position = found.end()
            if found[0] == '"':
                if not self._skip_string():
                    return False
            else:
                depth += 1 if found[0] in "[{" else -1
            if depth <= 0:
                return True

    def _skip_string(self) -> bool:
        while (end := self._string_end.match(self.buffer, self.position)) is None:
            # All of the buffer is inside the string; an escape may be cut in two at its end.
            inside = self.buffer[self.position :]
            self.position = len(self.buffer) - (len(inside) - len(inside.rstrip("\\"))) % 2
            if not self._more():
                return False
        self.position = end.end()
        return True


def json_values(stream: Stream, rows: str | None) -> Iterator[tuple[str, Any, RowError | None]]:
    """(place, row, what is wrong with it) for each row of a .json file.

    The rows are the elements of the list that the file is, or of its field `rows`; else the values of the object it is,
    with the name of each as `__key__`. The place is the number in a list, or the name.

    Raises SourceError where the list or object itself is broken or cut short.
    """
    scanner = Scanner(io.TextIOWrapper(stream.file, encoding="utf-8-sig", newline=""))
    try:
        if rows is not None:
            _find(scanner, rows, stream.where)
        opening = scanner.take()
        if opening not in ("[", "{") or (rows is not None and opening == "{"):
            raise SourceError(f"{stream.where}: expected a JSON list of objects")
        yield from _items(scanner, opening, stream.where)
        if rows is None and scanner.peek():
            raise SourceError(f"{stream.where}: more text after the end of the JSON; is the file damaged?")
    except UnicodeDecodeError as error:
        raise SourceError(f"{stream.where}: not UTF-8 text: {error.reason} at byte {error.start} of a block") from None


def _items(scanner: Scanner, opening: str, where: str) -> Iterator[tuple[str, Any, RowError | None]]:
    closing = "]" if opening == "[" else "}"
    number = 0
    separator = closing if scanner.peek() == closing else ","
    if separator == closing:
        scanner.take()
    while separator == ",":
        place, problem, value = str(number), None, None
        name = _name(scanner, where) if opening == "{" else None
        if name is not None:
            place = name
        if scanner.peek() == "":
            raise SourceError(f"{where}[{place}]: expected a JSON value; is the file cut short?")
        try:
            value, text = scanner.value()
            if (found := json_problem(text, value)) is not None:
                problem = RowError(f"{where}[{place}]: {found}", Outcome.ROW_TOO_LARGE)
        except (ValueError, RecursionError) as error:
            problem = _broken(scanner, error, f"{where}[{place}]")
        if name is not None and isinstance(value, dict):
            value = {"__key__": name, **value}
        yield place, value, problem
        separator = scanner.take()
        number += 1
    if separator != closing:
        raise SourceError(f"{where}: the JSON does not end after element {number}; is the file cut short?")


def _broken(scanner: Scanner, error: Exception, where: str) -> RowError:
    """Step over a value that could not be had. Raises SourceError if there is no end of it."""
    start = scanner.offset if scanner.peek() in ("[", "{", '"') else -1
    if start < 0 or not scanner.skip():
        raise SourceError(f"{where}: not JSON ({error}); is the file cut short?")
    if scanner.offset - start > MAX_ROW:
        return RowError(f"{where}: more than {MAX_ROW:,} characters", Outcome.ROW_TOO_LARGE)
    if isinstance(error, json.JSONDecodeError | TooLong):
        return RowError(f"{where}: not JSON ({error})")
    return RowError(f"{where}: too large a row ({error})", Outcome.ROW_TOO_LARGE)  # digits of a number, levels


def _name(scanner: Scanner, where: str) -> str:
    """The name of the next member of an object, and the colon behind it."""
    try:
        name = scanner.value()[0] if scanner.peek() == '"' else None
    except ValueError:
        name = None
    if not isinstance(name, str) or scanner.take() != ":":
        raise SourceError(f"{where}: expected a JSON object; is the file cut short?")
    return name


def _find(scanner: Scanner, field: str, where: str) -> None:
    """Step up to the value of a field of the object that the file is."""
    if scanner.take() != "{":
        raise SourceError(f"{where}: expected a JSON object with the field {field!r}")
    names = []
    while scanner.peek() != "}":
        name = _name(scanner, where)
        if name == field:
            return
        names.append(name)
        if not scanner.skip() or scanner.peek() not in (",", "}"):
            raise SourceError(f"{where}: not JSON after {name!r}; is the file cut short?")
        if scanner.peek() == ",":
            scanner.take()
    raise SourceError(f"{where}: no field {field!r} (fields: {', '.join(names[:20])})")
