"""Whether a picture is under- or overexposed: a signal that reads another, measured in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Device, Values
from pipelines.signals import Options as Base

VERSION = 1
FIELDS = {"stops": pa.float32()}
NEEDS = ()
READS = ("brightness",)


class Options(Base):
    """Options of `[signals.exposure]`."""

    middle: float = 118.0
    """Brightness of a picture that is exposed as it should be."""


class Model:
    """Here a logarithm, elsewhere a network on `device.name`."""

    def __init__(self, options: Options, device: Device) -> None:
        self.middle = options.middle

    def prepare(self, row: Row) -> float:
        """What `measure` needs of one row."""
        return float(row.signals["brightness"]["mean"])

    def measure(self, batch: Sequence[float]) -> list[Values]:
        """Stops above or below the middle."""
        stops = np.log2(np.maximum(np.array(batch), 1) / self.middle)
        return [{"stops": round(float(value), 2)} for value in stops]
