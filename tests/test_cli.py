"""janus.cli: one line for what a user can cause, a traceback for what only we can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pydantic
import pytest
import tyro

from janus.cli import UserError, console, pairs, parse, run


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


def test_pairs_split_at_the_first_equals_sign_and_may_be_spread() -> None:
    assert pairs([("a=b=c", "x.test:80=http"), ("d=",)], "--set") == {"a": "b=c", "x.test:80": "http", "d": ""}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["=x"], "--set =x: expected NAME=VALUE"), (["a=1", "a=2"], "--set a=2: a was already given as 1")],
)
def test_pairs_that_are_none_or_contradict_each_other_are_named(words: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        pairs([words], "--set")


class Checked(pydantic.BaseModel):
    """Numbers within bounds."""

    keep_last: int = pydantic.Field(default=1, ge=1)


@dataclass
class Bounded:
    checked: Annotated[Checked, tyro.conf.arg(name="")] = field(default_factory=Checked)


def test_a_value_out_of_bounds_is_one_line_that_names_the_option() -> None:
    with pytest.raises(UserError, match=r"^--keep-last 0: Input should be .* equal to 1 \(see x --help\)$"):
        parse(Bounded, prog="x", args=["--keep-last", "0"])


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
