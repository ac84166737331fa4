"""A corpus spec from a folder: looks at what lies there, says what it found, and writes the spec.

    python -m pipelines.init ../photos --out photos.toml

The spec has a source for each kind of thing that was found, with the right format and field names. Its model is the
variable {janus}: the build is given it with `--set janus=MODEL`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from janus.cli import UserError, parse, run
from pipelines.folder_contents import Guess, contents_of
from schemas.files import write_file
from schemas.printable import printable
from schemas.sample import TASKS, Template
from schemas.spec import CorpusSpec, Source

SECONDS = 60.0
"""Time for trying the sources."""
RATIOS = {1: (1, 0, 1), 2: (2, 3, 5), 3: (7, 3, 10)}
"""Understanding : text : generation of each stage (paper, section 3.2)."""


@dataclass
class Command:
    """Look at a folder and write a corpus spec for what lies there.

    Example: python -m pipelines.init ../photos --out photos.toml
    """

    folder: tyro.conf.Positional[Path]
    """Folder with images and captions, tars, Parquet, JSON, text."""
    out: Path
    """Spec to write (TOML); nothing is overwritten."""


def main() -> None:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.init")
    for line in init(command.folder, command.out):
        print(printable(line))


def init(folder: Path, out: Path) -> list[str]:
    """Write the spec `out` for `folder`, and return what there is to say, line by line.

    Raises FileNotFoundError, FileExistsError or UserError with one line; then nothing is written.
    """
    from pipelines.dry_run import rows_of
    from pipelines.preflight import Look

    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another name, or delete it")
    found = contents_of(folder)
    chats = any(guess.chat for guess in found.guesses)
    stage = 3 if chats else 2 if any(guess.task == "text" for guess in found.guesses) else 1
    if any(guess.format == "interleaved" for guess in found.guesses):
        stage = max(stage, 2)
    lines: list[str] = []
    sources: list[Source] = []
    names: set[str] = set()
    for guess in found.guesses:
        name = guess.name if guess.name not in names else f"{guess.name}-{len(names) + 1}"
        names.add(name)
        source = Source(
            name=name,
            format=guess.format,
            path=str(folder / guess.folder if guess.folder else folder),
            task=guess.task,
            template=_template(guess, stage),
            group=guess.group,
            options=dict(guess.options),
        )
        spec = CorpusSpec.model_validate({"name": "x", "stage": stage, "models": {"janus": ""}, "sources": [source]})
        look = Look(spec, spec.sources[0])
        look.start()
        look.finish(time.monotonic() + SECONDS)
        if look.mistakes.errors or not look.account.rows:
            told = str(look.mistakes.errors[0]) if look.mistakes.errors else f"{source.path}: no row of {guess.format}"
            lines.append(f"not read: {told}")
            continue
        rows = rows_of(look)
        skipped = "".join(f", {count:,} skipped ({reason})" for reason, count in sorted(look.account.skipped.items()))
        lines.append(
            f"{name}: {'' if rows.exact else 'about '}{rows.rows:,} rows, {guess.format}, for {guess.task}{skipped}"
        )
        sources.append(source)
    lines += [f"not read: {line}" for line in found.left_out]
    if not sources:
        why = "; ".join(line.removeprefix("not read: ") for line in lines) or "it is empty"
        raise UserError(f"{folder}: nothing that a corpus can be made of: {why}")
    write_file(out, spec_text(sources, stage, folder, out))
    return [*lines, f"{out}: {len(sources)} sources, stage {stage}; build it:", f"    {build_command(out)}"]


def _template(guess: Guess, stage: int) -> Template:
    """As the paper's stages have it: captions are described and drawn in chat form in stage 3 alone."""
    if guess.chat or (stage == 3 and guess.task == "generation"):
        return "chat"
    captions = guess.task == "understanding" and guess.format != "interleaved"
    return "describe" if stage == 3 and captions else "plain"


def build_command(out: Path) -> str:
    """How the spec is built."""
    return f"janus-forge corpus build {out} --set janus=MODEL"


def spec_text(sources: Sequence[Source], stage: int, folder: Path, out: Path) -> str:
    """The spec as TOML. Raises UserError if a path cannot be written in it."""
    tasks = {source.task for source in sources}
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "corpus"
    ratio = [part if task in tasks else 0 for part, task in zip(RATIOS[stage], TASKS, strict=True)]
    options = "" if ratio == [*RATIOS[stage]] else f" --data.ratio {' '.join(map(str, ratio))}"
    if stage == 2 and not any(source.group == "imagenet" for source in sources):
        options += ' --data.first-group ""'
    train = f"janus-forge train --stage {stage} --preset PRESET --model MODEL --data runs/corpora/{name} --out RUN"
    lines = [
        f"# What lies in {printable(str(folder))}, as `janus-forge corpus init` found it.",
        "#",
        f"#   {printable(build_command(out))}",
        f"#   {train}{options}",
        f"name = {_toml(name)}",
        f"stage = {stage}",
        "",
        "[models]",
        'janus = "{janus}"',
    ]
    for source in sources:
        path = os.path.abspath(source.path)
        here = os.path.abspath(out.parent)
        if path == here or path.startswith(here.rstrip("/") + "/"):
            place = "{here}" + path[len(here.rstrip("/")) :]
            written = path[len(here) :]
        else:
            place = written = path
        if "{" in written or "}" in written:
            raise UserError(f"{path}: a spec takes what stands in braces for a variable; rename the folder")
        lines += ["", "[[sources]]", f"name = {_toml(source.name)}", f"format = {_toml(source.format)}"]
        lines += [f"path = {_toml(place)}", f"task = {_toml(source.task)}"]
        if source.template != "plain":
            lines.append(f"template = {_toml(source.template)}")
        if source.group:
            lines.append(f"group = {_toml(source.group)}")
        if source.options:
            lines.append(f"options = {{ {', '.join(f'{k} = {_toml(v)}' for k, v in source.options.items())} }}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A string or a list of strings."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{value!r}: not UTF-8; rename it") from None
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


if __name__ == "__main__":
    run(main)
