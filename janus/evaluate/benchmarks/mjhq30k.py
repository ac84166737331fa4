"""MJHQ-30K (arXiv 2402.17245): FID of pictures drawn from 30,000 prompts in ten categories, overall and in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Drawn, Prompt
from janus.evaluate.picture_sets import PictureSets, Real, by_file, in_folder, named


@dataclass(frozen=True)
class Benchmark(PictureSets):
    """MJHQ-30K. Whole pictures of any size are brought to Inception's 299 pixels by a bicubic filter, as clean-fid does
    in the benchmark's own example; at which size the paper's 10.10 was measured is not published.
    """

    metadata: Path | None = None
    """Usual place: DATA/mjhq30k/meta_data.json, the pictures in mjhq30k_imgs/<category> beside it."""

    title: ClassVar[str] = "MJHQ-30K"
    prompt_set: ClassVar[str] = "mjhq30k"
    protocol: ClassVar[str] = "mjhq30k"
    option: ClassVar[str] = "--mjhq30k"
    published_size: ClassVar[int] = 30_000
    side: ClassVar[int] = 299
    filters = ("bicubic", "bicubic")

    def prompts(self, data: Path) -> list[Prompt]:
        """An object of picture id to {category, prompt}."""
        self.check(data)
        path = self._metadata(data)
        content = files.load_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected an object of picture id to category and prompt")
        prompts = files.made(path, content.items(), _prompt, "MJHQ prompt")
        if self.pictures is None or any(self.pictures.glob("*/samples")):
            return prompts
        return [self._with_file(self.pictures, prompt) for prompt in prompts]

    def _with_file(self, folder: Path, prompt: Prompt) -> Prompt:
        """The prompt with the place of its picture drawn elsewhere: <category>/<id>, as the real ones."""
        found = named(folder, f"{prompt.category}/{prompt.metadata['id']}")
        return Prompt(prompt.text, prompt.category, {**prompt.metadata, "file": found})

    def elsewhere(self, prompts: Sequence[Prompt]) -> list[Drawn] | None:
        """The layout of the real pictures, or None for ours."""
        assert self.pictures is not None
        return by_file(self.pictures, prompts) if "file" in prompts[0].metadata else None

    def real_pictures(self, data: Path) -> list[Real]:
        """All pictures of all category folders. Usual place: DATA/mjhq30k/mjhq30k_imgs."""
        beside = [] if self.metadata is None else [str(self.metadata.absolute().parent / "mjhq30k_imgs")]
        folder = files.folder("--mjhq30k.real", self.real, data, *beside, "mjhq30k/mjhq30k_imgs", "mjhq30k_imgs")
        categories = sorted(path for path in folder.iterdir() if path.is_dir())
        if not categories:
            raise FileNotFoundError(f"{folder}: no folders of categories there; give --mjhq30k.real")
        return [Real(path, one.name) for one in categories for path in in_folder(one, "--mjhq30k.real")]

    def _metadata(self, data: Path) -> Path:
        (path,) = files.find("--mjhq30k.metadata", self.metadata, data, "mjhq30k/meta_data.json", "meta_data.json")
        return path


def _prompt(row: dict[str, Any], identity: str) -> Prompt:
    category = row["category"]
    if not all(name == Path(name).name and name not in ("", ".", "..") for name in (category, identity)):
        raise ValueError(f"category {category!r}: expected category and id to be names of a folder and a file")
    return Prompt(row["prompt"].strip(), category, {"id": identity, "category": category})
