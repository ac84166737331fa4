"""A share of the rows, picked by their uids: the same in every build, and all of a smaller share in a larger one."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask
from pipelines.filters import Options as Base

READS = ()


class Options(Base):
    """How many, and which."""

    share: float = pydantic.Field(gt=0, le=1)
    """Of the rows, to keep; about that many, for each row is judged by itself."""
    seed: int = 0
    """Another seed picks other rows."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where SHA-256 of seed and uid, as a fraction of its range, is not under `share`."""
    seed = f"{options.seed}:".encode()
    limit = int(options.share * 2**64)
    places = (hashlib.sha256(seed + uid).digest()[:8] for uid in table.column("uid").to_pylist())
    return np.array([int.from_bytes(place, "big") >= limit for place in places], dtype=np.bool_)
