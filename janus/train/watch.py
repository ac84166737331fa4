"""Looking at a model while it trains: held-out loss, sample images, sample answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from janus.images import load_rgb
from janus.model.inference.answering import answer
from janus.model.inference.sampling import sample_images
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.packed import NUM_TASKS, TASK_IDS, PackedBatch
from janus.report.contact_sheet import contact_sheet
from janus.train.recipe import Recipe
from janus.train.step import precision_context
from janus.train.world import World
from schemas.files import atomic_file, write_file
from schemas.sample import Message

ANSWER_TOKENS = 64


@torch.no_grad()
def held_out_loss(
    module: nn.Module, steps: Iterable[list[PackedBatch]], world: World, recipe: Recipe
) -> dict[str, float]:
    """Mean cross-entropy per supervised token over all of `steps`, of all tasks and of each. All ranks must call."""
    sums = torch.zeros(NUM_TASKS, dtype=torch.float64)
    counts = torch.zeros(NUM_TASKS, dtype=torch.float64)
    for batches in world.each(steps):
        for batch in batches:
            with precision_context(recipe, world.device):
                losses = module(batch.to(world.device, non_blocking=True))
            sums += losses.sums.double().cpu()
            counts += batch.label_counts()
    totals = world.sum([*sums.tolist(), *counts.tolist()])
    return mean_losses(totals[:NUM_TASKS], totals[NUM_TASKS:])


def mean_losses(sums: list[float], counts: list[float]) -> dict[str, float]:
    """Loss over all tokens ("all") and of each task that has any."""
    losses = {"all": sum(sums) / max(1.0, sum(counts))}
    for task, number in TASK_IDS.items():
        if counts[number]:
            losses[task] = sums[number] / counts[number]
    return losses


class Samples:
    """Images for the recipe's prompts and answers to its questions, drawn the same way each time."""

    def __init__(self, folder: Path, recipe: Recipe, processor: Processor) -> None:
        """Raises FileNotFoundError or ValueError now, not hours later, where a question's image cannot be read."""
        self._folder, self._recipe, self._processor = folder, recipe, processor
        self._chat = recipe.stage == 3
        self._images = [_read_image(path) for path, _ in recipe.watch.questions]

    def draw(self, janus: Janus, step: int) -> None:
        """Write `step-NNNNNN.png`, the images side by side, and `step-NNNNNN.jsonl`, the answers.

        Before stage 3 a model knows no questions: it describes the images instead.
        """
        self._folder.mkdir(exist_ok=True)
        watch = self._recipe.watch
        training = {module: module.training for module in janus.modules()}
        janus.eval()
        vq = janus.model.vqmodel  # on the host while training (`parallelize`)
        home = next(vq.parameters()).device
        vq.to(janus.device)
        # Sampling has other shapes than training; compiling layers for them would take minutes.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            if watch.prompts:
                images = sample_images(
                    janus,
                    self._processor,
                    watch.prompts,
                    template="chat" if self._chat else "plain",
                    cfg_scale=watch.cfg_scale,
                    seeds=list(range(len(watch.prompts))),
                )
                with atomic_file(self._folder / f"step-{step:06d}.png") as file:
                    contact_sheet(list(images), labels=watch.prompts).save(file, "PNG")
            if self._images:
                answers = answer(
                    janus,
                    self._processor,
                    [self._conversation(question) for _, question in watch.questions],
                    [[image] for image in self._images],
                    template="chat" if self._chat else "plain",
                    max_new_tokens=ANSWER_TOKENS,
                )
                lines = zip(watch.questions, answers, strict=True)
                text = "".join(
                    json.dumps({"image": path, "question": question if self._chat else None, "answer": found}) + "\n"
                    for (path, question), found in lines
                )
                write_file(self._folder / f"step-{step:06d}.jsonl", text)
        vq.to(home)
        for module, mode in training.items():
            module.training = mode

    def _conversation(self, question: str) -> list[Message]:
        return [Message(role="user", text=f"<image>{question}")] if self._chat else []


def _read_image(path: str) -> Image.Image:
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"--watch.questions: {path}: no such image")
    return load_rgb(file.read_bytes())
