"""The sizes Janus comes in and how each is trained: one TOML file per preset, found by being there.

    style, vocab_size, [text], [vision], [vq]   the model (`janus.model.presets`)
    [training]                                  fields of a recipe that all stages share (`janus.train.presets`)
    [stage.1], [stage.2], [stage.3]             fields of one stage

Sources: Janus (arXiv 2410.13848), section 4.1 and table 1; Janus-Pro technical report, tables 1 and 2; DeepSeek's
published config.json files. Imports neither torch nor transformers: `--help` reads these files.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def read_preset(name: str) -> dict[str, Any]:
    """The table of the preset `name`. Raises ValueError listing what there is."""
    if name not in NAMES:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(NAMES)}")
    return _read(name)


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
