"""GenEval 2 (arXiv 2512.16853): 800 prompts of objects, attributes, relations and counts, judged by Soft-TIFA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files, soft_tifa
from janus.evaluate.benchmark import Drawing, Drawn, Prompt
from janus.evaluate.metrics import Metrics, Row
from janus.evaluate.vqa import Local
from janus.evaluate.weights import judge_name


@dataclass(frozen=True)
class Benchmark(Drawing):
    """GenEval 2: how likely a VQA model finds the right answer to each question about a picture. Published numbers are
    of Qwen3-VL-8B-Instruct.
    """

    questions: Path | None = None
    """Usual place: DATA/geneval2/geneval2_data.jsonl."""
    vqa_model: str = ""
    """The judge: an image-text model of transformers, folder or hub id."""
    images_per_prompt: int = 1
    """Pictures drawn from each prompt; published numbers are of one."""
    pictures: Path | None = None
    """Pictures drawn elsewhere: a JSON file of prompt to path, or a folder in our layout."""

    title: ClassVar[str] = "GenEval 2"
    main: ClassVar[str] = "soft_tifa_gm"
    prompt_set: ClassVar[str] = "geneval2"
    protocol: ClassVar[str] = "soft-tifa"
    published_size: ClassVar[int] = 800

    def prompts(self, data: Path) -> list[Prompt]:
        """Lines of {prompt, atom_count, vqa_list, skills}."""
        self.judged_by()
        names = ("geneval2/geneval2_data.jsonl", "geneval2_data.jsonl")
        (path,) = files.find("--geneval2.questions", self.questions, data, *names)
        prompts = files.rows(path, soft_tifa.read_prompt, "GenEval 2 prompt")
        if self.pictures is not None:
            self.elsewhere(prompts)
        return prompts

    def judged_by(self) -> str:
        """The rules and the judge."""
        if not self.vqa_model:
            raise ValueError("give --geneval2.vqa-model; published numbers are of Qwen/Qwen3-VL-8B-Instruct")
        return f"{self.protocol}, judged by {judge_name(self.vqa_model)}"

    def elsewhere(self, prompts: Sequence[Prompt]) -> list[Drawn] | None:
        """The pictures that a JSON file names, or None for our layout."""
        assert self.pictures is not None
        return None if self.pictures.is_dir() else soft_tifa.read_pictures(self.pictures, prompts)

    def rows(
        self, drawn: Sequence[Drawn], data: Path, device: str, on_progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """The probability of the right answer to each question about each picture, and their geometric mean."""
        judge = Local(self.vqa_model, device)
        for done, one in enumerate(drawn, 1):
            pairs = one.prompt.metadata["vqa_list"]
            asked = [f"{question} Answer in one word." for question, _ in pairs]
            sure = judge.probabilities(one.image(), asked, [soft_tifa.spellings(*pair) for pair in pairs])
            yield {"id": one.id, "prompt": one.prompt.text, **soft_tifa.verdict(one.prompt, sure)}
            on_progress(done, len(drawn))

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Means over pictures of geometric (GM) and arithmetic mean (AM); AM per skill, GM per number of atoms."""
        return soft_tifa.metrics(rows)
