"""The `where` of a source: a comparison of its own columns, such as "aesthetic_score >= 5.0 and width >= 512".

    condition  =  comparison | not condition | condition and condition | condition or condition | ( condition )
    comparison =  operand (= | == | != | <> | < | <= | > | >=) operand
                  | column [not] in (value, ...) | column is [not] null
    operand    =  column | value
    value      =  number | 'text' | "text" | true | false
    column     =  name, or name.field of a struct; a field that is no plain word in quotes: name."a field"

Nothing is evaluated as code: a condition becomes a pyarrow expression, which the Parquet reader compares with the
statistics of each row group, or is applied to the rows of other formats one by one. As in SQL, a comparison with a null
holds for no row, and neither does its opposite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from pipelines.reading.errors import RowError, SourceError

if TYPE_CHECKING:  # this module alone is loaded to look at statistics: pipelines/reading/row_groups.py
    from pipelines.reading.records import Record

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<word>[A-Za-z_]\w*(?:\.(?:\w+|'[^']+'|\"[^\"]+\"))*)|(?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,))"
)
_QUOTED_FIELD = re.compile(r"\.(?:'([^']+)'|\"([^\"]+)\")")
_COMPARE = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_SAME = {"=": "==", "<>": "!="}
MAX_DEPTH = 50
"""Conditions inside each other."""


@dataclass(frozen=True)
class Column:
    """A column of the source."""

    name: str


@dataclass(frozen=True)
class Node:
    """A condition: `operator` over `parts`, which are conditions, columns and values."""

    operator: str
    parts: tuple[Any, ...]

    def columns(self) -> list[str]:
        """Names of the columns it looks at, each once, in order."""
        found: dict[str, None] = {}
        for part in self.parts:
            if isinstance(part, Node):
                found |= dict.fromkeys(part.columns())
            elif isinstance(part, Column):
                found[part.name] = None
        return list(found)

    def expression(self) -> pc.Expression:
        """The condition for pyarrow."""
        parts = [_expression(part) for part in self.parts]
        match self.operator:
            case "and":
                return parts[0] & parts[1]
            case "or":
                return parts[0] | parts[1]
            case "not":
                return ~parts[0]
            case "in":
                return reduce(or_, (parts[0] == value for value in parts[1:]))  # null for a null, unlike isin
            case "null":
                return parts[0].is_null()
            case _:
                return _COMPARE[self.operator](parts[0], parts[1])

    def holds(self, record: Record) -> bool | None:
        """Whether it holds for a row; None where that hangs on a null, which means no."""
        if self.operator in ("and", "or"):
            decisive = self.operator == "or"
            answers = [part.holds(record) for part in self.parts]
            return decisive if decisive in answers else None if None in answers else not decisive
        if self.operator == "not":
            answer = self.parts[0].holds(record)
            return None if answer is None else not answer
        values = [_value(part, record) for part in self.parts]
        if self.operator == "null":
            return values[0] is None
        if self.operator == "in":
            return None if values[0] is None else any(_alike(values[0], value) == value for value in values[1:])
        left, right = _alike(values[0], values[1]), _alike(values[1], values[0])
        if left is None or right is None:
            return None
        try:
            return bool(_COMPARE[self.operator](left, right))
        except TypeError:
            return None


def _expression(part: Any) -> Any:
    if isinstance(part, Node):
        return part.expression()
    return pc.field(*part.name.split(".")) if isinstance(part, Column) else part


def _value(part: Any, record: Record) -> Any:
    if not isinstance(part, Column):
        return part
    try:
        return record.get(part.name)
    except RowError:
        return None  # rows of JSON leave fields out


def _alike(value: Any, other: Any) -> Any:
    """`value` as a number where it is one in writing and `other` is a number: the cells of a CSV file are text."""
    if isinstance(value, str) and isinstance(other, int | float):
        try:
            return float(value)
        except ValueError:
            return None if value == "" else value
    return value


def parse_where(text: str, where: str) -> Node:
    """Parse a condition. Raises SourceError with the place where it is wrong; `where` begins the message."""
    return _Parser(text, where).parse()


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            token = _TOKEN.match(text, position)
            if token is None:
                raise self._error("not understood", position)
            kind = str(token.lastgroup)
            self._tokens.append((kind, token[kind], token.start(kind)))
            position = token.end()
        self._next = 0

    def parse(self) -> Node:
        node = self._or(0)
        if self._next < len(self._tokens):
            raise self._error("expected `and` or `or`", self._tokens[self._next][2])
        return node

    def _error(self, problem: str, position: int) -> SourceError:
        rest = self._text[position : position + 20]
        return SourceError(f"{self._where}: {problem} at {rest!r}" if rest else f"{self._where}: {problem} at the end")

    def _peek(self) -> str:
        """The next token: words in lower case, text as it stands, "" at the end."""
        if self._next == len(self._tokens):
            return ""
        kind, token, _ = self._tokens[self._next]
        return token.lower() if kind == "word" else token

    def _take(self, *wanted: str) -> bool:
        if self._peek() in wanted and self._next < len(self._tokens):
            self._next += 1
            return True
        return False

    def _require(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error(f"expected {sign}", self._place())

    def _place(self) -> int:
        return self._tokens[self._next][2] if self._next < len(self._tokens) else len(self._text)

    def _or(self, level: int) -> Node:
        if level > MAX_DEPTH:
            raise self._error("too many conditions inside each other", self._place())
        node = self._and(level)
        while self._take("or"):
            node = Node("or", (node, self._and(level)))
        return node

    def _and(self, level: int) -> Node:
        node = self._not(level)
        while self._take("and"):
            node = Node("and", (node, self._not(level)))
        return node

    def _not(self, level: int) -> Node:
        if self._take("not"):
            return Node("not", (self._not(level + 1),)) if level < MAX_DEPTH else self._or(level + 1)
        if self._take("("):
            node = self._or(level + 1)
            self._require(")")
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        place = self._place()
        left = self._operand()
        if self._peek() in ("is", "in", "not") and not isinstance(left, Column):
            raise self._error("expected a column", place)
        if self._take("is"):
            negated = self._take("not")
            self._require("null")
            return Node("not", (Node("null", (left,)),)) if negated else Node("null", (left,))
        negated = self._take("not")
        if self._take("in"):
            self._require("(")
            values = [self._constant()]
            while self._take(","):
                values.append(self._constant())
            self._require(")")
            return Node("not", (Node("in", (left, *values)),)) if negated else Node("in", (left, *values))
        sign = _SAME.get(self._peek(), self._peek())
        if negated or sign not in _COMPARE:
            raise self._error("expected a comparison", self._place())
        self._next += 1
        right = self._operand()
        if not isinstance(left, Column) and not isinstance(right, Column):
            raise self._error("a comparison without a column", place)
        return Node(sign, (left, right))

    def _operand(self) -> Any:
        if self._next < len(self._tokens) and self._tokens[self._next][0] == "word":
            word = self._tokens[self._next][1]
            if word.lower() in ("and", "or", "not", "in", "is", "null"):
                raise self._error("expected a column or a value", self._place())
            if word.lower() not in ("true", "false"):
                self._next += 1
                return Column(_QUOTED_FIELD.sub(lambda field: f".{field[1] or field[2]}", word))
        return self._constant()

    def _constant(self) -> Any:
        if self._next < len(self._tokens):
            kind, token, _ = self._tokens[self._next]
            value: Any = None
            if kind == "number":
                value = float(token) if any(sign in token for sign in ".eE") else int(token)
            elif kind == "text":
                value = token[1:-1].replace(token[0] * 2, token[0])
            elif token.lower() in ("true", "false"):
                value = token.lower() == "true"
            if value is not None:
                self._next += 1
                return value
        raise self._error("expected a number, a quoted text, true or false", self._place())
