from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ParameterTypeError

from flows.build import build_stage1_corpus, build_stage2_corpus, refresh_corpora
from pipelines import build as pipelines_build
from pipelines import verify
from pipelines.build import build as build_directly
from schemas.manifest import load_snapshot
from schemas.spec import Operations, load_spec
from tests.pipelines.steps_for_tests import FailsOnce
from tests.pipelines.world import contents, image_folder

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def arguments(spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path) -> dict[str, Any]:
    variables = {"photos": str(photos), "janus": str(tiny_janus)}
    return {"spec": str(spec), "out": str(tmp_path / "corpora"), "variables": variables}


def last_run(flow: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": [flow]}}),
            sort=FlowRunSort.START_TIME_DESC,
            limit=1,
        )
    return found[0]


def test_a_flow_makes_what_the_pipeline_makes_and_a_second_run_makes_nothing(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    name = build_stage2_corpus(**arguments)
    corpus = tmp_path / "corpora" / "photos"
    snapshot = load_snapshot(corpus)
    assert snapshot.name == name
    assert snapshot.funnel["photos"] == {"rows": 12, "kept": 10, "too_small": 1, "missing_file": 1}
    build_directly(load_spec(arguments["spec"], arguments["variables"]), tmp_path / "direct", Operations())
    assert contents(corpus) == contents(tmp_path / "direct")

    times = {path: path.stat().st_mtime_ns for path in corpus.rglob("*") if path.is_file() and path.name != ".lock"}
    assert build_stage2_corpus(**arguments) == name
    assert {path: path.stat().st_mtime_ns for path in times} == times


def artifacts(run: FlowRun) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}}), limit=50
        )
    return {str(artifact.key): artifact for artifact in found}


def test_the_run_shows_its_funnel_pictures_and_progress(arguments: dict[str, Any]) -> None:
    import json

    build_stage2_corpus(**arguments)
    shown = artifacts(last_run("build-stage2-corpus"))
    rows = {row["what"]: row["rows"] for row in json.loads(shown["photos-funnel"].data)}
    assert rows == {"in": 12, "kept": 10, "dropped: too_small": 1, "failed: missing_file": 1}
    assert shown["photos-samples"].data.startswith("data:image/jpeg;base64,")
    steps = ("plan", "download", "measure", "decide", "tokenize")
    assert {step: shown[f"photos-{step}"].data for step in steps} == dict.fromkeys(steps, 100.0)
    assert "photos-scores" not in shown  # nothing was scored


def test_without_parameters_a_flow_builds_what_the_workspace_says(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = arguments["variables"]
    (tmp_path / "janus-forge.toml").write_text(
        f'corpora = "made"\nmodel = "{variables["janus"]}"\n[specs]\n2 = "{arguments["spec"]}"\n'
        f'[variables]\nphotos = "{variables["photos"]}"\n'
    )
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    name = build_stage2_corpus()
    assert load_snapshot(tmp_path / "made" / "photos").name == name
    assert last_run("build-stage2-corpus").name == arguments["spec"]
    assert refresh_corpora() == [name]
    monkeypatch.setattr(sys, "argv", ["verify"])
    assert verify.main() == 0
    monkeypatch.setattr(sys, "argv", ["build", arguments["spec"]])
    assert pipelines_build.main() == 0
    shown = capsys.readouterr().out
    assert "../made/photos: " in shown
    assert f"../made/photos/snapshots/{name}.json: 10 rows" in shown
    with pytest.raises(ValueError, match=r"no corpus spec given, and \.\./janus-forge.toml names none for stage 1"):
        build_stage1_corpus()
    (tmp_path / "janus-forge.toml").write_text(f'model = "nowhere"\n[specs]\n2 = "{arguments["spec"]}"\n')
    with pytest.raises(FileNotFoundError, match=r"^\.\./nowhere: no model there, which .*; `make demo` leaves one"):
        build_stage2_corpus()


def test_a_spec_of_another_stage_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="stage = 2; run the flow build-stage2-corpus"):
        build_stage1_corpus(**arguments)
    assert last_run("build-stage1-corpus").state_name == "Failed"


