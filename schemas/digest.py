"""Digests: how this project names content.

Every identity here (uids, shard keys, config and snapshot digests) is a SHA-256 over a canonical encoding, so the
same content has the same name on any machine, in any order, with any number of workers (design D1).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic


def canonical_json(value: Any) -> bytes:
    """Encode `value` as UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes.

    Pydantic models are dumped first. Raises ValueError for NaN and infinity, which have no JSON form.
    """
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value`, which JSON can hold, with `digest`, the digest of all else in it."""
    plain = json.loads(json.dumps(value))
    return {**plain, "digest": digest(plain)}


def check_sealed(value: Mapping[str, Any], where: str | os.PathLike[str]) -> None:
    """Raise ValueError with one line that names the file `where` if `value` is not as `sealed` made it."""
    if "digest" not in value:
        raise ValueError(f"{where}: no digest: written by an older version; continue the run with that one")
    if digest({name: item for name, item in value.items() if name != "digest"}) != value["digest"]:
        raise ValueError(f"{where}: damaged, or edited: its content is not what was written")


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in blocks (constant memory)."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
