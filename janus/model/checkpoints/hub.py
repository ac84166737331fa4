"""Where a model lies: a folder on this machine, or a Hugging Face hub id that is fetched into the usual cache."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

_SMALL_FILES = ("*.json", "*.jinja", "SHA256SUMS")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""In the order they are looked for: repositories that hold both hold the same weights twice."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def local_folder(source: str | Path, *, weights: bool = False) -> Path:
    """The local folder of `source`.

    Args:
        source: a folder, or a hub id such as "deepseek-community/Janus-Pro-1B" where no such folder exists.
        weights: fetch the weights of a hub id too, not only configuration and tokenizer.

    Raises FileNotFoundError with one line if it is neither.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{source}: a file; expected a model folder")
    if not _HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"{source}: no such folder")
    try:
        found = Path(snapshot_download(str(source), allow_patterns=list(_SMALL_FILES)))
        for pattern in _WEIGHTS if weights else ():
            found = Path(snapshot_download(str(source), allow_patterns=[*_SMALL_FILES, pattern]))
            if any(found.glob(pattern)):
                break
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"{source}: no such folder, and not to be had from the hub: {reason}") from None
    return found
