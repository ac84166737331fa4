"""WebDataset tars of exported rows: a picture, a caption and a .json with the rest under one number."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_tars(rows: Iterable[dict[str, Any]], folder: Path, file_bytes: int) -> int:
    """Write `folder`/train-00000.tar and so on, each closed when it is over `file_bytes`. Returns the rows.

    000000017.jpg (of several pictures 000000017.0.jpg, 000000017.1.jpg), .txt if there is a caption, and .json.
    """
    tar: tarfile.TarFile | None = None
    files = count = 0
    try:
        for row in rows:
            if tar is None:
                tar = tarfile.open(folder / f"train-{files:05d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
                files += 1
            name, pictures = f"{count:09d}", row.pop("pictures")
            for index, picture in enumerate(pictures):
                suffix = picture.pop("path").rpartition(".")[2]
                number = "" if len(pictures) == 1 else f".{index}"
                _add(tar, f"{name}{number}.{suffix}", picture.pop("bytes"))
            if row["caption"] is not None:
                _add(tar, f"{name}.txt", row["caption"].encode())
            row["columns"] = json.loads(row["columns"]) if row["columns"] else None
            _add(tar, f"{name}.json", json.dumps({**row, "origin": pictures}, ensure_ascii=False).encode())
            count += 1
            if tar.offset >= file_bytes:
                tar.close()
                tar = None
    finally:
        if tar is not None:
            tar.close()
    return count


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
