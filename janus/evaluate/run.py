"""Ask a model everything in a suite and write down every answer.

Written into the output folder: `results.json` (the numbers), `<kind>.jsonl` (one line per question: what was asked,
said, understood and expected), `geneval.jsonl` (one line per image, with what the detector found), `geneval.npy` (the
images, uint8[N, S, S, 3]) and `geneval.png` (all of them, framed by verdict).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from janus.evaluate import geneval, questions
from janus.evaluate.questions import KINDS, Kind, Question
from janus.report.contact_sheet import contact_sheet
from schemas.files import atomic_file, write_file

if TYPE_CHECKING:
    from janus.model.network import Janus
    from janus.model.processor import Processor

FORMS: dict[Kind, str] = {
    "pope": "{question}\nAnswer the question using a single word or phrase.",
    "multiple_choice": "{question}\n\nAnswer with the option's letter from the given choices directly.",
    "counting": "{question}\nAnswer the question using a single word or phrase.",
}
"""How questions are put: the wording with which the paper's authors reproduced their numbers (VLMEvalKit)."""


@dataclass(frozen=True)
class Sampling:
    """How images are drawn. The paper's GenEval settings are unpublished; these are its scripts' defaults."""

    cfg_scale: float = 5.0
    """Classifier-free guidance weight; 1 is off."""
    temperature: float = 1.0
    images_per_prompt: int = 4
    seed: int = 0
    template: str = "chat"
    """chat: the prompt as a user's turn (a stage-3 model). plain: the bare caption (stages 1 and 2)."""


@dataclass(frozen=True)
class Suite:
    """What to measure. Parts that are empty are left out."""

    images: Path | None = None
    """Folder that the questions' image names are relative to."""
    asked: Mapping[Kind, list[Question]] = field(default_factory=dict)
    forms: Mapping[Kind, str] = field(default_factory=lambda: dict(FORMS))
    prompts: list[geneval.Prompt] = field(default_factory=list)
    detector: geneval.Detector | None = None
    sampling: Sampling = Sampling()
    max_new_tokens: int = 16
    batch_size: int = 64
    """Questions, or images, at once."""


Progress = Callable[[str, int, int], None]
"""Called with (part, done, total)."""


def evaluate(
    model: Janus, processor: Processor, suite: Suite, out: Path, on_progress: Progress = lambda *_: None
) -> dict[str, dict[str, float]]:
    """Run every part of `suite`; returns the numbers, which also stand in `out/results.json`.

    Raises:
        FileNotFoundError: if an image of a question is missing (named with its file and question).
    """
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        if kind in suite.asked:
            results[kind] = _ask(model, processor, suite, kind, out, on_progress)
    if suite.prompts:
        results["geneval"] = _draw(model, processor, suite, out, on_progress)
    write_file(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def _ask(
    model: Janus, processor: Processor, suite: Suite, kind: Kind, out: Path, on_progress: Progress
) -> dict[str, float]:
    from janus.model.inference.answering import answer
    from schemas.sample import IMAGE_MARK, Message

    asked = suite.asked[kind]
    said: list[str] = []
    for start in range(0, len(asked), suite.batch_size):
        batch = asked[start : start + suite.batch_size]
        on_progress(kind, start, len(asked))
        said += answer(
            model,
            processor,
            [[Message(role="user", text=f"{IMAGE_MARK}\n{one.prompt(suite.forms[kind])}")] for one in batch],
            [[_open(suite.images, one)] for one in batch],
            max_new_tokens=suite.max_new_tokens,
            batch_size=suite.batch_size,
        )
    on_progress(kind, len(asked), len(asked))
    answers = [questions.read_answer(one, kind, text) for one, text in zip(asked, said, strict=True)]
    _write_lines(
        out / f"{kind}.jsonl",
        (
            {**asdict(one), "said": text, "answer": understood, "correct": understood == one.label}
            for one, text, understood in zip(asked, said, answers, strict=True)
        ),
    )
    labels = [one.label for one in asked]
    return questions.pope_scores(labels, answers) if kind == "pope" else questions.accuracy(labels, answers)


def _open(folder: Path | None, question: Question) -> Any:
    from janus.images import load_rgb

    path = (folder or Path()) / question.image
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image (question {question.id}); give its folder with --images")
    return load_rgb(path.read_bytes())


def _draw(model: Janus, processor: Processor, suite: Suite, out: Path, on_progress: Progress) -> dict[str, float]:
    from janus.model.inference.sampling import sample_images

    if suite.detector is None:
        raise ValueError("prompts need a detector that reads the images drawn from them; give --detector")
    sampling = suite.sampling
    wanted = [prompt for prompt in suite.prompts for _ in range(sampling.images_per_prompt)]
    on_progress("geneval", 0, len(wanted))
    images = sample_images(
        model,
        processor,
        [prompt.text for prompt in wanted],
        template=sampling.template,
        cfg_scale=sampling.cfg_scale,
        temperature=sampling.temperature,
        seeds=[_seed(sampling.seed, index) for index in range(len(wanted))],
        batch_size=suite.batch_size,
        on_progress=lambda done: on_progress("geneval", done, len(wanted)),
    )
    lines, verdicts = [], []
    for prompt, image in zip(wanted, images, strict=True):
        found = suite.detector.detect(image)
        correct, problem = geneval.judge(found, prompt.metadata)
        verdicts.append(correct)
        lines.append(
            {"tag": prompt.tag, "prompt": prompt.text, "correct": correct, "problem": problem}
            | {"found": [asdict(one) for one in found]}
        )
    _write_lines(out / "geneval.jsonl", lines)
    with atomic_file(out / "geneval.npy") as file:
        np.save(file, images)
    with atomic_file(out / "geneval.png") as file:
        contact_sheet(list(images), side=96, verdicts=verdicts).save(file, "PNG")
    return geneval.scores((prompt.tag, correct) for prompt, correct in zip(wanted, verdicts, strict=True))


def _seed(seed: int, index: int) -> int:
    """A seed of its own for each image, so that the result does not depend on batches."""
    return int.from_bytes(hashlib.sha256(f"geneval/{seed}/{index}".encode()).digest()[:6], "big")


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    write_file(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
