"""What a benchmark is: a file of `janus/evaluate/benchmarks/`, or of another package (design D13).

The module holds a class `Benchmark`, a frozen dataclass whose fields are its options, derived from

* `Questions`: reads questions about pictures and marks what was said;
* `Drawing`: reads prompts and judges the pictures that were drawn from them.

Asking, drawing, storing, resuming, intervals and the report are the same for all (`janus.evaluate.run`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from janus.evaluate import extract
from janus.evaluate.extract import Kind, Protocol
from janus.evaluate.metrics import Metrics, Row, accuracy
from janus.evaluate.prompts import Template
from schemas.plugins import PluginFolder

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

BENCHMARKS = PluginFolder("janus.evaluate.benchmarks", "benchmark")


@dataclass(frozen=True)
class Picture:
    """A picture of a question, read when it is asked."""

    name: str
    """File name, or where its bytes stand, for messages."""
    read: Callable[[], bytes]

    def open(self) -> Image.Image:
        """The picture as upright RGB. Raises ValueError or FileNotFoundError naming it."""
        from janus.images import load_rgb

        try:
            return load_rgb(self.read())
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None


@dataclass(frozen=True)
class Question:
    """One question about pictures."""

    id: str
    """Unique in its benchmark."""
    text: str
    """Without options, hint and instructions: the template adds them."""
    pictures: Sequence[Picture]
    """In the order the model sees them, before the text."""
    template: Template
    """How it is put (`janus.evaluate.prompts`)."""
    answer: str | None
    """What is right, as `read_answer` gives it; None in splits whose answers are not published."""
    kind: Kind | None = None
    """How an answer is read; None where the benchmark does that itself."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Letter to text."""
    listed: bool = False
    """Whether `text` lists the options already."""
    hint: str = ""
    system: str = ""
    """System prompt."""
    category: str = ""
    unit: str = ""
    """What the bootstrap draws as one; the question itself if empty."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else its benchmark needs of it: goes into its row as it is."""


@dataclass(frozen=True)
class Prompt:
    """One text to draw."""

    text: str
    category: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The benchmark's own line about it; written beside its pictures."""


@dataclass(frozen=True)
class Drawn:
    """One picture drawn from a prompt."""

    id: str
    """Prompt and sample: "00012/0003"."""
    prompt: Prompt
    path: Path
    quadrant: int | None = None
    """Of a file that holds four pictures, two by two: which of them, 0 to 3, row by row."""

    def open(self) -> np.ndarray:
        """uint8[S, S, 3]. Raises ValueError or FileNotFoundError naming the file."""
        import numpy as np

        return np.asarray(self.image())

    def small(self, side: int) -> Image.Image:
        """The picture, its longest side `side` pixels at most."""
        image = self.image()
        image.thumbnail((side, side))
        return image

    def image(self) -> Image.Image:
        """The picture as RGB. Raises as `open`."""
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such picture")
        image = Picture(str(self.path), self.path.read_bytes).open()
        if self.quadrant is None:
            return image
        side, rest = divmod(image.width, 2)
        if rest or image.width != image.height:
            raise ValueError(f"{self.path}: {image.width} x {image.height} pixels; expected a square of four pictures")
        left, top = side * (self.quadrant % 2), side * (self.quadrant // 2)
        return image.crop((left, top, left + side, top + side))


class Benchmark(ABC):
    """What both kinds have."""

    title: ClassVar[str]
    """For people: "POPE"."""
    main: ClassVar[str] = "accuracy"
    """Name of the score that stands for the benchmark."""
    percent: ClassVar[bool] = True
    """Whether scores are shares of 1, shown times 100 beside papers."""
    digits: ClassVar[int] = 1
    """Decimals that are shown."""

    @abstractmethod
    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Scores of all rows."""

    def split(self, data: Path) -> str:
        """Which part of the benchmark is measured: "val", "dev, English"."""
        return ""

    def submission(self, rows: Sequence[Row], folder: Path) -> None:  # noqa: B027 (most have none)
        """Write what the benchmark's own server or script takes, if it has one."""


class Questions(Benchmark):
    """A benchmark that asks."""

    protocols: ClassVar[Mapping[str, str]] = {"vlmevalkit": "vlmevalkit", "strict": "strict"}
    """Protocol asked for to the name that stands in the result."""

    @abstractmethod
    def read(self, data: Path) -> list[Question]:
        """All questions, from the options' files or from their usual place below `data`.

        Raises ValueError or FileNotFoundError naming file, row and what was expected.
        """

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """`read`, what was understood (None: nothing), and `correct`, from 0 to 1 (None: not known)."""
        if question.kind is None:
            raise NotImplementedError(f"{type(self).__module__}: questions without a kind need a mark() of their own")
        answer = extract.read_answer(question.kind, said, question.options, protocol=protocol)
        return {"read": answer, "correct": None if question.answer is None else float(answer == question.answer)}

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Accuracy, share unreadable, and accuracy per category."""
        return accuracy(rows)


class Drawing(Benchmark):
    """A benchmark that draws. Benchmarks of one `prompt_set` share their pictures."""

    prompt_set: ClassVar[str]
    """Names the prompts and the folder of their pictures."""
    protocol: ClassVar[str]
    """Whose rules judge: "geneval"."""
    images_per_prompt: int
    """An option of every such benchmark."""
    pictures: Path | None
    """The same: a folder of pictures drawn elsewhere; nothing is drawn then."""
    published_size: ClassVar[int] = 0
    """Prompts of the whole benchmark, where a file may hold fewer."""

    @abstractmethod
    def prompts(self, data: Path) -> list[Prompt]:
        """All prompts. Raises as `Questions.read`; a missing detector is told here too, before anything is drawn."""

    def judged_by(self) -> str:
        """The protocol as results name it, with everything besides pictures and rules that a score depends on."""
        return self.protocol

    def elsewhere(self, prompts: Sequence[Prompt]) -> list[Drawn] | None:
        """Where each picture stands in the folder `pictures`; None: in the layout of `janus.evaluate.draw`."""
        return None

    def export(self, drawn: Sequence[Drawn], folder: Path) -> None:
        """Write what was drawn in the benchmark's own layout into the folder of the pictures, where it is another."""

    @abstractmethod
    def rows(
        self, drawn: Sequence[Drawn], data: Path, device: str, on_progress: Callable[[int, int], None]
    ) -> Iterable[dict[str, Any]]:
        """A row per picture (`unit` is added where it is missing), and where there is one for the set as a whole.

        Args:
            drawn: all pictures.
            data: as of `prompts`.
            device: "cpu", "cuda:0".
            on_progress: to call with how much of all that is looked at is done.
        """
