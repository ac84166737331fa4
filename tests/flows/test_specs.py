from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from flows import build
from flows.prefect_plugin import FLOWS
from schemas.spec import load_spec

ROOT = Path(__file__).parents[2]
VARIABLES = {"world": "w", "janus": "j", "clip": "c"}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_built_in_worlds_specs_are_whole(stage: int) -> None:
    spec = load_spec(ROOT / f"demo/corpora/shapes-stage{stage}.toml", VARIABLES)
    assert (spec.name, spec.stage) == (f"shapes-stage{stage}", stage)
    tasks = {source.task for source in spec.sources}
    assert tasks == ({"understanding", "generation"} if stage == 1 else {"understanding", "generation", "text"})
    # Web captions are damaged on purpose: wherever they are used, their score decides.
    for source in spec.sources:
        if source.format == "url_list":
            assert "caption_score" in (source.filters or spec.filters)


def test_every_flow_has_a_deployment_of_its_name_with_parameters_it_takes() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert tuple(one["name"] for one in deployments) == FLOWS
    for one in deployments:
        module, name = one["entrypoint"].rsplit(".", 1)
        assert module == build.__name__
        flow = getattr(build, name)
        assert flow.name == one["name"]
        inspect.signature(flow.fn).bind(**one.get("parameters", {}))
        assert one["concurrency_limit"]["limit"] == 1
        assert one["work_pool"]["name"] == "local"
    assert [bool(one.get("schedules")) for one in deployments] == [False, False, False, True]
