"""A worker process of the local engine: Beam's own, tied to the build (whose process id is the argument) and quiet."""

from __future__ import annotations

import signal
import socket
import sys

from pipelines.engine.quiet import quiet_beam
from pipelines.lifeline import Lifeline

if __name__ == "__main__":
    Lifeline(int(sys.argv[1]), socket.gethostname()).hold()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the build decides and ends us
    quiet_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
