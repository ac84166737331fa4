"""Drawing the pictures of a set of prompts: once, each with a seed of its own, resumable, in GenEval's folder layout.

    OUT/pictures/<set>/run.json                what the pictures belong to: prompts, model, sampling
    OUT/pictures/<set>/00000/metadata.jsonl    the benchmark's line about the prompt
    OUT/pictures/<set>/00000/samples/0000.png  its pictures

So pictures drawn here can be scored by other programs, and theirs here (`--NAME.pictures FOLDER`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from janus.evaluate.benchmark import Drawing, Drawn, Prompt
from janus.evaluate.store import write_lines
from schemas.files import atomic_file

if TYPE_CHECKING:
    import numpy as np

    from janus.model.network import Janus
    from janus.model.processor import Processor
    from janus.train.world import World


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn. The paper's settings are unpublished; these are the defaults of its scripts."""

    cfg_scale: float = 5.0
    """Classifier-free guidance weight; 1 is off."""
    temperature: float = 1.0
    """0 always takes the likeliest code."""
    top_k: int | None = None
    """Draw from the k likeliest codes only."""
    top_p: float | None = None
    """Draw from the likeliest codes that together have this probability."""
    seed: int = 0
    """Of the whole set: each picture has a seed of its own, made of this one and its place."""
    template: Literal["chat", "plain"] = "chat"
    """chat: the prompt as a user's turn (a stage-3 model). plain: the bare caption (stages 1 and 2)."""


def folder_of(benchmark: Drawing, out: Path) -> Path:
    """Where the pictures of a benchmark stand: what was drawn elsewhere, or the evaluation's own."""
    return benchmark.pictures or out / "pictures" / benchmark.prompt_set


def located(benchmark: Drawing, prompts: Sequence[Prompt], out: Path) -> list[Drawn]:
    """Where each picture of an evaluation stands, prompt by prompt, drawn here or elsewhere."""
    found = None if benchmark.pictures is None else benchmark.elsewhere(prompts)
    return drawn(folder_of(benchmark, out), prompts, benchmark.images_per_prompt) if found is None else found


def drawn(folder: Path, prompts: Sequence[Prompt], images_per_prompt: int) -> list[Drawn]:
    """Where each picture of the set stands, drawn or not, prompt by prompt."""
    return [
        Drawn(f"{index:05d}/{sample:04d}", prompt, path_of(folder, f"{index:05d}/{sample:04d}"))
        for index, prompt in enumerate(prompts)
        for sample in range(images_per_prompt)
    ]


def path_of(folder: Path, identity: str) -> Path:
    """The file of a picture: "00012/0003" stands in 00012/samples/0003.png."""
    prompt, _, sample = identity.partition("/")
    return folder / prompt / "samples" / f"{sample}.png"


def seed_of(name: str, seed: int, index: int) -> int:
    """The seed of picture `index` of a set: the result depends on neither batches nor processes."""
    return int.from_bytes(hashlib.sha256(f"{name}/{seed}/{index}".encode()).digest()[:6], "big")


def draw(
    model: Janus,
    processor: Processor,
    pictures: Sequence[Drawn],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    batch_size: int,
    world: World,
    on_progress: Callable[[int, int], None],
) -> None:
    """Draw what is missing, each with its seed. Batches are fixed by the prompts and made whole, as in `ask`."""
    from janus.model.inference.kv_cache import batches
    from janus.model.inference.sampling import image_prompt, sample_images

    lengths = [len(image_prompt(processor, one.prompt.text, sampling.template)) for one in pictures]
    multiple = max(processor.generation_tokens // 4, 8)
    mine = [indices for _, indices in batches(lengths, batch_size, multiple)][world.rank :: world.size]
    todo = [batch for batch in mine if not all(pictures[index].path.is_file() for index in batch)]
    total = sum(map(len, mine))
    done = total - sum(map(len, todo))
    on_progress(done, total)
    for batch in todo:
        images = sample_images(
            model,
            processor,
            [pictures[index].prompt.text for index in batch],
            template=sampling.template,
            cfg_scale=sampling.cfg_scale,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seeds=[seeds[index] for index in batch],
            batch_size=batch_size,
        )
        for index, image in zip(batch, images, strict=True):
            _save(pictures[index], image)
        done += len(batch)
        on_progress(done, total)


def _save(one: Drawn, image: np.ndarray) -> None:
    """Write a picture and the line about its prompt."""
    from PIL import Image

    write_lines(one.path.parent.parent / "metadata.jsonl", [{**one.prompt.metadata, "prompt": one.prompt.text}])
    with atomic_file(one.path) as file:
        Image.fromarray(image).save(file, "PNG")


def sampling_facts(sampling: Sampling, images_per_prompt: int) -> dict[str, object]:
    """What a result says about how its pictures were drawn."""
    return {**asdict(sampling), "images_per_prompt": images_per_prompt}
