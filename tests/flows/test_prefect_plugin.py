from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from flows import prefect_plugin
from flows.prefect_plugin import full_name

LONG = "build-stage2-corpus/build-stage2-corpus"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("prefect deployment run build-stage2-corpus", f"prefect deployment run {LONG}"),
        ("prefect deployment run --watch build-stage2-corpus", f"prefect deployment run --watch {LONG}"),
        (
            "prefect --no-prompt deployment inspect build-stage2-corpus",
            f"prefect --no-prompt deployment inspect {LONG}",
        ),
        (f"prefect deployment run {LONG}", f"prefect deployment run {LONG}"),
        ("prefect deployment run other", "prefect deployment run other"),
        ("prefect flow-run ls --flow-name build-stage2-corpus", "prefect flow-run ls --flow-name build-stage2-corpus"),
        ("prefect", "prefect"),
    ],
)
def test_bare_names_of_ours_are_written_out_after_deployment_only(typed: str, meant: str) -> None:
    assert full_name(typed.split()) == meant.split()


def test_the_plugin_is_registered_and_switched_on_in_the_checkout() -> None:
    (entry,) = importlib.metadata.entry_points(group="prefect.plugins", name="janus_forge")
    assert entry.load() is prefect_plugin
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert settings["tool"]["prefect"]["plugins"]["enabled"] is True
