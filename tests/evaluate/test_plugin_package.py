"""A benchmark of another package, by its entry point alone (design D13)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from janus.evaluate import __main__ as command
from janus.evaluate.benchmark import BENCHMARKS
from janus.evaluate.results import read_results
from tests.evaluate.worlds import write_data, write_model

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin_package"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, installed into a folder that this process looks into."""
    copy = shutil.copytree(PACKAGE, tmp_path / "source")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    install += ["--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), str(copy)]
    subprocess.run(install, check=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    BENCHMARKS.__dict__.pop("_others", None)
    yield
    BENCHMARKS.__dict__.pop("_others", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "janus_example"]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_it_stands_in_the_help_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.read_command(["--benchmarks", "upright", "--help"])
    shown = capsys.readouterr().out
    assert "upright: Is the picture upright?" in shown
    assert "--upright.folder" in shown
    data = write_data(tmp_path / "data", pictures=2)
    for kind, name in (("upright", "0.png"), ("turned", "1.png")):
        (data / "photos" / kind).mkdir(parents=True)
        shutil.copy(data / name, data / "photos" / kind)
    words = ["--model", str(write_model(tmp_path / "model")), "--data", str(data), "--benchmarks", "upright"]
    monkeypatch.setattr(sys, "argv", ["", *words, "--out", str(tmp_path / "out"), "--device", "cpu"])
    command.main()
    record = read_results(tmp_path / "out")["benchmarks"]["upright"]
    assert (record["title"], record["items"]) == ("Upright", 2)
    assert {"accuracy", "unreadable", "upright", "turned"} == set(record["scores"])
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_example_of_the_guide_is_the_file_of_the_package() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("### A benchmark\n")[1].split("\n### ")[0].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    entry = re.search(r"```toml\n(\[project.entry-points.*?)```", section, re.DOTALL)
    assert code is not None
    assert entry is not None
    assert code[1] == (PACKAGE / "janus_example" / "upright.py").read_text()
    assert len(code[1].splitlines()) <= 40
    assert entry[1] in (PACKAGE / "pyproject.toml").read_text()
