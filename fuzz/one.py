"""Fuzz one target: `python -m fuzz.one TARGET LIBFUZZER_OPTIONS ...`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["janus", "pipelines", "schemas", "storage", "PIL", "protego", "tarfile"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
