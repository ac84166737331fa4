"""The command `janus-forge`: finds commands, speaks by its own name, and knows when `janus` is somebody else's."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import janus_forge
from janus import cli
from tests.conftest import REPOSITORY

COMMAND = [sys.executable, str(REPOSITORY / "janus_forge.py")]


def called(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def _own_name() -> object:
    yield
    cli._STARTED_AS.clear()


@pytest.mark.parametrize("name", janus_forge.COMMANDS)
def test_every_command_has_a_module_with_a_main_and_an_example_of_itself(name: str) -> None:
    command = janus_forge.COMMANDS[name]
    spec = importlib.util.find_spec(command.module)
    assert spec is not None
    assert spec.origin is not None
    assert "\ndef main()" in Path(spec.origin).read_text()
    assert janus_forge.find(command.example.split()) == name
    assert name.endswith(" ".join(command.words))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trian"], "janus-forge trian: no such command (did you mean train?)"),
        (["corpus", "biuld"], "janus-forge corpus biuld: no such command (did you mean build?)"),
        (["completion", "fish"], "expected janus-forge completion bash|zsh"),
    ],
)
def test_a_typo_is_one_line_with_what_was_meant(words: list[str], complaint: str) -> None:
    with pytest.raises(cli.UserError) as caught:
        janus_forge.run_command(words)
    assert complaint in str(caught.value)


def test_help_lists_every_command_and_those_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert janus_forge.run_command([]) == 0
    everything = capsys.readouterr().out
    assert all(f"  {name} " in everything for name in (*janus_forge.COMMANDS, "completion"))
    assert janus_forge.run_command(["corpus", "--help"]) == 0
    group = capsys.readouterr().out
    assert "corpus verify" in group
    assert "  train" not in group


def test_help_and_errors_of_a_command_call_it_by_the_name_it_was_called_by() -> None:
    shown = called("export", "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: janus-forge export ")
    assert "janus-forge export runs/a/model --to deepseek" in shown.stdout
    wrong = called("train", "--stage", "one")
    assert wrong.returncode == 1
    assert wrong.stderr.count("\n") == 1
    assert "(see janus-forge train --help)" in wrong.stderr
    wrong = called("corpus", "build", "--oot", "x")
    assert "(see janus-forge corpus build --help)" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_modules_keep_their_own_names() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "janus.train", "--stage", "one"], capture_output=True, text=True, timeout=120
    )
    assert "(see python -m janus.train --help)" in shown.stderr


def test_neither_the_overview_nor_a_typo_loads_the_packages_of_a_command() -> None:
    code = (
        "import sys, janus_forge; janus_forge.run_command(['--help']); "
        "print(sorted({'torch', 'numpy', 'pyarrow', 'tyro', 'prefect'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("janus.train.__main__", {"torch", "transformers", "pyarrow", "numpy"}),
        ("flows.corpus", {"torch", "prefect", "apache_beam", "pyarrow", "numpy"}),
        ("demo.__main__", {"torch", "prefect", "apache_beam", "pyarrow", "numpy"}),
        ("janus.generate", {"torch", "transformers", "pyarrow", "numpy"}),
        ("janus.chat", {"torch", "transformers", "pyarrow", "numpy"}),
    ],
)
def test_help_does_not_wait_for_large_packages(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(sorted({forbidden!r} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flows.corpus", None)
    monkeypatch.setitem(sys.modules, "flows.api", None)
    gone = janus_forge.Command("a_package_that_is_not_there", "", "corpus build", ("build",), "flows")
    monkeypatch.setitem(janus_forge.COMMANDS, "corpus build", gone)  # type: ignore[arg-type]
    with pytest.raises(cli.UserError, match=r"pip install 'janus-forge\[flows\]'"):
        janus_forge.run_command(["corpus", "build"])


def test_a_reader_that_goes_away_ends_the_command_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_broken_pipe_that_is_not_the_output_is_a_bug() -> None:
    def main() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        cli.run(main)


@pytest.mark.parametrize(
    ("line", "word", "expected"),
    [
        ("janus-forge tr", "tr", {"train"}),
        ("janus-forge corpus ", "", {"build", "verify", "mixture"}),
        ("janus-forge corpus ver", "ver", {"verify"}),
        ("janus-forge completion ", "", {"bash", "zsh"}),
        ("janus-forge export --dt", "--dt", {"--dtype"}),
    ],
)
def test_bash_completes(line: str, word: str, expected: set[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    program = tmp_path / "janus-forge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {REPOSITORY / "janus_forge.py"} "$@"\n')
    program.chmod(0o755)
    words = [*line.split(), *([] if word else [""])]
    script = "\n".join(
        [
            janus_forge.completion("bash"),
            f"COMP_WORDS=({' '.join(repr(one) for one in words)}); COMP_CWORD={len(words) - 1}",
            '_janus_forge; printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    shown = subprocess.run(
        [bash, "-c", script], capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "PATH": path}
    )
    found = set(shown.stdout.split())
    assert expected <= found
    assert all(one.startswith(word) for one in found)


def test_zsh_gets_the_same_function_behind_its_bash_compatibility() -> None:
    assert janus_forge.completion("zsh").endswith(janus_forge.completion("bash"))
    assert "bashcompinit" in janus_forge.completion("zsh")


def test_our_own_janus_is_no_clash() -> None:
    assert janus_forge.name_clash() == ""


def test_another_package_that_comes_first_is_told_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "janus").mkdir()
    (tmp_path / "janus" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import janus_forge; janus_forge.main()"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Python imports another package as `janus`")
    assert str(tmp_path / "janus") in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_package_in_the_same_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wheels called janus: the files of both lie in site-packages/janus."""
    home = tmp_path / "site-packages"
    (home / "janus").mkdir(parents=True)
    (home / "janus" / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location("janus", home / "janus" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.syspath_prepend(str(home))
    assert janus_forge.name_clash(home) == ""
    (home / "janus-2.0.0.dist-info").mkdir()
    (home / "janus-2.0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: janus\nVersion: 2.0.0\n")
    importlib.invalidate_caches()
    assert "version 2.0.0" in janus_forge.name_clash(home)
