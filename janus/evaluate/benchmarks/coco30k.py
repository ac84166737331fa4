"""COCO-30K: FID of 30,000 pictures drawn from captions of COCO val2014, with CMMD and CLIP score beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Drawn, Prompt
from janus.evaluate.picture_sets import PictureSets, Real, by_file, in_folder


@dataclass(frozen=True)
class Benchmark(PictureSets):
    """COCO-30K by the rule that the paper's authors name: GigaGAN's evaluation.py at 256 pixels against all of val2014,
    drawn pictures brought from 384 to 256 pixels by a bicubic filter first.
    """

    captions: Path | None = None
    """Usual place: DATA/coco/annotations/captions_val2014.json."""

    title: ClassVar[str] = "COCO-30K"
    prompt_set: ClassVar[str] = "coco30k"
    protocol: ClassVar[str] = "gigagan"
    option: ClassVar[str] = "--coco30k"
    published_size: ClassVar[int] = 30_000
    side: ClassVar[int] = 256
    filters = ("bicubic", "lanczos")

    def prompts(self, data: Path) -> list[Prompt]:
        """30,000 captions; of pictures drawn elsewhere in GigaGAN's layout, the lines of captions.txt beside them."""
        self.check(data)
        if self.pictures is not None and not any(self.pictures.glob("*/samples")):
            return self._prompts_elsewhere(self.pictures)
        places = ("coco/annotations/captions_val2014.json", "annotations/captions_val2014.json")
        (path,) = files.find("--coco30k.captions", self.captions, data, *places)
        content = files.load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise ValueError(f"{path}: expected an object with a list 'annotations'")
        captions = files.made(path, enumerate(content["annotations"], 1), _caption, "COCO caption")
        # "Random" in the paper. By the digest of its id, a caption is among the first 30,000 on every machine.
        chosen = sorted(captions, key=lambda one: hashlib.sha256(f"coco30k/{one.metadata['id']}".encode()).digest())
        return chosen[: self.published_size]

    def _prompts_elsewhere(self, folder: Path) -> list[Prompt]:
        """One prompt per picture: fake_images/*.png in natural order, and captions.txt, which only CLIP needs."""
        below = "fake_images" if (folder / "fake_images").is_dir() else "."
        pictures = in_folder(folder / below, "--coco30k.pictures")
        captions = folder / "captions.txt"
        if not captions.is_file() and self.clip_model:
            raise FileNotFoundError(
                f"{captions}: not found; the CLIP score needs the prompt of each picture, a line each"
            )
        texts = captions.read_text(encoding="utf-8").splitlines() if captions.is_file() else [""] * len(pictures)
        if len(texts) != len(pictures):
            raise ValueError(f"{captions}: {len(texts)} lines for {len(pictures)} pictures in {folder / below}")
        return [
            Prompt(text, metadata={"file": path.relative_to(folder).as_posix()})
            for text, path in zip(texts, pictures, strict=True)
        ]

    def elsewhere(self, prompts: Sequence[Prompt]) -> list[Drawn] | None:
        """GigaGAN's layout, or None for ours."""
        assert self.pictures is not None
        return by_file(self.pictures, prompts) if "file" in prompts[0].metadata else None

    def real_pictures(self, data: Path) -> list[Real]:
        """All of val2014: 40,504 pictures. Usual place: DATA/coco/val2014."""
        folder = files.folder("--coco30k.real", self.real, data, "coco/val2014", "val2014")
        return [Real(path) for path in in_folder(folder, "--coco30k.real")]


def _caption(row: dict[str, Any], number: int) -> Prompt:
    return Prompt(row["caption"].strip(), metadata={"id": int(row["id"]), "image_id": int(row["image_id"])})
