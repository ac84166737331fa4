"""Peak memory of this process.

Not from getrusage: its ru_maxrss begins with what the parent had when it started the process, and hides all below that.
"""

from __future__ import annotations

from pathlib import Path


def peak() -> int:
    """MiB of resident memory at its peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024
