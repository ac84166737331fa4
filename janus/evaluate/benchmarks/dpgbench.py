"""DPG-Bench (arXiv 2403.05135): do drawn pictures hold what 1,065 long prompts say? Judged question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from janus.evaluate import dpg, files
from janus.evaluate.benchmark import Drawing, Drawn, Prompt
from janus.evaluate.metrics import Metrics, Row
from janus.evaluate.vqa import load_vqa, vqa_name


@dataclass(frozen=True)
class Benchmark(Drawing):
    """DPG-Bench by the rules of its script (`janus.evaluate.dpg`). Its own judge is mPLUG-large: numbers of another one
    may not stand beside papers.
    """

    questions: Path | None = None
    """Usual place: DATA/dpg_bench/dpg_bench.csv."""
    prompt_files: Path | None = None
    """Folder of the prompts; usual place: DATA/dpg_bench/prompts. Without one, the column text of the table."""
    vqa_model: str = ""
    """The judge: an image-text model of transformers, folder or hub id; or ..."""
    judge_url: str = ""
    """... an OpenAI-style endpoint that takes pictures, e.g. http://127.0.0.1:8000/v1; key in JANUS_JUDGE_KEY."""
    judge_model: str = ""
    """Name of the model there."""
    images_per_prompt: Literal[1, 4] = 4
    """Pictures drawn from each prompt."""
    pictures: Path | None = None
    """Pictures drawn elsewhere: <item_id>.png, the four of a prompt two by two in one file; or in our layout."""

    title: ClassVar[str] = "DPG-Bench"
    main: ClassVar[str] = "overall"
    digits: ClassVar[int] = 2
    prompt_set: ClassVar[str] = "dpgbench"
    protocol: ClassVar[str] = "dpg-bench"
    published_size: ClassVar[int] = 1065

    def prompts(self, data: Path) -> list[Prompt]:
        """The prompts in the order of the table."""
        self.judged_by()
        prompts = [Prompt(item.text, metadata={"item_id": name}) for name, item in self._items(data).items()]
        if self.pictures is not None:
            self.elsewhere(prompts)
        return prompts

    def _items(self, data: Path) -> dict[str, dpg.Item]:
        (path,) = files.find("--dpgbench.questions", self.questions, data, "dpg_bench/dpg_bench.csv", "dpg_bench.csv")
        beside = path.parent / "prompts"
        folder = self.prompt_files or (beside if beside.is_dir() else None)
        return {item.name: item for item in dpg.read_items(path, folder)}

    def judged_by(self) -> str:
        """The rules and the judge."""
        return f"{self.protocol}, judged by {vqa_name('--dpgbench', self.vqa_model, self.judge_url, self.judge_model)}"

    def elsewhere(self, prompts: Sequence[Prompt]) -> list[Drawn] | None:
        """Files named after items, or None for our layout."""
        assert self.pictures is not None
        if any(self.pictures.glob("*/samples")):
            return None
        return dpg.in_grids(self.pictures, prompts, self.images_per_prompt)

    def export(self, drawn: Sequence[Drawn], folder: Path) -> None:
        """grids/<item_id>.png beside our layout."""
        dpg.write_grids(drawn, folder / "grids")

    def rows(
        self, drawn: Sequence[Drawn], data: Path, device: str, on_progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """The answers about each picture, and its score."""
        items, judge = self._items(data), load_vqa(self.vqa_model, self.judge_url, self.judge_model, device)
        for done, one in enumerate(drawn, 1):
            questions = items[one.prompt.metadata["item_id"]].questions
            said = judge.answers(one.image(), [f"{question.text}\nAnswer yes or no." for question in questions])
            yield {"id": one.id, "prompt": one.prompt.text, **dpg.verdict(questions, said)}
            on_progress(done, len(drawn))

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """`overall`, the mean over pictures; share of yes per category, broad ones first; share of unread answers."""
        return dpg.metrics(rows)
