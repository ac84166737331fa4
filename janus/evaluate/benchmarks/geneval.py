"""GenEval (arXiv 2310.11513): do drawn pictures hold the objects, counts, colours and positions they were asked for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files, geneval
from janus.evaluate.benchmark import Drawing, Drawn, Prompt
from janus.evaluate.detectors import DETECTORS, detector_name, load_detector
from janus.evaluate.metrics import Metrics, Row, average, mean


@dataclass(frozen=True)
class Benchmark(Drawing):
    """GenEval, judged by the rules of its `evaluate_images.py` (`janus.evaluate.geneval`)."""

    metadata: Path | None = None
    """The benchmark's prompts; usual place: DATA/geneval/evaluation_metadata.jsonl, or DATA/prompts.jsonl."""
    detector: str = ""
    """What finds objects in the pictures: a detector of janus/evaluate/detectors or of an installed package."""
    weights: str = ""
    """Of the detector mask2former: the folder that `python -m janus.evaluate.convert_detector` wrote, or a hub id."""
    color_weights: str = ""
    """Of the detector mask2former: CLIP ViT-L/14 for colours, a file or a tag of open_clip's; OpenAI's if empty."""
    images_per_prompt: int = 4
    """Pictures drawn from each prompt."""
    pictures: Path | None = None
    """Pictures drawn elsewhere, as 00000/samples/0000.png: judged instead of drawing any."""

    title: ClassVar[str] = "GenEval"
    main: ClassVar[str] = "overall"
    prompt_set: ClassVar[str] = "geneval"
    protocol: ClassVar[str] = "geneval"
    option: ClassVar[str] = "--geneval"
    """How its options begin, for messages."""

    def prompts(self, data: Path) -> list[Prompt]:
        """Lines in the layout of `janus.evaluate.geneval`."""
        if not self.detector:
            raise ValueError(f"give {self.option}.detector, one of: {', '.join(DETECTORS.names())}")
        detector_name(self.detector, self.weights, self.color_weights)
        places = ("geneval/evaluation_metadata.jsonl", "geneval/prompts/evaluation_metadata.jsonl", "prompts.jsonl")
        (path,) = files.find(f"{self.option}.metadata", self.metadata, data, *places)
        return [Prompt(one.text, one.tag, one.metadata) for one in geneval.read_prompts(path)]

    def judged_by(self) -> str:
        """Rules, detector and weights: GenEval's thresholds are one detector's."""
        return f"{self.protocol}, {detector_name(self.detector, self.weights, self.color_weights)}"

    def rows(
        self, drawn: Sequence[Drawn], data: Path, device: str, on_progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """The verdict on each picture, and what the detector found."""
        detector = load_detector(self.detector, device, self.weights, self.color_weights)
        for done, one in enumerate(drawn, 1):
            found = detector.detect(one.open())
            correct, problem = geneval.judge(found, one.prompt.metadata)
            yield {
                "id": one.id,
                "category": one.prompt.category,
                "prompt": one.prompt.text,
                "correct": float(correct),
                "problem": problem,
                "detector": self.detector,
                "found": [asdict(detection) for detection in found],
            }
            on_progress(done, len(drawn))

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Accuracy per task over pictures, and `overall`: the mean of the tasks, not of the pictures."""
        correct = [row["correct"] for row in rows]
        tasks = [task for task in geneval.TASKS if any(row["category"] == task for row in rows)]
        scores = {task: mean(correct, [row["category"] == task for row in rows]) for task in tasks}
        return {"overall": average(scores.values()), **scores}
