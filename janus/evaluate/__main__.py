"""`python -m janus.evaluate`: measure a Janus model by public benchmarks."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from janus import cli
from janus.evaluate import progress, run
from janus.evaluate.benchmark import BENCHMARKS, Benchmark
from janus.evaluate.chosen import Chosen, Settings, choose, needs_model
from janus.evaluate.draw import Sampling
from janus.evaluate.extract import Protocol
from janus.evaluate.prompts import prompt_templates
from janus.evaluate.results import compare, read_results, read_scores, write_results
from janus.evaluate.subject import load_subject
from janus.workspace import find_workspace, needed_model

if TYPE_CHECKING:
    from janus.train.world import World

PROG = "python -m janus.evaluate"


@dataclass(frozen=True)
class Arguments:
    """The options of every evaluation."""

    benchmarks: tuple[str, ...]
    """What to measure."""
    out: Path | None = None
    """Folder for results.json, report.html, every answer and every drawn picture; the same command goes on in it. By
    the workspace: beside the model, in `evaluate`."""
    model: str = ""
    """Janus folder or hub id; not needed to judge pictures drawn elsewhere. By the workspace: the model of the last
    stage that is done."""
    data: Path | None = None
    """Folder that holds the benchmarks' files in their usual places. By the workspace: its `benchmarks`; or else the
    working directory."""
    baseline: str | None = None
    """A second model to measure in the same way, into OUT/baseline, and to compare with."""
    compare: Path | None = None
    """The --out of another evaluation to compare with."""
    protocol: Protocol = "vlmevalkit"
    """Whose rules read answers: vlmevalkit, for numbers beside papers, or strict (janus.evaluate.extract)."""
    prompt: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """NAME=TEMPLATE: how questions are put, in place of the model's own or the protocol's template
    (docs/evaluation.md)."""
    max_new_tokens: int | None = None
    """Longest answer, tokens; the model's own, or else the protocol's 2048."""
    limit: int | None = None
    """Take only the first so many questions, and prompts of each category. The result then is not the benchmark's."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    batch_size: int = 32
    """Questions, or pictures, at once. A 1.3B model takes up to 0.5 GB for each in bfloat16."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the weights: auto is bfloat16, the protocol's, on a GPU and float32 elsewhere."""


def main() -> None:
    """Parse the command line and measure."""
    arguments, benchmarks = read_command(sys.argv[1:])
    templates = cli.pairs(arguments.prompt, "--prompt", "NAME=TEMPLATE")
    prompt_templates({}, templates, arguments.max_new_tokens)
    workspace = find_workspace()
    if arguments.data is None and workspace:
        arguments = replace(arguments, data=Path(workspace.benchmarks))
    chosen = choose(benchmarks, arguments.data or Path(), arguments.limit)
    model, out = arguments.model, arguments.out
    if needs_model(chosen) and not model:
        trained, _ = needed_model("--model is missing: a Janus folder or hub id")
        model, out = str(trained), out or trained.parent / "evaluate"
    if out is None:
        raise cli.UserError(f"--out is missing: a folder for the results (see {cli.program(PROG)} --help)")

    from janus.train.world import join_world

    device = arguments.device.partition(":")[0]
    with join_world(device) as world:
        for name, one, folder in (("model", model, out), ("baseline", arguments.baseline, out / "baseline")):
            if one is None:
                continue
            _measure(arguments, name, one, folder, chosen, templates, world)
            gc.collect()
        if world.is_main:
            print(json.dumps(_finish(arguments, out, chosen), indent=2))


def read_command(words: Sequence[str]) -> tuple[Arguments, dict[str, Benchmark]]:
    """The arguments, and the benchmarks they name with their options. Raises UserError with one line."""
    named = _named(words)
    if "--benchmarks" in words and not named:
        raise cli.UserError(f"nothing to measure: --benchmarks takes one or more of {', '.join(BENCHMARKS.names())}")
    options = [(name, BENCHMARKS.load(name).Benchmark) for name in named]
    fields: list[Any] = [(name, kind, field(default_factory=kind)) for name, kind in options]
    command = make_dataclass("Command", fields, bases=(Arguments,), frozen=True, kw_only=True)
    parsed = cli.parse(command, prog=PROG, args=words, description=_description())
    return parsed, {name: getattr(parsed, name) for name in named}


def _named(words: Sequence[str]) -> list[str]:
    """The benchmarks that a command line names: their options are known only then."""
    named: list[str] = []
    for place, word in enumerate(words):
        if word.startswith("--benchmarks="):
            named.append(word.partition("=")[2])
        if word == "--benchmarks":
            rest = words[place + 1 :]
            end = next((index for index, other in enumerate(rest) if other.startswith("-")), len(rest))
            named += rest[:end]
    return list(dict.fromkeys(named))


def _description() -> str:
    """The help's first lines: what can be measured."""
    lines = []
    for name in BENCHMARKS.names():
        try:
            lines.append(f"{name}: {(BENCHMARKS.load(name).__doc__ or '').strip().splitlines()[0]}")
        except (ValueError, IndexError) as error:
            lines.append(f"{name}: {error}")
    return "\n\n".join(
        [
            "Measure a Janus model: answers to questions about pictures, and pictures drawn from prompts.",
            "Benchmarks (--benchmarks NAME ... --help shows their options):",
            *lines,
        ]
    )


def _measure(
    arguments: Arguments,
    name: str,
    model: str,
    out: Path,
    chosen: Sequence[Chosen],
    templates: Mapping[str, str],
    world: World,
) -> None:
    """Load a model, run all benchmarks, write results.json."""
    from janus.train.record import environment

    subject, prompts = None, prompt_templates({}, templates, arguments.max_new_tokens)
    with world.agreed():
        if model:
            subject, own = load_subject(model, world.device, arguments.dtype)
            prompts = prompt_templates(own, templates, arguments.max_new_tokens)
    settings = Settings(
        prompts,
        arguments.protocol,
        arguments.sampling,
        arguments.batch_size,
        device=str(world.device),
        data=arguments.data or Path(),
    )
    with progress.shown(cli.console(), name if world.size == 1 else f"{name}, process 1 of {world.size}") as show:
        records = run.evaluate(subject, chosen, out, settings, world, show if world.is_main else lambda *_: None)
    if world.is_main:
        facts = {"model": model, "date": datetime.now(UTC).isoformat(timespec="seconds"), **environment(world)}
        write_results(out, records, run=facts)
        for one, record in records.items():
            for note in record["notes"]:
                cli.console().print(f"[yellow]{name}, {one}:[/] {cli.escape(note)}")


def _finish(arguments: Arguments, out: Path, chosen: Sequence[Chosen]) -> dict[str, Any]:
    """Compare where asked to, write results and report; the scores for stdout."""
    from janus.evaluate.report import write_report

    results = read_results(out)
    others = {"baseline": out / "baseline"} if arguments.baseline else {}
    if arguments.compare is not None:
        others[str(arguments.compare)] = arguments.compare
    comparisons = {name: compare(chosen, out, folder) for name, folder in others.items()}
    results = write_results(out, results["benchmarks"], run=results["run"], comparisons=comparisons)
    cli.console().print(f"[green]wrote[/] {cli.escape(str(write_report(chosen, results, out)))}")
    return read_scores(out)


if __name__ == "__main__":
    cli.run(main)
