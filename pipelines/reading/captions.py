"""The caption of a row: picked out of its fields or of another file, and cleaned up."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_plus

import pydantic

from pipelines.reading.errors import SkipRow
from pipelines.reading.gate import Gate
from pipelines.reading.join import Captions as Joined
from pipelines.reading.join import Join
from pipelines.reading.options import FileOptions, Options
from pipelines.reading.preview import PREVIEW_ROWS, Preview
from pipelines.reading.records import Record, as_text
from schemas.reasons import Skip
from schemas.spec import Source

_FLAG = re.compile(r"(?:^|\s)(?:--|—)[A-Za-z]+(?:[ =](?!--|—)[^\s]+)?")

CLEAN: dict[str, Callable[[str, str], str]] = {
    "url_decode": lambda text, _: unquote_plus(text),
    "strip_prefix": lambda text, prefix: text.removeprefix(prefix),
    "strip_flags": lambda text, _: _FLAG.sub("", text),
    "before": lambda text, mark: text.partition(mark)[0],
}
"""Name to clean-up of (text, argument). strip_flags takes Midjourney's `--ar 16:9 --v 5` away."""
_WITH_ARGUMENT = ("strip_prefix", "before")


class CaptionFields(Options):
    """Where the captions of a format come from."""

    caption: str | list[str] = "caption"
    """Field with the caption, or several: the first that is not empty counts. "Task2.Caption" is a field in a field."""
    clean: list[str] = pydantic.Field(default_factory=list)
    """Clean-up of the caption, in order: url_decode, strip_prefix:TEXT, strip_flags, before:TEXT."""
    join: Join | None = None
    """Captions from another file. Rows without one there are skipped (`no_caption`)."""

    @pydantic.field_validator("clean")
    @classmethod
    def _known(cls, steps: list[str]) -> list[str]:
        for step in steps:
            name, colon, argument = step.partition(":")
            if name not in CLEAN:
                raise ValueError(f"no clean-up {step!r}; there are: {', '.join(CLEAN)}")
            if bool(colon and argument) != (name in _WITH_ARGUMENT):
                raise ValueError(f"{step!r}: expected {name}{':TEXT' if name in _WITH_ARGUMENT else ''}")
        return steps

    @property
    def fields(self) -> list[str]:
        """Columns that captions are made of."""
        if self.join is not None:
            return [self.join.on]
        return [self.caption] if isinstance(self.caption, str) else self.caption


class CaptionOptions(CaptionFields, FileOptions):
    """Options of a format with captions that is read file by file."""


class CaptionReader:
    """Gives the caption of each row of a source."""

    def __init__(self, source: Source, options: CaptionFields, gate: Gate) -> None:
        self._options = options
        self._preview = isinstance(source, Preview)
        limit = PREVIEW_ROWS if self._preview else None
        self._joined = Joined(options.join, gate, source.name, limit) if options.join is not None else None

    def of(self, record: Record) -> str:
        """The row's caption; "" where it has none. Of a list the first.

        Raises RowError if a field is missing or no string, SkipRow if the joined file has no caption for the row.
        """
        if self._joined is not None and self._options.join is not None:
            found = self._joined.get(record.name(self._options.join.on))
            if found is None and self._preview:
                found = self._joined.any()
            if found is None:
                raise SkipRow(Skip.NO_CAPTION)
            return self._cleaned(found)
        for field in self._options.fields:
            value = record.get(field)
            if isinstance(value, list) and value:
                value = value[0]
            if value is not None and (text := self._cleaned(as_text(value, f"{record.where}: {field}"))):
                return text
        return ""

    def _cleaned(self, text: str) -> str:
        for step in self._options.clean:
            name, _, argument = step.partition(":")
            text = CLEAN[name](text.strip(), argument)
        return text.strip()
