"""`python -m janus.evaluate`: measure a Janus model on questions and prompts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from janus import cli
from janus.evaluate import geneval, questions
from janus.evaluate.questions import Kind
from janus.evaluate.run import FORMS, Progress, Sampling, Suite


@dataclass
class Arguments:
    """Measure a Janus model: POPE, multiple choice and counting questions, and GenEval images."""

    model: str
    """Janus folder or hub id."""
    out: Path
    """Folder for results.json, one line per question, and the drawn images."""
    baseline: str | None = None
    """A second model to measure in the same way (the untrained one, say), into OUT/baseline."""
    images: Path | None = None
    """Folder of the questions' images."""
    pope: Path | None = None
    """Yes/no questions, in POPE's layout."""
    multiple_choice: Path | None = None
    """Multiple-choice questions."""
    counting: Path | None = None
    """How-many questions."""
    geneval: Path | None = None
    """Prompts, in GenEval's metadata layout."""
    detector: str = "shapes"
    """What finds objects in the drawn images: a detector of janus/evaluate/detectors or of an installed package."""
    limit: int | None = None
    """Take only the first so many questions of each kind, and prompts of each task."""
    pope_form: str = FORMS["pope"]
    """How a yes/no question is put; {question} is replaced."""
    multiple_choice_form: str = FORMS["multiple_choice"]
    """How a multiple-choice question is put; {question} holds the options too."""
    counting_form: str = FORMS["counting"]
    """How a how-many question is put."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    max_new_tokens: int = 16
    """Longest answer, tokens."""
    batch_size: int = 64
    """Questions, or images, at once."""
    device: str = "auto"
    """auto, cpu or cuda."""


def main() -> None:
    """Parse the command line and measure."""
    arguments = cli.parse(Arguments, prog="python -m janus.evaluate")
    suite = _suite(arguments)

    import torch

    from janus.evaluate.run import evaluate
    from janus.model.checkpoints.model_folder import load_janus

    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    runs = [("model", arguments.model, arguments.out)]
    if arguments.baseline:
        runs.append(("baseline", arguments.baseline, arguments.out / "baseline"))
    results = {}
    for name, folder, out in runs:
        model, processor = load_janus(folder, device=device)
        with _progress(name) as on_progress:
            results[name] = evaluate(model.eval(), processor, suite, out, on_progress)
    print(json.dumps(results, indent=2))


def _suite(arguments: Arguments) -> Suite:
    """Read every file first, so that a wrong one is told before a model is loaded."""
    asked = {}
    forms: dict[Kind, str] = {}
    for kind in questions.KINDS:
        forms[kind] = getattr(arguments, f"{kind}_form")
        if "{question}" not in forms[kind]:
            raise ValueError(f"--{kind.replace('_', '-')}-form: {forms[kind]!r} has no {{question}} in it")
        if (path := getattr(arguments, kind)) is not None:
            asked[kind] = questions.read_questions(path, kind)[: arguments.limit]
    prompts = geneval.read_prompts(arguments.geneval) if arguments.geneval else []
    if arguments.limit is not None:
        by_task = {task: [one for one in prompts if one.tag == task][: arguments.limit] for task in geneval.TASKS}
        prompts = [prompt for group in by_task.values() for prompt in group]
    if not asked and not prompts:
        raise ValueError("nothing to measure: give --pope, --multiple-choice, --counting or --geneval")
    from janus.evaluate.detectors import DETECTORS

    return Suite(
        images=arguments.images,
        asked=asked,
        forms=forms,
        prompts=prompts,
        detector=DETECTORS.load(arguments.detector).load(arguments.device),
        sampling=arguments.sampling,
        max_new_tokens=arguments.max_new_tokens,
        batch_size=arguments.batch_size,
    )


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar per part on a terminal; a line whenever a part has got further elsewhere."""
    console = cli.console()
    if not console.is_terminal:
        yield lambda part, done, total: console.print(f"{name}, {part}: {done} of {total}")
        return
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with Bars(console=console) as bars:

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(f"{name}, {part}", total=total)
            bars.update(tasks[part], completed=done)

        yield show


if __name__ == "__main__":
    cli.run(main)
