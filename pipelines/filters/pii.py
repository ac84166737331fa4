"""Texts with personal data: e-mail addresses, phone, card and IP numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("pii.emails", "pii.ips", "pii.cards", "pii.phones")


class Options(Base):
    """How many of a kind are allowed. A kind that is left out is not looked at."""

    max_emails: int | None = pydantic.Field(default=None, ge=0)
    max_ips: int | None = pydantic.Field(default=None, ge=0)
    max_cards: int | None = pydantic.Field(default=None, ge=0)
    max_phones: int | None = pydantic.Field(default=None, ge=0)

    @pydantic.model_validator(mode="after")
    def _any(self) -> Options:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError("set at least one of max_emails, max_ips, max_cards, max_phones")
        return self


def drops(table: pa.Table, options: Options) -> Mask:
    """Where there are more of a kind than allowed."""
    dropped = np.zeros(table.num_rows, dtype=np.bool_)
    for option, most in options.model_dump(exclude_none=True).items():
        dropped |= numbers(table, f"pii.{option.removeprefix('max_')}") > most
    return dropped
