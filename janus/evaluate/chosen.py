"""What an evaluation runs: the chosen benchmarks with what they ask or draw, the model, and the settings of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from janus.evaluate.benchmark import BENCHMARKS, Benchmark, Drawing, Prompt, Question, Questions
from janus.evaluate.draw import Sampling
from janus.evaluate.extract import Protocol
from janus.evaluate.prompts import PromptTemplates

if TYPE_CHECKING:
    from janus.model.network import Janus
    from janus.model.processor import Processor


@dataclass(frozen=True)
class Chosen:
    """A benchmark with what it asks or draws."""

    name: str
    benchmark: Benchmark
    items: Sequence[Question] | Sequence[Prompt]
    split: str
    size: int
    """Items without `limit`: fewer are not the benchmark."""


@dataclass(frozen=True)
class Settings:
    """How all benchmarks of an evaluation are run."""

    prompts: PromptTemplates
    protocol: Protocol = "vlmevalkit"
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 32
    device: str = "cpu"
    data: Path = Path()
    """Folder of the benchmarks' usual places."""


@dataclass(frozen=True)
class Subject:
    """The model under evaluation."""

    model: Janus
    processor: Processor
    fingerprint: str
    has_sums: bool = False
    """Whether its folder was held to a SHA256SUMS (janus.model.checkpoints.sums)."""

    @property
    def dtype(self) -> str:
        """Of the weights that answer: "bfloat16"."""
        return str(self.model.lm_head.weight.dtype).removeprefix("torch.")


def choose(benchmarks: Mapping[str, Benchmark], data: Path, limit: int | None = None) -> list[Chosen]:
    """Read the files of all benchmarks, so that a wrong one is told before a model is loaded.

    Args:
        benchmarks: name to benchmark with its options.
        data: folder of their usual places.
        limit: take only the first so many questions, or prompts of each category.

    Raises:
        ValueError, FileNotFoundError: with one line that begins with the benchmark.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: expected 1 or more")
    chosen = []
    for name, benchmark in benchmarks.items():
        try:
            if isinstance(benchmark, Questions):
                questions = benchmark.read(data)
                _check(questions)
                chosen.append(Chosen(name, benchmark, questions[:limit], benchmark.split(data), len(questions)))
            elif isinstance(benchmark, Drawing):
                prompts = benchmark.prompts(data)
                size = max(len(prompts), benchmark.published_size)
                chosen.append(Chosen(name, benchmark, _first(prompts, limit), benchmark.split(data), size))
            else:
                raise TypeError(f"benchmark {name}: {BENCHMARKS.load(name).__name__}.Benchmark is of neither kind")
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{name}: {error}") from None
    return chosen


def _check(questions: Sequence[Question]) -> None:
    """Raise ValueError for what a benchmark's own reader let through."""
    if not questions:
        raise ValueError("no questions")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"two questions have the id {question.id}; ids must be unique")
        seen.add(question.id)


def _first(prompts: list[Prompt], limit: int | None) -> list[Prompt]:
    if limit is None:
        return prompts
    count: dict[str, int] = {}
    kept = []
    for prompt in prompts:
        count[prompt.category] = count.get(prompt.category, 0) + 1
        if count[prompt.category] <= limit:
            kept.append(prompt)
    return kept


def needs_model(chosen: Sequence[Chosen]) -> bool:
    """Whether anything is asked or drawn: pictures drawn elsewhere are judged without a model."""
    return any(not isinstance(one.benchmark, Drawing) or one.benchmark.pictures is None for one in chosen)
