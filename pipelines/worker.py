"""A worker process of the local engine: Beam's own, without its some 25 log lines per worker."""

from __future__ import annotations

import sys

from pipelines.quiet import quiet_beam

if __name__ == "__main__":
    quiet_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
