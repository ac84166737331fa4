"""Loggers: what each writes down, how it goes on after a kill, and one that comes from another package."""

from __future__ import annotations

import json
import re
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from janus.train.__main__ import read_command
from janus.train.loggers import LOGGERS, Logger, Run, describe, flatten, open_loggers, read_options
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.recipe import Watch
from janus.train.record import Inputs
from tests.train.little import little_recipe
from tests.train.steps import QUIET

LINE = {"step": 20, "loss": {"all": 2.0, "text": 3.0, "generation": 1.0}, "lr": 0.5}
TRAIN = ["--stage", "1", "--preset", "tiny", "--model", "m", "--data", "d", "--out", "o"]
REPOSITORY = Path(__file__).resolve().parents[2]


def started(name: str, folder: Path, *options: str, start_step: int = 0) -> Logger:
    run = Run(folder, start_step, {"steps": 9, "optimizer": {"lr": 0.1}, "train": ["llm"]})
    return open_loggers([name], options, run)[name]


def twice(name: str, folder: Path, *options: str) -> None:
    """A run logs steps 1 to 5, is killed, and continues after its checkpoint of step 3 to step 6."""
    for start, stop, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        logger = started(name, folder, *options, start_step=start)
        for step in range(start + 1, stop + 1):
            logger.write({"step": step, "loss": {"all": loss}})
        logger.close()


def test_lines_of_steps_to_be_done_again_go(tmp_path: Path) -> None:
    first = started("json_lines", tmp_path)
    for step in (1, 2, 3, 4):
        first.write({"step": step})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    second = started("json_lines", tmp_path, start_step=3)
    second.write({"step": 4, "again": True})
    second.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 1},
        {"step": 2},
        {"step": 3},
        {"step": 4, "again": True},
    ]


def test_a_new_run_has_no_lines(tmp_path: Path) -> None:
    started("json_lines", tmp_path).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path / "nowhere.jsonl") == []


def test_nested_numbers_are_flat_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert flatten({"step": 1, "a": {"b": {"c": 2.0}, "d": 3}}) == {"step": 1, "a/b/c": 2.0, "a/d": 3}
    board = started("tensorboard", tmp_path)
    board.write(LINE)
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "step" not in events.Tags()["scalars"]
    (event,) = events.Scalars("loss/generation")
    assert (event.step, event.value) == (20, 1.0)


def test_tensorboard_hides_steps_that_were_done_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    twice("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss/all")]
    assert shown == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def records(file: Path) -> Iterator[bytes]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    data = file.read_bytes()
    place = 7
    while place < len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        assert kind == 1, "none of these small records is split"
        yield data[place + 7 : place + 7 + length]
        place += 7 + length


@pytest.mark.integration
def test_wandb_offline_writes_into_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    twice("wandb", tmp_path, "wandb.mode=offline", "wandb.project=mine")
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert len({file.name for file in files}) == 1, "both starts are one run"
    logged, projects = [], set()
    for data in (record for file in files for record in records(file)):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            projects.add(record.run.project)
        if record.HasField("history"):
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            logged.append((items["step"], items["loss/all"]))
    assert projects == {"mine"}
    first, second = [(step, 1.0) for step in range(1, 6)], [(step, 2.0) for step in range(4, 7)]
    assert sorted(logged) == sorted(first + second)


@pytest.mark.integration
def test_mlflow_writes_a_file_of_its_own(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path / "run"
    folder.mkdir()
    twice("mlflow", folder, "mlflow.experiment=mine")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"steps": "9", "optimizer.lr": "0.1", "train": "['llm']"}
    latest = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss/all")}
    assert latest == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 2.0}


