"""janus.cli: one line for what a user can cause, a traceback for what only we can."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from janus.cli import UserError, console, parse, run


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    """How fast."""


@dataclass(frozen=True)
class Command:
    name: str
    """Whom to greet."""
    inner: Inner = field(default_factory=Inner)


def test_values_arrive_typed() -> None:
    assert parse(Command, prog="x", args=["--name", "a", "--inner.rate", "1e-3"]) == Command("a", Inner(0.001))


def test_default_gives_what_is_not_named() -> None:
    assert parse(Command, prog="x", args=["--inner.rate", "2"], default=Command("b")) == Command("b", Inner(2.0))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--name", "a", "--inner.rat", "1"], ["--inner.rat", "perhaps you meant --inner.rate"]),
        (["--inner.rate", "1"], ["Missing", "--name"]),
        (["--name", "a", "--inner.rate", "fast"], ["--inner.rate", "'fast'"]),
    ],
)
def test_wrong_arguments_give_one_line(args: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(Command, prog="python -m x", args=args)
    message = str(caught.value)
    assert "\n" not in message
    assert "│" not in message
    assert "(see python -m x --help)" in message
    for part in parts:
        assert part in message


def test_help_explains_and_exits_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Command, prog="x", args=["--help"])
    assert caught.value.code == 0
    assert "How fast." in capsys.readouterr().out


def test_run_prints_user_errors_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise FileNotFoundError("a [bold] b:\n no such corpus")

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: a [bold] b: no such corpus\n"


def test_run_keeps_the_traceback_of_bugs() -> None:
    def main() -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        run(main)


def test_run_passes_the_exit_code_on() -> None:
    with pytest.raises(SystemExit) as caught:
        run(lambda: 3)
    assert caught.value.code == 3


def test_a_function_runs_with_its_own_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def command(times: int = 1) -> int:
        """Say something.

        Args:
            times: How often.
        """
        console().print("working " * times)
        raise SystemExit(3)

    with pytest.raises(SystemExit) as stopped:
        parse(command, prog="say", args=["--times", "2"])
    assert stopped.value.code == 3
    assert capsys.readouterr().err == "working working \n"
