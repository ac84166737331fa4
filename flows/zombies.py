"""Runs that were killed do not stay "Running" for ever.

Prefect learns of a run's end from the run itself, so one that is killed together with its worker (or was started from
a script) stays Running. But a build holds the lock of its corpus folder, and the operating system frees that lock when
the process dies. So whoever holds the lock knows that every other unfinished run on this corpus is dead, without any
clock or heartbeat: each build marks those as Crashed before it starts. The nightly refresh does the same.
"""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.states import Crashed

PAGE = 200
"""Most runs marked at once: the API's page size. More than a few dead runs of one corpus are never expected."""


def corpus_tag(corpus: str) -> str:
    """The tag that marks runs on the corpus folder `corpus` (an absolute path)."""
    return f"corpus:{corpus}"


def claim(corpus: str) -> list[str]:
    """Tag the current run with its corpus and mark every other unfinished run on it as Crashed; returns their names.

    Call inside a flow, while holding the lock of the corpus.
    """
    context = FlowRunContext.get()
    assert context is not None, "claim() is for use inside a flow"
    assert context.flow_run is not None
    mine = context.flow_run
    tag = corpus_tag(corpus)
    with get_client(sync_client=True) as client:
        others = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(
                {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}}
            ),
            sort=FlowRunSort.START_TIME_DESC,
            limit=PAGE,
        )
        dead = [run for run in others if run.id != mine.id]
        for run in dead:
            message = f"The process died: {mine.name} holds the lock of this run's corpus."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        client.update_flow_run(mine.id, tags=sorted({*mine.tags, tag}))
    return [run.name for run in dead]
