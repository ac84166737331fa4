"""Prefect sends nothing about its use: read back from Prefect itself, as it sees the checkout's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_prefect_commands_typed_in_the_checkout_send_no_telemetry(tmp_path: Path) -> None:
    # The settings of the user, and those that tests are run with, must not decide this.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT_TRACK"))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import prefect.settings as s; print(s.get_current_settings().server.analytics_enabled)",
        ],
        cwd=ROOT,
        env=kept | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
