"""Where a model lies: a folder on this machine, or a Hugging Face hub id that is fetched into the usual cache."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

SMALL_FILES = ("*.json", "*.jinja")
WEIGHTS = ("*.safetensors",)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def model_folder(source: str | Path, *, weights: bool = False) -> Path:
    """The local folder of `source`.

    Args:
        source: a folder, or a hub id such as "deepseek-community/Janus-Pro-1B" where no such folder exists.
        weights: fetch the weights of a hub id too, not only configuration and tokenizer.

    Raises FileNotFoundError with one line if it is neither.
    """
    folder = Path(source)
    if folder.exists():
        return folder
    if not _HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"{source}: no such folder")
    try:
        return Path(snapshot_download(str(source), allow_patterns=[*SMALL_FILES, *(WEIGHTS if weights else ())]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(f"{source}: no such folder, and not to be had from the hub: {reason}") from None
