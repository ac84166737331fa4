"""The command `janus-forge`: one name for every command of the project.

    janus-forge corpus build examples/photo-folder.toml --set photos=../photos janus=runs/demo/base/janus
    janus-forge train --stage 1 --preset tiny --model runs/demo/base/janus --data runs/corpora/photo-folder --out runs/a

`janus-forge train ...` is `python -m janus.train ...`: the module reads its own options, and is imported only when its
command is called. This module stands beside the package `janus`, not in it, because another package of that name may be
installed: that is told in one line before anything is imported from it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn

PROGRAM = "janus-forge"
PACKAGES = ("demo", "flows", "janus", "pipelines", "schemas", "storage")
"""Import names of this project."""


@dataclass(frozen=True)
class Command:
    """One command."""

    module: str
    """Module whose `main()` reads `sys.argv` and does the work."""
    summary: str
    example: str
    """Words after `janus-forge`."""
    words: tuple[str, ...] = ()
    """Words of the name that the module reads itself."""
    extra: str = ""
    """Extra of pyproject.toml with the packages it needs beside the default ones."""


COMMANDS: Mapping[str, Command] = {
    "corpus build": Command(
        "flows.corpus",
        "Build corpora from their specs, or bring them up to date",
        "corpus build examples/photo-folder.toml --set photos=../photos janus=runs/demo/base/janus",
        words=("build",),
        extra="flows",
    ),
    "corpus init": Command(
        "pipelines.init",
        "Write a corpus spec for what lies in a folder",
        "corpus init ../photos --out photos.toml",
        extra="pipelines",
    ),
    "corpus verify": Command(
        "pipelines.verify",
        "Hash every shard of a corpus and check every count",
        "corpus verify runs/corpora/photo-folder",
        extra="pipelines",
    ),
    "corpus takedown": Command(
        "pipelines.takedown",
        "Leave rows out of the next snapshot, and remove their bytes",
        "corpus takedown runs/corpora/photo-folder list.txt --purge",
        extra="pipelines",
    ),
    "corpus inspect": Command(
        "pipelines.inspect",
        "Look at rows: pictures, signals, decisions and thresholds",
        "corpus inspect runs/corpora/photo-folder --html rows.html",
        extra="pipelines",
    ),
    "corpus list": Command(
        "pipelines.list", "List corpora, their snapshots and sizes", "corpus list runs/corpora", extra="pipelines"
    ),
    "corpus compare": Command(
        "pipelines.compare",
        "Say which rows came, went and changed between two snapshots",
        "corpus compare runs/corpora/photo-folder@1 runs/corpora/photo-folder",
        extra="pipelines",
    ),
    "corpus export": Command(
        "pipelines.export.__main__",
        "Write a snapshot as a Hugging Face data set, Parquet or WebDataset tars",
        "corpus export runs/corpora/photo-folder --to huggingface --out exports/photos",
        extra="pipelines",
    ),
    "corpus duplicates": Command(
        "pipelines.duplicates",
        "Which rows other rules for duplicates would drop, before anything is dropped",
        "corpus duplicates runs/corpora/photo-folder --near-radius 8",
        extra="pipelines",
    ),
    "corpus mixture": Command(
        "janus.data.mixture",
        "How many samples, tokens and epochs each source gives a run",
        "corpus mixture runs/corpora/photo-folder --stage 1 --preset tiny",
    ),
    "assemble": Command(
        "janus.assemble",
        "Make a starting point from a language model, a vision encoder and a VQ tokenizer",
        "assemble --preset janus-1.3b --llm LLM_FOLDER --vision SIGLIP_FOLDER --vq vq_ds16_t2i.pt --out models/start",
    ),
    "train": Command(
        "janus.train.__main__",
        "Train one stage",
        "train --stage 1 --preset tiny --model runs/demo/base/janus --data runs/corpora/photo-folder --out runs/a",
    ),
    "evaluate": Command(
        "janus.evaluate.__main__",
        "Measure a model by public benchmarks",
        "evaluate --model runs/a/model --benchmarks pope --data benchmarks --out runs/a/evaluation",
    ),
    "generate": Command(
        "janus.generate", "Draw images for prompts", 'generate runs/a/model "a red circle" --images 4 --out pictures'
    ),
    "chat": Command(
        "janus.chat", "Talk to a model about pictures", 'chat runs/a/model --image fish.jpg --ask "What is it?"'
    ),
    "export": Command(
        "janus.export",
        "Write a model in the layout of transformers or of DeepSeek's code",
        "export runs/a/model --to deepseek --out models/mine",
    ),
    "demo": Command(
        "demo.__main__", "From nothing to a trained, measured tiny Janus", "demo --out runs/demo", extra="flows"
    ),
}
"""Name, one or two words, to command."""
COMPLETION = "completion"
SHELLS = ("bash", "zsh")


def main() -> NoReturn:
    """Find the command in `sys.argv` and run it."""
    if problem := name_clash():
        _stop(problem)
    from janus import cli

    cli.run(lambda: run_command(sys.argv[1:]))


def run_command(words: Sequence[str]) -> int | None:
    """Do what the words after `janus-forge` say; returns the exit code.

    Raises UserError with one line for an unknown command or a missing package.
    """
    from janus import cli

    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"{PROGRAM} {metadata.version('janus-forge')}")
        return 0
    if words[0] == COMPLETION:
        return _completion(words[1:])
    if words[0] in groups() and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(overview(words[0]))
        return 0
    name = find(words)
    if name is None:
        raise cli.UserError(unknown(words))
    command, rest = COMMANDS[name], words[len(name.split()) :]
    cli.started_as(f"{PROGRAM} {name}", f"{PROGRAM} {command.example}")
    sys.argv[:] = [f"{PROGRAM} {name}", *command.words, *rest]
    try:
        code: int | None = importlib.import_module(command.module).main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not command.extra or package in PACKAGES:
            raise
        raise cli.UserError(
            f"{PROGRAM} {name} needs the package {package}: pip install 'janus-forge[{command.extra}]'"
        ) from None
    return code


def find(words: Sequence[str]) -> str | None:
    """The name of the command that `words` begin with, or None."""
    return next((name for size in (2, 1) if (name := " ".join(words[:size])) in COMMANDS), None)


def groups() -> list[str]:
    """First words of the names of two words."""
    return sorted({name.split()[0] for name in COMMANDS if " " in name})


def unknown(words: Sequence[str]) -> str:
    """What to say of words that are no command: the closest there is, and all there are."""
    if words[0] in groups():
        known = [name.split()[1] for name in COMMANDS if name.startswith(f"{words[0]} ")]
        wrong, where = words[1], f"{PROGRAM} {words[0]}"
    else:
        known = [*dict.fromkeys(name.split()[0] for name in COMMANDS), COMPLETION]
        wrong, where = words[0], PROGRAM
    close = difflib.get_close_matches(wrong, known, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{where} {wrong}: no such command{hint}; there are: {', '.join(known)}"


def overview(group: str = "") -> str:
    """The help: every command, or those of one group, with a line and an example each."""
    lines = [f"usage: {PROGRAM} {group or 'COMMAND'}{' COMMAND' if group else ''} [options]", ""]
    for name, command in COMMANDS.items():
        if name.startswith(f"{group} " if group else ""):
            lines += [f"  {name:<15} {command.summary}", f"  {'':<15}   {PROGRAM} {command.example}"]
    if not group:
        lines += [f"  {COMPLETION:<15} Print the completion script of a shell: {' or '.join(SHELLS)}"]
        lines += [f"  {'':<15}   source <({PROGRAM} {COMPLETION} bash)"]
    lines += ["", f"Options of a command: {PROGRAM} {f'{group} ' if group else ''}COMMAND --help"]
    return "\n".join(lines)


def _completion(words: Sequence[str]) -> int:
    from janus.cli import UserError

    usage = f"{PROGRAM} {COMPLETION} {'|'.join(SHELLS)}"
    if list(words) in (["-h"], ["--help"]):
        print(f"usage: {usage}\n\nExample, for one shell: source <({PROGRAM} {COMPLETION} bash)")
        return 0
    if len(words) != 1 or words[0] not in SHELLS:
        raise UserError(f"{PROGRAM} {' '.join([COMPLETION, *words])}: expected {usage}")
    print(completion(words[0]))
    return 0


def completion(shell: str) -> str:
    """Script that completes commands, options and file names in `shell`: bash or zsh.

    Options are read from the command's --help when they are asked for, so they are always those that it has.
    """
    first = " ".join([*dict.fromkeys(name.split()[0] for name in COMMANDS), COMPLETION, "--help", "--version"])
    cases = [
        f'    {group}) second="{" ".join(n.split()[1] for n in COMMANDS if n.startswith(group + " "))}" ;;'
        for group in groups()
    ]
    cases.append(f'    {COMPLETION}) second="{" ".join(SHELLS)}" ;;')
    script = f"""_janus_forge() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" second="" command="" options=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=( $(compgen -W "{first}" -- "$current") )
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{chr(10).join(cases)}
  esac
  if [ -n "$second" ] && [ "$COMP_CWORD" -eq 2 ]; then
    COMPREPLY=( $(compgen -W "$second" -- "$current") )
    return
  fi
  case "$current" in
    -*)
      command="${{COMP_WORDS[1]}}"
      [ -n "$second" ] && command="$command ${{COMP_WORDS[2]}}"
      options="$({PROGRAM} $command --help 2>/dev/null | grep -oE -e '--[a-z][a-z0-9.-]*' | sort -u | tr '\\n' ' ')"
      COMPREPLY=( $(compgen -W "$options" -- "$current") )
      ;;
    *) COMPREPLY=( $(compgen -f -- "$current") ) ;;
  esac
}}
complete -o filenames -F _janus_forge {PROGRAM}"""
    return f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{script}" if shell == "zsh" else script


def name_clash(home: Path | None = None) -> str:
    """What to say if the import name `janus` is another package's; "" if it is ours.

    Installed from a wheel, the files of two packages called janus lie in one folder, whichever came first.

    Args:
        home: folder that holds our packages; by default that of this file.
    """
    home = home or Path(__file__).resolve().parent
    spec = importlib.util.find_spec("janus")
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    where = ""
    if found != home / "janus" / "__init__.py":
        where = str(found.parent if found else "nowhere")
    else:
        try:
            other = metadata.distribution("janus")
        except metadata.PackageNotFoundError:
            return ""
        if Path(str(other.locate_file("janus"))).resolve() == home / "janus":
            where = f"{home / 'janus'}, version {other.version}"
    if not where:
        return ""
    return (
        f"Python imports another package as `janus` ({where}); Janus Forge needs that name. Use an environment without "
        "the other one, or: pip uninstall janus, and install janus-forge again"
    )


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