@pytest.mark.integration
def test_trackio_writes_a_local_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    import sqlite3

    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path)
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    twice("trackio", folder, "trackio.project=mine")
    (file,) = tmp_path.glob("*.db")
    rows = sqlite3.connect(file).execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert {name for name, _, _ in rows} == {"run"}
    logged = [(step, json.loads(metrics)["loss/all"]) for _, step, metrics in rows]
    assert logged == [*((step, 1.0) for step in range(1, 6)), *((step, 2.0) for step in range(4, 7))]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_one_line_that_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ValueError, match=rf"^--watch.loggers {name}: .* pip install 'janus-forge\[{name}\]'$"):
        started(name, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--watch.loggers wandbb", "no logger 'wandbb' (did you mean wandb?); there are: json_lines, mlflow"),
        ("--watch.logger-options wandb.mode=offline", "wandb.mode=offline: wandb is not among --watch.loggers"),
        ("--watch.loggers wandb --watch.logger-options mode=offline", "mode=offline: expected NAME.OPTION=VALUE"),
        ("--watch.loggers wandb --watch.logger-options wandb.mode=of", "wandb.mode: Input should be 'online' or 'off"),
        (
            "--watch.loggers wandb --watch.logger-options wandb.x=1",
            "wandb: no option 'x'; there are: entity, mode",
        ),
        (
            "--watch.loggers json_lines --watch.logger-options json_lines.x=1",
            "json_lines: no option 'x'; there are: none",
        ),
    ],
)
def test_mistakes_are_one_line_at_once(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_command([*TRAIN, *words.split()])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_typed() -> None:
    (options,) = read_options(["wandb"], ["wandb.mode=offline", "wandb.entity=us=them"]).values()
    assert options.model_dump() == {"project": "janus-forge", "entity": "us=them", "mode": "offline"}


def install(folder: Path, entry_point: str, file: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install` leaves of a package with one logger, for this test only."""
    (folder / file).write_text(source)
    info = folder / "some_loggers-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-loggers\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[janus_forge.loggers]\n{entry_point}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(LOGGERS.__dict__, "_others", raising=False)


@pytest.fixture
def fresh_loggers() -> Any:
    yield
    LOGGERS.__dict__.pop("_others", None)


def contributing_example() -> tuple[str, str]:
    """The example of CONTRIBUTING.md: its entry point, and its file."""
    section = (REPOSITORY / "CONTRIBUTING.md").read_text().split("### A logger\n")[1].split("\n### ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    entry = re.search(r'"janus_forge.loggers"\]\n(\w+) = "(\w+)"', section)
    assert code is not None
    assert entry is not None
    return f"{entry[1]} = {entry[2]}", code[1]


@pytest.mark.usefixtures("fresh_loggers")
def test_the_example_of_contributing_is_found_and_runs(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry, code = contributing_example()
    assert code.count("\n") <= 40
    install(tmp_path, entry, f"{entry.split(' = ')[1]}.py", code, monkeypatch)
    with pytest.raises(SystemExit) as left:
        read_command(["--stage", "1", "--preset", "tiny", "--help"])
    assert left.value.code == 0
    shown = " ".join(re.sub(r"[│\n]", " ", capsys.readouterr().out).split())
    assert "csv: A table of the losses, for spreadsheets (csv.separator=,)" in shown
    watch = Watch(log_every=1, loggers=("json_lines", "csv"), logger_options=("csv.separator=;",))
    out = tmp_path / "run"
    train(little_recipe(1, steps=2, watch=watch), Inputs(model, corpus, out), Console(quiet=True), device="cpu")
    lines = (out / "losses.csv").read_text().splitlines()
    expected = [f"{line['step']};{line['loss']['all']}" for line in read_metrics(out / "metrics.jsonl")]
    assert lines == ["step;loss", *expected]
    assert len(expected) == 2


@pytest.mark.usefixtures("fresh_loggers")
def test_a_logger_of_another_package_is_found_and_runs(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = REPOSITORY / "tests" / "plugin_package"
    points = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]["janus_forge.loggers"]
    install(tmp_path, f"losses = {points['losses']}", "unused.py", "", monkeypatch)
    monkeypatch.syspath_prepend(str(package))
    assert "losses: A text file with the loss of each logged step (losses.digits=3)" in describe()
    watch = Watch(log_every=1, loggers=("json_lines", "losses"), logger_options=("losses.digits=5",))
    out = tmp_path / "run"
    train(little_recipe(1, steps=2, watch=watch), Inputs(model, corpus, out), QUIET, device="cpu")
    expected = [f"{line['step']} {line['loss']['all']:.5f}" for line in read_metrics(out / "metrics.jsonl")]
    assert (out / "losses.txt").read_text().splitlines() == expected
    assert len(expected) == 2


BROKEN = """\"\"\"Fails at its second line.\"\"\"
class Logger:
    def __init__(self, run, options):
        self.path, self.lines = run.folder / "seen", 0

    def write(self, line):
        self.lines += 1
        if self.lines == 2:
            raise ConnectionError("the server is gone")
        self.path.write_text(str(self.lines))

    def close(self):
        raise AssertionError("not closed again once it is off")
"""


@pytest.mark.usefixtures("fresh_loggers")
def test_a_logger_that_fails_does_not_stop_the_run(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken = broken_logger", "broken_logger.py", BROKEN, monkeypatch)
    out = tmp_path / "run"
    recipe = little_recipe(1, steps=4, watch=Watch(log_every=1, loggers=("broken", "json_lines")))
    with (tmp_path / "screen").open("w") as screen:
        assert train(recipe, Inputs(model, corpus, out), Console(file=screen, width=200), device="cpu")
    assert len(read_metrics(out / "metrics.jsonl")) == 4
    assert (out / "seen").read_text() == "1"
    shown = (tmp_path / "screen").read_text()
    assert shown.count("logger broken failed and is off from here: the server is gone") == 1
