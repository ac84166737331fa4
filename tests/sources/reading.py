"""What the download step would read for one reference."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from pipelines.reading.gate import Gate
from pipelines.reading.local import LocalImages
from schemas.sample import ImageRef


def read_image(ref: ImageRef, root: Path, max_bytes: int = 1 << 20) -> bytes:
    with contextlib.closing(LocalImages([ref], {None: Gate(root)}, Path(tempfile.gettempdir()), max_bytes)) as images:
        return images.read(ref)
