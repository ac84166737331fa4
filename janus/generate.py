"""Draw images for prompts.

    python -m janus.generate "a red circle left of a blue square"
    python -m janus.generate runs/tiny/stage3/model "a red circle left of a blue square" --images 4 --out pictures
    python -m janus.generate janus-1.3b --prompts prompts.txt --images 8 --seed 100 --out pictures

Writes one PNG per image, `grid.png` with a row per prompt, and `images.jsonl` with the prompt and seed of each file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from janus.cli import console, parse, run
from janus.workspace import needed_model
from schemas.files import atomic_file, write_file

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Generate:
    """Draw images for prompts with a trained Janus."""

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL] [PROMPT ...]")] = ()
    """Prompts. The first word is the model if it is a folder, or has a slash and no blank, as hub ids do."""
    model: str = ""
    """Model folder or hub id; all words are prompts then. By the workspace: the model of the last stage done."""
    prompts: Path | None = None
    """File with one prompt per line, instead of or besides prompts on the command line."""
    out: Path = Path("pictures")
    """Folder for the pictures; files of the same name are replaced."""
    images: int = 1
    """Images per prompt, with seeds `seed`, `seed` + 1 ..."""
    seed: int = 0
    """Seed of the first image of every prompt. A prompt and a seed give one image, whatever else is drawn with it."""
    template: Literal["chat", "plain"] | None = None
    """How the prompt is put: chat after stage 3, plain (the caption alone) after stages 1 and 2. Of a model that is
    named, chat by default."""
    cfg_scale: float = 5.0
    """Classifier-free guidance: 1 is none; the published models use 5, small ones less."""
    temperature: float = 1.0
    """0 always takes the likeliest code."""
    top_k: int | None = None
    """Draw from the k likeliest codes only."""
    top_p: float | None = None
    """Draw from the likeliest codes that together have this probability."""
    batch_size: int = 16
    """Images at once."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def main() -> None:
    """The command."""
    command = parse(Generate, prog="python -m janus.generate")
    command, template = choose_model(command)
    prompts = read_prompts(command)
    if command.images < 1:
        raise ValueError(f"--images {command.images}: expected 1 or more")
    from rich.progress import Progress

    from janus.model.checkpoints.model_folder import load_janus
    from janus.model.device import placement
    from janus.model.inference.sampling import sample_images

    device, dtype = placement(command.device)
    model, processor = load_janus(command.model, dtype=dtype, device=device)
    jobs = [(prompt, command.seed + i) for prompt in prompts for i in range(command.images)]
    with Progress(console=console(), transient=True) as progress:
        bar = progress.add_task("drawing", total=len(jobs))
        pictures = sample_images(
            model,
            processor,
            [prompt for prompt, _ in jobs],
            template=template,
            cfg_scale=command.cfg_scale,
            temperature=command.temperature,
            top_k=command.top_k,
            top_p=command.top_p,
            seeds=[seed for _, seed in jobs],
            batch_size=command.batch_size,
            on_progress=lambda done: progress.update(bar, completed=done),
        )
    settings = {"model": Path(command.model).name, "template": template, "cfg_scale": command.cfg_scale}
    settings |= {"temperature": command.temperature, "top_k": command.top_k, "top_p": command.top_p}
    write_pictures(command.out, pictures, jobs, columns=command.images, settings=settings)
    console().print(f"[green]wrote[/] {len(jobs)} images and grid.png to {command.out}")


def choose_model(command: Generate) -> tuple[Generate, str]:
    """The command with its `model`, and prompts alone in `words`; the template.

    Raises ValueError or FileNotFoundError with one line where no model is named and the workspace has none.
    """
    model, words, template = command.model, command.words, command.template
    if not model and words and (Path(words[0]).is_dir() or re.fullmatch(r"\S*/\S*", words[0])):
        model, words = words[0], words[1:]
    if not model:
        folder, stage = needed_model("no model named")
        model, template = str(folder), template or ("chat" if stage == 3 else "plain")
    return replace(command, model=model, words=words), template or "chat"


def read_prompts(command: Generate) -> list[str]:
    """The prompts of the command line and of the prompt file, in this order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no prompt at all.
    """
    prompts = list(command.words)
    if command.prompts is not None:
        if not command.prompts.is_file():
            raise FileNotFoundError(f"{command.prompts}: no such prompt file")
        prompts += command.prompts.read_text(encoding="utf-8").splitlines()
    prompts = [prompt.strip() for prompt in prompts if prompt.strip()]
    if not prompts:
        raise ValueError("no prompt: give one in quotes, or --prompts FILE with one per line")
    return prompts


def write_pictures(
    folder: Path, pictures: np.ndarray, jobs: list[tuple[str, int]], *, columns: int, settings: dict[str, Any]
) -> None:
    """Write each picture of uint8[N, S, S, 3] as PNG that carries its prompt and settings, the grid, and the index."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from janus.report.contact_sheet import contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, (picture, (prompt, seed)) in enumerate(zip(pictures, jobs, strict=True)):
        facts = {"prompt": prompt, "seed": seed, **settings}
        text = PngInfo()
        for key, value in facts.items():
            text.add_itxt(key, str(value))
        name = f"{index:05d}-{_slug(prompt)}-{seed}.png"
        with atomic_file(folder / name) as file:
            Image.fromarray(picture).save(file, "PNG", pnginfo=text)
        lines.append(json.dumps({"file": name, **facts}, ensure_ascii=False))
    write_file(folder / "images.jsonl", "\n".join(lines) + "\n")
    with atomic_file(folder / "grid.png") as file:
        contact_sheet(list(pictures), columns=columns).save(file, "PNG")


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "image"


if __name__ == "__main__":
    run(main)