def test_refresh_processes_new_rows_only_and_keeps_the_newest_snapshots(
    arguments: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpora" / "photos"
    first = build_stage2_corpus(**arguments)
    old = load_snapshot(corpus)
    lines = (photos / "captions.jsonl").read_text()
    names = []
    for number in (20, 21):
        image_folder(photos, [number])
        lines += (photos / "captions.jsonl").read_text()
        (photos / "captions.jsonl").write_text(lines)
        refresh = {**arguments, "specs": [arguments["spec"]], "keep_last": 2}
        del refresh["spec"]
        names += refresh_corpora(**refresh)
    newest = load_snapshot(corpus)
    assert (newest.number, newest.parent, newest.name) == (3, names[0], names[1])
    assert newest.funnel["photos"]["kept"] == 12
    assert {shard.path for shard in old.shards} < {shard.path for shard in newest.shards}
    assert [shard.rows for shard in newest.shards if shard.first_snapshot == 3] == [1]
    kept = sorted(path.stem for path in (corpus / "snapshots").glob("*.json"))
    assert kept == sorted(names)
    assert first not in kept


def test_refresh_keeps_at_least_one_snapshot(arguments: dict[str, Any]) -> None:
    """Refused when it starts, not when a new snapshot is out and old ones are to be deleted."""
    with pytest.raises(ParameterTypeError, match="keep_last: Input should be greater than or equal to 1"):
        refresh_corpora([arguments["spec"]], arguments["out"], arguments["variables"], keep_last=0)
    assert not Path(arguments["out"]).exists()


def test_refresh_goes_on_after_a_corpus_that_fails(arguments: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(
        Path(arguments["spec"]).read_text().replace('"photos"', '"broken"', 1).replace("{photos}", "/nowhere")
    )
    no_toml = tmp_path / "no.toml"
    no_toml.write_text("name = ")
    unreadable = "/proc/self/mem"  # a file whose reading is an I/O error, whoever runs the test
    bad = [str(no_toml), unreadable, str(broken)]
    named = r"no\.toml: Invalid value.*; /proc/self/mem: OSError: .*; .*broken\.toml: .*nowhere: no such file"
    with pytest.raises(ValueError, match=named):
        refresh_corpora([*bad, arguments["spec"]], arguments["out"], arguments["variables"])
    assert load_snapshot(tmp_path / "corpora" / "photos").rows() == 10
    ended = last_run("refresh-corpora").state
    assert ended is not None
    assert ended.name == "Failed"
    assert "no.toml" in str(ended.message)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.ENOSPC, "No space left on device")])
def test_refresh_goes_on_after_what_the_spec_did_not_cause(
    error: Exception, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first corpus of two fails as it is published."""
    other = tmp_path / "other.toml"
    other.write_text(Path(arguments["spec"]).read_text().replace('"photos"', '"other"', 1))
    finish = pipelines_build.finish

    def fails_for_other(context: Any, shards: Any) -> Any:
        if context.spec.name == "other":
            raise error
        return finish(context, shards)

    monkeypatch.setattr(pipelines_build, "finish", fails_for_other)
    with pytest.raises(ValueError, match=rf"^\S+other\.toml: {type(error).__name__}: .*(a bug|No space left)"):
        refresh_corpora([str(other), arguments["spec"]], arguments["out"], arguments["variables"])
    assert load_snapshot(tmp_path / "corpora" / "photos").rows() == 10


@pytest.mark.parametrize("in_a_shard", [True, False])
@pytest.mark.parametrize("error", [OSError("a hiccup"), ValueError("a mistake")])
def test_a_hiccup_is_tried_again_and_a_mistake_is_not(
    error: Exception, in_a_shard: bool, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import build

    tried: list[str] = []
    measure = pipelines_build.STEPS["measure"]

    def first_fails(context: Any, shards: Any) -> Any:
        tried.append("measure")
        if in_a_shard:
            context.run("measure", FailsOnce(error, tmp_path), [("photos/0", 0), ("photos/1", 1)])
        elif len(tried) == 1:
            raise error
        return measure(context, shards)

    monkeypatch.setattr(pipelines_build, "STEPS", {**pipelines_build.STEPS, "measure": first_fails})
    monkeypatch.setattr(build, "step", build.step.with_options(retry_delay_seconds=0.01))
    if isinstance(error, ValueError):
        with pytest.raises(ValueError, match="photos/0: a mistake" if in_a_shard else "a mistake"):
            build_stage2_corpus(**arguments)
        assert len(tried) == 1
    else:
        build_stage2_corpus(**arguments)
        assert len(tried) == 2
