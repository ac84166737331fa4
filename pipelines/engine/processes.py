"""The worker processes of the local engine: started, watched and ended here.

Beam's own handling waits for a worker that was killed (for memory, say) or stopped, and the build with it. So this
process starts the workers itself, and looks at them while the pipeline runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipelines.engine.failures import WorkerLost

PATIENCE_S = 5.0
"""Seconds for which a worker may be stopped (a terminal's Ctrl-Z, then fg), or be gone without an error while the
pipeline still runs (its end is a moment away)."""
LONGEST_STEP_S = 1.0
"""Longest time between two looks that counts: a machine that slept has not waited."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    abort: Callable[[Exception], None]
    stopped: bool = False
    wrong_for: float = 0.0
    """Seconds of looking for which it has been stopped or gone."""


_BY_KEY: weakref.WeakValueDictionary[bytes, WorkerProcesses] = weakref.WeakValueDictionary()


class WorkerProcesses:
    """The processes of one pipeline. Started from Beam's threads, checked from the driver's."""

    def __init__(self) -> None:
        self.key = uuid.uuid4().hex.encode()
        """Names this object inside a pipeline's description, which is made of bytes."""
        _BY_KEY[self.key] = self
        self._lock = threading.Lock()
        self._workers: dict[str, _Worker] = {}
        self._looked = time.monotonic()

    @staticmethod
    def by_key(key: bytes) -> WorkerProcesses:
        """The object of that key."""
        return _BY_KEY[key]

    def start(self, worker_id: str, environment: Mapping[str, str], abort: Callable[[Exception], None]) -> None:
        """Start `python -m pipelines.engine.worker` with `environment` on top of this process's own.

        `abort(error)` raises `error` wherever Beam waits for an answer of this worker.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.engine.worker", str(os.getpid())],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
        )
        with self._lock:
            self._workers[worker_id] = _Worker(process, abort)

    def stop(self, worker_id: str) -> None:
        """End a worker whose work is done: it exits by itself when Beam closes its connection."""
        with self._lock:
            worker = self._workers.pop(worker_id)
        try:
            worker.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()

    def kill(self, reason: Exception) -> None:
        """End all workers at once; `reason` is raised wherever Beam waits for their answers."""
        with self._lock:
            for worker in self._workers.values():
                worker.process.kill()
                worker.abort(reason)

    def check(self) -> None:
        """Raise WorkerLost if a worker was killed, has crashed, or has been stopped for a while."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LONGEST_STEP_S), now
        with self._lock:
            for worker in self._workers.values():
                _check(worker, passed)


def _check(worker: _Worker, passed: float) -> None:
    pid, code = worker.process.pid, worker.process.poll()
    if code is None:
        changed, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if changed and (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
            worker.stopped = os.WIFSTOPPED(status)
        elif changed:
            code = worker.process.returncode = os.waitstatus_to_exitcode(status)
    worker.wrong_for = worker.wrong_for + passed if worker.stopped or code is not None else 0.0
    if code is None and worker.wrong_for >= PATIENCE_S:
        raise WorkerLost(pid, "was stopped by a signal and is ended now; build again, which goes on with what is left")
    if code == -signal.SIGKILL:
        raise WorkerLost(
            pid,
            "was killed, most often by the system because memory ran out; build again, which goes on with what is "
            "left, and with fewer --workers if it happens again",
        )
    if code or (code == 0 and worker.wrong_for >= PATIENCE_S):
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise WorkerLost(pid, f"ended with {how}; build again, which goes on with what is left")
