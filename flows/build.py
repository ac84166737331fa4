"""The three corpus flows and the refresh: the steps of `pipelines` as Prefect tasks, nothing more.

A task is one step over all shards (design D5). What is done is known from the shards' manifests alone, so a flow that
died, or is run again for no reason, does only what is missing; Prefect's own result cache stays unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import pydantic
from prefect import Flow, Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from flows import crashed_runs, progress
from flows.artifacts import publish_artifacts
from flows.serve import serve_all
from janus.cli import USER_ERRORS
from janus.workspace import FILE, Workspace, find_workspace
from pipelines import build as pipelines_build
from pipelines.engine import is_retryable
from pipelines.steps.context import Build, Shard
from pipelines.steps.publish import Superseded
from schemas.manifest import Snapshot
from schemas.spec import CorpusSpec, Operations, load_spec
from storage.places import is_url, join

RETRIES = 3
BACKOFF_S = 5
"""Delays before retries: 5, 10 and 20 seconds, give or take half."""


def _worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass by itself."""
    try:
        state.result()
    except Exception as error:
        return is_retryable(error)
    return False


@task(
    task_run_name="{name}",
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF_S),
    retry_jitter_factor=0.5,
    retry_condition_fn=_worth_retrying,
    cache_policy=NO_CACHE,
)
def step(name: str, build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """One step over all shards; those that have its result already are left alone."""
    with progress.shown_as_artifact(build.spec.name, name):
        return pipelines_build.STEPS[name](build, shards)


@task(task_run_name="publish", cache_policy=NO_CACHE)
def publish(build: Build, shards: Sequence[Shard]) -> Snapshot:
    """Publish the snapshot atomically, delete old ones, and show what came of it."""
    snapshot = pipelines_build.finish(build, shards)
    publish_artifacts(build.corpus, snapshot)
    return snapshot


def build_corpus(
    spec: str,
    out: str,
    variables: dict[str, str],
    operations: Operations,
    serve: dict[str, str],
    stage: int | None = None,
) -> str:
    """Build or refresh one corpus inside a flow run; returns the name of its newest snapshot.

    Raises ValueError or FileNotFoundError with one line for what a user has to correct.
    """
    crashed_runs.claim(out)
    loaded = load_spec(spec, variables)
    if stage not in (None, loaded.stage):
        raise ValueError(f"{spec}: stage = {loaded.stage}; run the flow build-stage{loaded.stage}-corpus for it")
    corpus = join(out if is_url(out) else Path(out).resolve(), loaded.name)
    logger = get_run_logger()
    with ExitStack() as stack:
        resolve = {**operations.resolve, **stack.enter_context(serve_all(serve))}
        operations = operations.model_copy(update={"resolve": resolve})
        while True:
            try:
                build, snapshot = _run(loaded, corpus, operations)
                break
            except Superseded as error:
                logger.warning("%s", error)
    unchanged = build.parent is not None and build.parent.name == snapshot.name
    logger.info("%s: %s %s", corpus, "nothing to do, up to date at" if unchanged else "published", snapshot.name)
    return snapshot.name


def _run(spec: CorpusSpec, corpus: str, operations: Operations) -> tuple[Build, Snapshot]:
    """All steps, as tasks. Raises Superseded if another build published meanwhile."""
    with pipelines_build.opened(spec, corpus, operations, progress.report) as build:
        shards: list[Shard] = []
        for name in pipelines_build.STEPS:
            shards = step(name, build, shards)
        return build, publish(build, shards)


def _workspace() -> Workspace:
    return find_workspace() or Workspace()


def _corpus_flow(stage: int) -> Flow[..., str]:
    @flow(
        name=f"build-stage{stage}-corpus",
        description=f"Build a stage {stage} corpus from its spec, or bring it up to date. Does only what is missing.",
        flow_run_name=lambda: flow_run.parameters["spec"] or _workspace().spec(stage),
    )
    def build_stage_corpus(
        spec: str | None = None,
        out: str | None = None,
        variables: dict[str, str] | None = None,
        operations: Operations | None = None,
        serve: dict[str, str] | None = None,
    ) -> str:
        """Build one corpus. What is not given is taken from the workspace file, janus-forge.toml.

        Args:
            spec: Corpus spec (TOML).
            out: Folder that holds corpora; this one becomes OUT/<name of the corpus>.
            variables: Values of the spec's {variables}, beside those of the workspace.
            operations: How the work is done: workers, engine, connections and so on.
            serve: Folders to serve on 127.0.0.1 meanwhile, by the "host:port" they stand for; {} for none.
        """
        space = _workspace()
        if spec is None:
            space.check_model("there")
        return build_corpus(
            spec or space.spec(stage),
            out or space.corpora,
            space.settled(variables or {}),
            operations or Operations(),
            space.served if serve is None else serve,
            stage,
        )

    return build_stage_corpus


build_stage1_corpus = _corpus_flow(1)
build_stage2_corpus = _corpus_flow(2)
build_stage3_corpus = _corpus_flow(3)
FLOWS = {1: build_stage1_corpus, 2: build_stage2_corpus, 3: build_stage3_corpus}


@flow(
    name="refresh-corpora",
    description="Bring corpora up to date: only new data is processed, older snapshots keep working.",
)
def refresh_corpora(
    specs: list[str] | None = None,
    out: str | None = None,
    variables: dict[str, str] | None = None,
    operations: Operations | None = None,
    serve: dict[str, str] | None = None,
    keep_last: Annotated[int, pydantic.Field(ge=1)] = 5,
) -> list[str]:
    """Refresh corpora one after the other, each as a run of its own flow; returns the names of their snapshots.

    A corpus that fails does not keep the others from being refreshed; the run fails at the end, naming it. What is not
    given is taken from the workspace file, janus-forge.toml.

    Args:
        specs: Corpus specs (TOML).
        out: Folder that holds the corpora.
        variables: Values of the specs' {variables}, beside those of the workspace.
        operations: How the work is done.
        serve: Folders to serve on 127.0.0.1 meanwhile, by the "host:port" they stand for; {} for none.
        keep_last: Newest snapshots kept of each corpus; shards that none of them uses are deleted.
    """
    how = (operations or Operations()).model_copy(update={"keep_last": keep_last})
    space = _workspace()
    out = out or space.corpora
    crashed_runs.claim(out)
    if specs is None:
        specs = [spec for _, spec in sorted(space.specs.items())]
        if not specs:
            raise ValueError(f"no corpus specs given, and {space.file or FILE} names none")
    names, problems = [], []
    for spec in specs:
        try:
            build = FLOWS[load_spec(spec, space.settled(variables or {})).stage]
            names.append(build(spec, out, variables, how, serve))
        except Exception as error:  # a bug in one, too, must not keep the others from being refreshed
            get_run_logger().error("%s", spec, exc_info=None if isinstance(error, USER_ERRORS) else error)
            problems.append(f"{spec}: {_one_line(error)}")
    if problems:
        raise ValueError("; ".join(problems))
    return names


def _one_line(error: Exception) -> str:
    """What went wrong, for a list; the kind is said of what no user causes."""
    text = " ".join(str(error).split())
    return text if isinstance(error, USER_ERRORS) and text else f"{type(error).__name__}: {text}"
