"""Builds corpora and kills the build (`kill -9`) at random moments until it has been killed often enough.

    python -m tests.pipelines.torment SPEC.json FOLDER KILLS SEED      (FOLDER may be an address)

Everything is imported once and each build runs in a fork, so that a round takes seconds. A corpus is built on from
kill to kill; when a build survives to its end, the next corpus is begun. Prints the finished corpora as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from pipelines.build import STEPS, build
from pipelines.engine.quiet import quiet_beam
from schemas.spec import CorpusSpec, Operations
from storage.places import join


def preload() -> None:
    """Import what a build needs, without running any of it: a fork must not inherit threads."""
    quiet_beam()
    for name in (
        *(f"pipelines.steps.{step}" for step in STEPS),
        "pipelines.steps.dedup_passes",
        "pipelines.engine.dofn",
    ):
        importlib.import_module(name)
    for name in (
        "janus.model.checkpoints.fingerprint",
        "janus.model.templates",
        "simplejpeg",
        "pipelines.steps.publish",
    ):
        importlib.import_module(name)


def start(spec: CorpusSpec, corpus: str) -> int:
    """Begin a build in a child process; returns its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            build(spec, corpus, Operations())
            code = 0
        finally:
            os._exit(code)
    return child


def main() -> None:
    """See the module's docstring."""
    spec = CorpusSpec.model_validate_json(Path(sys.argv[1]).read_text())
    folder, kills, seed = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    preload()
    choose = random.Random(seed)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(spec, join(folder, "undisturbed")), 0)[1]) == 0
    duration = time.monotonic() - began
    killed, finished, leftovers = 0, [], 0
    while killed < kills or not finished:
        corpus = join(folder, f"tormented-{len(finished)}")
        child = start(spec, corpus)
        if killed < kills:
            # Short lives too: the first instants of a build, and of one that resumes, are as good a moment as any.
            time.sleep(choose.uniform(0, duration if choose.random() < 0.5 else duration / 4))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        leftovers += len(list(Path(corpus).rglob(".tmp-*")))
        if code == -signal.SIGKILL:
            killed += 1
        elif code == 0:
            finished.append(corpus)
        else:
            sys.exit(f"a build failed by itself with exit code {code}")
    print(json.dumps({"killed": killed, "finished": finished, "leftovers": leftovers, "seconds": duration}))


if __name__ == "__main__":
    main()
