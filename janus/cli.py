"""What every command shares: typed arguments, and user errors that are one line.

    from janus.cli import parse, run

    def main() -> None:
        command = parse(Command, prog="python -m janus.thing")
        ...

    if __name__ == "__main__":
        run(main)

Imports neither torch nor transformers: `--help` of every command starts with this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pydantic
from rich.console import Console

from schemas.printable import printable

T = TypeVar("T")

USER_ERRORS = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What a user can cause. Code that raises these says in one line what is wrong, where, and what to do."""


class UserError(ValueError):
    """A mistake of the person at the keyboard: wrong argument, file or combination of settings."""


_STARTED_AS: list[str] = []
"""Name and example of the command that is running, if it was started by a name of its own."""


def started_as(name: str, example: str) -> None:
    """Let help and errors call the command `name`, and the help show `example`: `janus-forge train`, for one."""
    _STARTED_AS[:] = [name, example]


def program(module: str) -> str:
    """How the running command was called: as `module` ("python -m janus.train") or by a name of its own."""
    return _STARTED_AS[0] if _STARTED_AS else module


class Mistakes(UserError):
    """Several mistakes that were found at once."""

    def __init__(self, lines: Sequence[str]) -> None:
        """`lines`: each mistake in one line."""
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class Collected:
    """Collects mistakes, so that all of them are told and not the first alone.

    mistakes = Collected()
    with mistakes:      # as often as there is something to check
        ...
    mistakes.tell()
    """

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        """Keep what a user can cause; anything else goes on."""
        if not isinstance(error, USER_ERRORS):
            return False
        self.errors.append(error)
        return True

    def tell(self) -> None:
        """Raise what was collected: nothing, the one error there is, or Mistakes with each line once."""
        lines: dict[str, Exception] = {}
        for error in self.errors:
            for line in error.lines if isinstance(error, Mistakes) else [str(error)]:
                lines.setdefault(line, error)
        if len(lines) > 1:
            raise Mistakes(list(lines))
        for error in lines.values():
            raise error


def console() -> Console:
    """Console for people (stderr), so that stdout stays free for results."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def parse(
    command: Callable[..., T],
    *,
    prog: str,
    args: Sequence[str] | None = None,
    default: T | None = None,
    description: str | None = None,
) -> T:
    """Fill `command`, a dataclass, or call it, a function with type hints, from the command line.

    Field docstrings become the help. `args` defaults to `sys.argv[1:]`, `default` gives the values not named there.
    Prints the help and exits 0 on `--help`.

    Raises UserError with one line for an unknown, missing or ill-typed argument, and for an address (s3://...) where a
    path is expected.
    """
    import tyro

    options: dict[str, Any] = {} if default is None else {"default": default}
    if _STARTED_AS:
        name, example = _STARTED_AS
        text = (description or inspect.getdoc(command) or "").partition("\nArgs:")[0].replace(prog, name)
        prog, description = name, text if name in text else f"{text.rstrip()}\n\nExample:\n\n{example}"
    written = io.StringIO()
    try:
        with contextlib.redirect_stderr(written):
            parsed = tyro.cli(_only_bind(command), prog=prog, args=args, description=description, **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{_one_line(written.getvalue())} (see {prog} --help)") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = "--" + ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UserError(f"{option} {first['input']}: {first['msg']} (see {prog} --help)") from None
    if not inspect.isfunction(command):
        _refuse_addresses(parsed)
        return parsed
    call: functools.partial[T] = parsed
    for name, value in call.keywords.items():
        _refuse_addresses(value, f"--{name}")
    return call()


def _refuse_addresses(value: object, name: str = "") -> None:
    """Raise UserError for an address among the paths in `value`: as a path, it would be a local folder called "s3:"."""
    if isinstance(value, Path) and (found := _ADDRESS.match(str(value))):
        option = name.replace("_", "-")
        raise UserError(
            f"{option}: {found[1]}://{found[2]} is an address, and this takes a path on this machine; only a corpus "
            "may lie at an address (--corpus, --data, and --out of a corpus build)"
        )
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _refuse_addresses(getattr(value, field.name), f"{name}.{field.name}" if name else f"--{field.name}")
    elif isinstance(value, tuple | list):
        for item in value:
            _refuse_addresses(item, name)


_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/(.*)")
"""What `Path` makes of scheme://rest. Of two letters and more: a drive is no scheme."""


def pairs(items: Iterable[Sequence[str]], option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    """What an option of NAME=VALUE words was given, as a dict.

    Args:
        items: the words of each time the option was given: `--set a=1 b=2 --set c=3`. As a field of a command:
            `Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]`.
        option: its name, for messages.
        form: how a word should look, for messages.

    Raises UserError with one line for a word of another form, or a name with two values.
    """
    result: dict[str, str] = {}
    for word in itertools.chain.from_iterable(items):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"{option} {word}: expected {form}")
        if result.setdefault(name, value) != value:
            raise UserError(f"{option} {word}: {name} was already given as {result[name]}")
    return result


def _only_bind(command: Callable[..., T]) -> Callable[..., Any]:
    """A function of the same command line that returns the call instead of making it: nothing it says may be caught."""
    if not inspect.isfunction(command):
        return command

    @functools.wraps(command)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], T]:
        return functools.partial(command, *args, **kwargs)

    return bound


def _one_line(box: str) -> str:
    """The message in one of tyro's error boxes, without frame, argument help and footer."""
    rows = [re.sub(r"^│ ?|\s*│$", "", row).strip() for row in box.splitlines() if row.startswith("│")]
    sections: list[list[str]] = [[]]
    for row in rows:
        if row and set(row) == {"─"}:
            sections.append([])
        else:
            sections[-1].append(row)
    message = " ".join(sections[0])
    for section in sections[1:]:
        if section[0].startswith("Perhaps you meant") and len(section) > 1:
            message += f"; perhaps you meant {section[1].split()[0]}"
    return message or box.strip().replace("\n", " ")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit: 0, its own code, or 1 with one red line on stderr for each thing a user can cause.

    Other exceptions are bugs and keep their traceback; so do user errors where JANUS_TRACEBACK is set. A reader of the
    output that has gone, as `head` does, ends the command silently with 141, the code of a program that SIGPIPE ends.
    (SIGPIPE itself stays ignored: it would end the process for a closed socket too.)
    """
    try:
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        if not (gone := [file for file in (1, 2) if _reader_is_gone(file)]):
            raise
        for file in gone:
            os.dup2(os.open(os.devnull, os.O_WRONLY), file)
        sys.exit(141)
    except USER_ERRORS as error:
        if os.environ.get("JANUS_TRACEBACK"):
            raise
        for line in error.lines if isinstance(error, Mistakes) else [str(error)]:
            text = " ".join(line.split()) or type(error).__name__
            console().print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _reader_is_gone(file: int) -> bool:
    poll = select.poll()
    poll.register(file, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def escape(text: str) -> str:
    """`text` for `console()`, with nothing in it taken for markup."""
    from rich.markup import escape

    return escape(printable(text))
