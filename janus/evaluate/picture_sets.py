"""Benchmarks of whole sets: drawn pictures against real ones by FID and CMMD, and against their prompts by CLIP."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from janus.evaluate.benchmark import Drawing, Drawn, Picture, Prompt
from janus.evaluate.clip import Clip, clip_name, cmmd
from janus.evaluate.fid import Inception, Moments, fid, inception_name
from janus.evaluate.metrics import Metrics, Row, mean
from janus.evaluate.squares import square

if TYPE_CHECKING:
    from PIL import Image

BATCH = 64
"""Pictures looked at together."""
WHOLE = "whole set"
"""The id of the row that holds the scores of the set."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
"""Of the files that count as pictures."""


@dataclass(frozen=True)
class Real:
    """A picture of the real side."""

    path: Path
    category: str = ""

    def image(self) -> Image.Image:
        """Upright RGB. Raises ValueError naming the file."""
        return Picture(str(self.path), self.path.read_bytes).open()


@dataclass(frozen=True)
class PictureSets(Drawing):
    """What such a benchmark does; which prompts and real pictures it has is its own."""

    inception: Path | None = None
    """For FID: InceptionV3's weights, torch-fidelity's weights-inception-2015-12-05-6726825d.pth or the same tensors in
    safetensors."""
    cmmd_model: str = ""
    """For CMMD: a CLIP model, folder or hub id; the metric's own is openai/clip-vit-large-patch14-336."""
    clip_model: str = ""
    """For the CLIP score: a CLIP model, folder or hub id."""
    real: Path | None = None
    """Folder of the real pictures."""
    pictures: Path | None = None
    """Pictures drawn elsewhere, in the benchmark's layout or in ours: measured instead of drawing any."""
    images_per_prompt: int = field(default=1, init=False)

    main: ClassVar[str] = "fid"
    percent: ClassVar[bool] = False
    digits: ClassVar[int] = 2
    option: ClassVar[str]
    """How its options begin, for messages."""
    side: ClassVar[int]
    """Both sides are cropped to their middle square and brought to this size before Inception sees them ..."""
    filters: ClassVar[tuple[Literal["bicubic", "lanczos"], Literal["bicubic", "lanczos"]]]
    """... by these filters: of the drawn and of the real side."""

    @abstractmethod
    def real_pictures(self, data: Path) -> list[Real]:
        """The real side. Raises FileNotFoundError with one line."""

    def check(self, data: Path) -> None:
        """Raise ValueError or FileNotFoundError for what is missing, before anything is drawn."""
        if not (self.inception or self.cmmd_model or self.clip_model):
            raise ValueError(
                f"nothing to measure by: give {self.option}.inception (FID), {self.option}.cmmd-model or "
                f"{self.option}.clip-model"
            )
        self.judged_by()
        self.real_pictures(data)

    def judged_by(self) -> str:
        """Rules, sizes and weights that the scores depend on."""
        parts = []
        if self.inception:
            drawn, real = self.filters
            sizes = f"{self.side} px (middle square; drawn {drawn}, real {real})"
            parts.append(f"FID at {sizes} by {inception_name(self.inception)}")
        if self.cmmd_model:
            parts.append(f"CMMD by {clip_name(self.cmmd_model)}")
        if self.clip_model:
            parts.append(f"CLIP score by {clip_name(self.clip_model)}")
        return "; ".join(parts)

    def split(self, data: Path) -> str:
        """How many real pictures there are: FID depends on it."""
        return f"{len(self.real_pictures(data))} real pictures"

    def rows(
        self, drawn: Sequence[Drawn], data: Path, device: str, on_progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """A row per picture, with its CLIP score, and one with the scores of the set."""
        models = _Models(self, device)
        real = self.real_pictures(data) if self.inception or self.cmmd_model else []
        ours, theirs = _Side(), _Side()
        done, total = 0, len(drawn) + len(real)
        with ThreadPoolExecutor() as pool:
            for batch in _batches(drawn):
                prompts = [one.prompt for one in batch]
                images = list(pool.map(Drawn.image, batch))
                models.look(images, [prompt.category for prompt in prompts], self.filters[0], ours)
                scores = models.clip_scores(images, [prompt.text for prompt in prompts])
                for one, score in zip(batch, scores, strict=True):
                    yield {"id": one.id, "unit": one.id, "category": one.prompt.category, "prompt": one.prompt.text} | (
                        {} if score is None else {"clip_score": score}
                    )
                on_progress(done := done + len(batch), total)
            for found in _batches(real):
                images = list(pool.map(Real.image, found))
                models.look(images, [one.category for one in found], self.filters[1], theirs)
                on_progress(done := done + len(found), total)
        yield {"id": WHOLE, "unit": WHOLE, "category": "", "scores": ours.distances(theirs)}

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """FID and CMMD of the set, FID of each category, and the mean of 100 times the cosine of picture and prompt."""
        (whole,) = (row["scores"] for row in rows if row["id"] == WHOLE)
        result: Metrics = dict(whole)
        scored = ["clip_score" in row for row in rows]
        if any(scored):
            result["clip_score"] = mean([row.get("clip_score", 0.0) for row in rows], scored)
        return result


class _Side:
    """What is kept of one side: moments per category, and embeddings."""

    def __init__(self) -> None:
        self.moments: dict[str, Moments] = {}
        self.embeddings: list[np.ndarray] = []

    def distances(self, real: _Side) -> dict[str, float]:
        """`fid` and `cmmd`, as far as they were measured, and `fid <category>` where both sides have two pictures."""
        result: dict[str, float] = {}
        if self.moments:
            result["fid"] = fid(_all(self.moments), _all(real.moments))
        if self.embeddings:
            result["cmmd"] = cmmd(np.concatenate(self.embeddings), np.concatenate(real.embeddings))
        for category in sorted(filter(None, self.moments)):
            first, second = self.moments[category], real.moments.get(category, Moments(1))
            if min(first.count, second.count) > 1:
                result[f"fid {category}"] = fid(first, second)
        return result


class _Models:
    """The models that a benchmark was given."""

    def __init__(self, benchmark: PictureSets, device: str) -> None:
        self._side = benchmark.side
        self._inception = Inception(benchmark.inception, device) if benchmark.inception else None
        self._cmmd = Clip(benchmark.cmmd_model, device) if benchmark.cmmd_model else None
        same = benchmark.clip_model == benchmark.cmmd_model
        self._clip = self._cmmd if same else Clip(benchmark.clip_model, device) if benchmark.clip_model else None

    def look(self, images: Sequence[Image.Image], categories: Sequence[str], filter_name: str, side: _Side) -> None:
        """Count pictures into a side."""
        from PIL.Image import Resampling

        if self._cmmd:
            side.embeddings.append(self._cmmd.pictures(images))
        if self._inception:
            resample = Resampling[filter_name.upper()]
            features = self._inception.features([square(image, self._side, resample) for image in images])
            for category in set(categories):
                where = [one == category for one in categories]
                side.moments.setdefault(category, Moments()).add(features[where])

    def clip_scores(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float] | list[None]:
        """100 times the cosine of each picture's and its prompt's embeddings."""
        if self._clip is None:
            return [None] * len(images)
        cosines = (self._clip.pictures(images) * self._clip.texts(texts)).sum(1)
        return [100 * float(cosine) for cosine in cosines]


def _all(moments: dict[str, Moments]) -> Moments:
    result = Moments()
    for one in moments.values():
        result += one
    return result


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def in_folder(folder: Path, option: str) -> list[Path]:
    """The pictures in a folder, by name; 2.png comes before 10.png. Raises FileNotFoundError if there is none."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS] if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"{folder}: no pictures ({', '.join(ENDINGS)}) there; give {option}")
    return sorted(found, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    import re

    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def named(folder: Path, name: str) -> str:
    """The file of a picture below a folder: `name` with one of ENDINGS. Raises FileNotFoundError if there is none."""
    for ending in ENDINGS:
        if (folder / (name + ending)).is_file():
            return name + ending
    raise FileNotFoundError(f"{folder / name}: no such picture ({', '.join(ENDINGS)})")


def by_file(folder: Path, prompts: Sequence[Prompt]) -> list[Drawn]:
    """Pictures whose prompts name their `file` below a folder."""
    return [Drawn(prompt.metadata["file"], prompt, folder / prompt.metadata["file"]) for prompt in prompts]
