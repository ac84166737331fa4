"""Rows by the licence that their source states, by SPDX names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from pipelines.filters import Mask
from pipelines.filters import Options as Base

READS = ("licence.spdx",)


class Options(Base):
    """Which licences: one list or both. Names are SPDX's ("CC-BY-4.0", "MIT OR Apache-2.0")."""

    allow: list[str] | None = pydantic.Field(default=None, min_length=1)
    """Others are dropped, and rows without a licence or with one that SPDX does not know."""
    deny: list[str] = pydantic.Field(default_factory=list)
    """These are dropped."""

    @pydantic.field_validator("allow", "deny")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        try:
            return None if names is None else [str(canonicalize_license_expression(name)) for name in names]
        except InvalidLicenseExpression as error:
            raise ValueError(f"{error} (names of spdx.org/licenses; LicenseRef-... for others)") from None

    @pydantic.model_validator(mode="after")
    def _any(self) -> Options:
        if self.allow is None and not self.deny:
            raise ValueError("set allow, deny or both")
        if both := {*(self.allow or ())} & {*self.deny}:
            raise ValueError(f"{min(both)} is in both allow and deny")
        return self


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the licence is denied, or is not one of those allowed."""
    allow, deny = options.allow, {*options.deny}
    names = table.column("licence.spdx").to_pylist()
    return np.array([name in deny or (allow is not None and name not in allow) for name in names], dtype=np.bool_)
