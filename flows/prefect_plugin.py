"""Makes `prefect deployment run build-stage2-corpus` work as typed.

Prefect names a deployment FLOW/DEPLOYMENT and refuses a bare name. Ours are called like their flow, so the bare name
says all there is to say. Prefect offers no alias, but it calls the `setup_environment` hook of every plugin before a
command runs: this one writes the long form into the command line. Plugins are off by default; `[tool.prefect.plugins]`
in the checkout's pyproject.toml switches them on, which Prefect reads from the working directory.
"""

from __future__ import annotations

import sys
from typing import Any

from prefect.plugins import register_hook

FLOWS = ("build-stage1-corpus", "build-stage2-corpus", "build-stage3-corpus", "refresh-corpora")
"""Names of our flows, each also the name of its deployment."""


def full_name(argv: list[str]) -> list[str]:
    """The command line `argv` with a bare deployment name of ours written as FLOW/DEPLOYMENT.

    Only words after `deployment` are touched (`run`, `inspect`, `pause` ... alike), whatever options stand around them.
    """
    if "deployment" not in argv[1:]:
        return argv
    start = argv.index("deployment", 1)
    return [f"{word}/{word}" if position > start and word in FLOWS else word for position, word in enumerate(argv)]


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """Prefect's start-up hook: rewrites the command line in place, before the command itself parses it."""
    sys.argv[:] = full_name(sys.argv)
