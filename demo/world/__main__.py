"""`python -m demo.world --out DIR`: write the built-in world to disk."""

from __future__ import annotations

from pathlib import Path

from demo.world.world import WorldConfig, write_world
from janus.cli import parse, run


def write(out: Path, scenes: int = 8000, seed: int = 0, heldout: int = 300) -> None:
    """Write the shapes world: training sources in real layouts, held-out tests, and the truth about its damage.

    Args:
        out: Folder to write. A world that is there already and is the same is kept.
        scenes: Training scenes, roughly.
        seed: The same seed gives the same bytes.
        heldout: Held-out scenes.
    """
    written = write_world(out, WorldConfig(scenes, seed, heldout))
    print(f"{out}: {'written' if written else 'up to date'}")


def main() -> None:
    """Run the command."""
    parse(write, prog="python -m demo.world")


if __name__ == "__main__":
    run(main)
