"""Fuzz every target in turn, each in a process of its own: `python -m fuzz --seconds 600`.

Inputs that crash a target are left in the folder `--out`, named by the target; exit code 1 if there is one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("image", "policies", "rows", "tar", "shard", "manifest", "weights")


@dataclass
class Command:
    """Fuzz the readers of bytes that others make."""

    seconds: int = 600
    """Time over all targets."""
    targets: tuple[str, ...] = NAMES
    """Which; see fuzz/targets.py."""
    pictures: Path | None = Path("../shared/data/bad_images")
    """Folder of pictures to start from; one that is absent is left out."""
    out: Path = Path("runs/fuzz")
    """Folder for inputs found, and for those that crash."""


def main() -> int:
    """Command line."""
    from janus.cli import UserError, parse

    command = parse(Command, prog="python -m fuzz")
    if unknown := set(command.targets) - set(NAMES):
        raise UserError(f"no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        raise UserError("fuzzing needs atheris: pip install -e .[fuzz]") from None
    failed = []
    each = max(1, command.seconds // max(1, len(command.targets)))
    for name in command.targets:
        corpus, crashes = command.out / "inputs" / name, command.out / "crashes"
        for folder in (corpus, crashes):
            folder.mkdir(parents=True, exist_ok=True)
        _plant(name, corpus, command.pictures)
        print(f"{name}: {each} s", flush=True)
        if subprocess.run([sys.executable, "-m", "fuzz.one", name, *_options(each, corpus, crashes / name)]).returncode:
            failed.append(name)
    print(f"crashes: {', '.join(failed)} (inputs in {command.out / 'crashes'})" if failed else "no crash")
    return 1 if failed else 0


def _plant(name: str, corpus: Path, pictures: Path | None) -> None:
    from fuzz.seeds import seeds

    for number, data in enumerate(seeds(name, pictures if pictures and pictures.is_dir() else None)):
        (corpus / f"seed-{number}").write_bytes(data)


def _options(seconds: int, corpus: Path, crashes: Path) -> Sequence[str]:
    """Of libFuzzer: memory and time per input are bounded too."""
    limits = ["-timeout=20", "-rss_limit_mb=4096", "-max_len=200000"]
    return [f"-max_total_time={seconds}", *limits, f"-artifact_prefix={crashes}-", "-print_final_stats=1", str(corpus)]


if __name__ == "__main__":
    from janus.cli import run

    run(main)
