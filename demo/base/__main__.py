"""`python -m demo.base --world DIR --out DIR`: fit the base models of the tiny preset, once."""

from __future__ import annotations

import json
from pathlib import Path

from janus.cli import UserError, console, parse, run


def fit(world: Path, out: Path) -> None:
    """Fit the tiny preset's base models: image tokenizer, open_clip model, text tokenizer and language model.

    Args:
        world: Folder written by `python -m demo.world`; the base models take its seed.
        out: Folder for `janus/` (where stage 1 starts) and `clip/` (scores captions). Kept if already right.
    """
    record = world / "world.json"
    if not record.is_file():
        raise UserError(f"{world}: no world here; run python -m demo.world --out {world}")
    # Late: torch and transformers take seconds, and --help needs neither.
    from demo.base.build import build_base

    fitted = build_base(out, json.loads(record.read_text())["config"]["seed"], console())
    print(f"{out}: {'fitted' if fitted else 'up to date'}")


def main() -> None:
    """Run the command."""
    parse(fit, prog="python -m demo.base")


if __name__ == "__main__":
    run(main)
