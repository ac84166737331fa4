"""Builds a corpus and kills itself (`kill -9`) the moment a certain file is about to be put in place.

    python -m tests.pipelines.kill_at SPEC.json CORPUS PATTERN

PATTERN is that file's path in the corpus, "snapshots/*" for instance.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pipelines.build import build
from schemas.spec import CorpusSpec, Operations


def main() -> None:
    """See the module's docstring."""
    spec = CorpusSpec.model_validate_json(Path(sys.argv[1]).read_text())
    corpus, pattern = Path(sys.argv[2]), sys.argv[3]
    replace = os.replace

    def deadly(source: Any, target: Any) -> None:
        if fnmatch.fnmatch(Path(target).relative_to(corpus).as_posix(), pattern):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = deadly
    build(spec, corpus, Operations())


if __name__ == "__main__":
    main()
