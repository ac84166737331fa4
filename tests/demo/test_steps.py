from __future__ import annotations

from pathlib import Path

import pytest

from demo import __main__ as command
from demo import steps as demo
from demo.chain import Step
from demo.dependencies import PACKAGES, ROOT
from flows.corpus import Command
from janus import cli
from janus.evaluate.__main__ import read_command
from janus.train.__main__ import read_command as read_train_command


@pytest.fixture(scope="module")
def steps() -> dict[str, Step]:
    return {step.name: step for step in demo.plan(Path("runs/demo"), scenes=100, seed=1)}


def test_every_step_reads_only_what_earlier_steps_make(steps: dict[str, Step]) -> None:
    made: set[str] = set()
    for step in steps.values():
        assert set(step.needs) <= made
        made.add(step.name)
        for name in step.data:
            assert (ROOT / name).exists(), name


def test_commands_are_accepted_by_the_programs_they_call(steps: dict[str, Step]) -> None:
    """Drift between the demo and a command line shows here, not after five minutes of `make demo`."""
    corpora = cli.parse(Command, prog="", args=steps["corpora"].arguments)
    assert [Path(spec).stem for spec in corpora.specs] == list(demo.CORPORA)
    assert corpora.serve == (("shapes.test:80=runs/demo/world/http",),)
    for stage in demo.STAGES:
        train = read_train_command(list(steps[f"train{stage}"].arguments))
        assert (train.recipe.stage, train.recipe.preset) == (stage, "tiny")
        start = f"train/stage{stage - 1}/model" if stage > 1 else "base/janus"
        assert train.model == Path("runs/demo") / start
        assert Path(train.data) == Path("runs/demo/corpora") / demo.CORPORA[stage - 1]
    evaluate, benchmarks = read_command(steps["evaluate"].arguments)
    assert (evaluate.model, evaluate.baseline) == ("runs/demo/train/stage3/model", "runs/demo/base/janus")
    assert list(benchmarks) == ["pope", "multiple_choice", "counting", "geneval"]
    assert benchmarks["geneval"].detector == "shapes"
    assert benchmarks["geneval"].images_per_prompt == 1


def test_long_steps_resume_and_quick_ones_start_anew(steps: dict[str, Step]) -> None:
    resuming = {name for name, step in steps.items() if step.resumes}
    assert resuming == {"corpora", "train1", "train2", "train3"}


def test_training_that_was_stopped_is_not_taken_for_done(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="stopped before its last step"):
        demo.model_digest(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    before = demo.model_digest(tmp_path)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"Weights")
    assert demo.model_digest(tmp_path) != before


def test_the_results_table_shows_every_number_beside_the_untrained_models() -> None:
    part = {"pope": {"accuracy": 0.9, "f1": 0.8}, "multiple_choice": {"accuracy": 0.7}, "counting": {"accuracy": 0.6}}
    part["geneval"] = {"single_object": 0.5, "overall": 0.4}
    table = command.results_table({**part, "caption_score": {"auc": 0.99}, "untrained": part})
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == [
        *("POPE accuracy", "POPE F1", "multiple choice", "counting"),
        *("GenEval single object", "GenEval overall", "caption score AUC"),
    ]
    assert columns[1] == ["0.900", "0.800", "0.700", "0.600", "0.500", "0.400", "0.990"]
    assert columns[2][:-1] == columns[1][:-1]


def test_a_world_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cli.UserError, match="--scenes 0: expected at least 1"):
        command.demo(tmp_path / "demo", scenes=0)
    assert list(tmp_path.iterdir()) == []


def test_every_data_file_of_the_packages_is_named_by_the_steps_that_read_it(steps: dict[str, Step]) -> None:
    """A new one fails here until it is named in demo/steps.py or left out below."""
    found = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")
    }
    unused = {
        path for path in found if path.startswith(("flows/corpora/", "janus/presets/janus-", "janus/presets/mini"))
    }
    assert {name for step in steps.values() for name in step.data} == found - unused
