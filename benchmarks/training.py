"""What benchmarks/train_cpu.py and train_gpu.py share: one set of documents, trained on by us and by HF `Trainer`.

Both sides get the same documents per optimiser step, in memory: data loading is benchmarks/loader.py's subject. We lay
them into packs; `Trainer` gets them the ordinary way, one row each, padded to the longest of its forward pass.
`Trainer` has no image loss, so where both run, the mixture is understanding and text.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import JanusConfig, JanusVQVAEConfig

from janus.data.pack import pack_stream
from janus.model.network import MODULES, Janus
from janus.model.presets import find_preset, preset_config
from janus.packed import TASK_IDS, PackedBatch
from janus.train.flops import count_flops
from janus.train.gradients import Clipper
from janus.train.optim import Optimizers, freeze
from janus.train.parallel import parallelize
from janus.train.recipe import Recipe
from janus.train.step import LossModule, accumulate
from janus.train.world import World

PAD, BOS, EOS, BOI, EOI, IMAGE, FIRST_WORD = 0, 1, 2, 3, 4, 5, 6
VOCABULARY = 512
"""Least number of tokens, for presets whose vocabulary comes with a tokenizer."""


def plain_config(preset: str) -> JanusConfig:
    """The preset as both sides can build it, with the token ids of the documents below.

    A VQ tokenizer that `transformers` lacks (tiny) is replaced by a small one of its own: training runs neither.
    """
    vq = find_preset(preset).vq
    other = None
    if "architecture" in vq:
        other = JanusVQVAEConfig(
            embed_dim=8, num_embeddings=vq["num_embeddings"], latent_channels=32, base_channels=32, num_res_blocks=1
        )
    ids = {"image_token_id": IMAGE, "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    return preset_config(preset, tokenizer_size=VOCABULARY, vq=other, **ids)


@dataclass(frozen=True)
class Text:
    """Words per document of one task, uniform between two bounds."""

    low: int
    high: int


@dataclass(frozen=True)
class Document:
    """One training row: ids, which of them are labels, its picture or codes."""

    task: str
    ids: np.ndarray
    labels: np.ndarray
    """bool: this token is predicted."""
    pixels: np.ndarray | None = None
    codes: np.ndarray | None = None


def make_document(task: str, config: JanusConfig, words: Text, chance: np.random.Generator) -> Document:
    """A document with random words, picture and codes, laid out as `janus.model.templates` does."""
    vision, vocabulary = config.vision_config, config.text_config.vocab_size
    text = chance.integers(FIRST_WORD, vocabulary, chance.integers(words.low, words.high + 1))
    codes_per_image = config.vq_config.num_patches**2
    if task == "text":
        ids = np.concatenate([[BOS], text, [EOS]])
        return Document(task, ids, np.arange(len(ids)) > 0)
    if task == "understanding":
        image = [BOI, *[IMAGE] * vision.num_image_tokens, EOI]
        ids = np.concatenate([[BOS], image, text, [EOS]])
        side = vision.image_size
        pixels = chance.integers(0, 256, (side, side, 3), dtype=np.uint8)
        return Document(task, ids, np.arange(len(ids)) > len(image), pixels=pixels)
    ids = np.concatenate([[BOS], text, [BOI], [IMAGE] * codes_per_image, [EOI, EOS]])
    codes = chance.integers(0, config.vq_config.num_embeddings, codes_per_image)
    return Document(task, ids, ids == IMAGE, codes=codes)


def make_step(
    config: JanusConfig, ratio: tuple[int, int, int], words: dict[str, Text], tokens: int, seed: int
) -> list[Document]:
    """Documents in the exact ratio (understanding, text, generation), cycle after cycle, of `tokens` tokens in all."""
    chance = np.random.default_rng(seed)
    cycle = [task for task, count in zip(TASK_IDS, ratio, strict=True) for _ in range(count)]
    documents: list[Document] = []
    total = 0
    while True:
        task = cycle[len(documents) % len(cycle)]
        document = make_document(task, config, words[task], chance)
        if total + len(document.ids) > tokens:
            return documents
        documents.append(document)
        total += len(document.ids)


def pack(documents: Sequence[Document], config: JanusConfig, seq_len: int, micro_batch: int) -> list[PackedBatch]:
    """The documents as packed micro-batches."""
    packs = [[documents[i] for i in pack] for pack in pack_stream([len(d.ids) for d in documents], seq_len)]
    packs += [[]] * (-len(packs) % micro_batch)
    return [_batch(packs[start : start + micro_batch], config, seq_len) for start in range(0, len(packs), micro_batch)]


def _batch(packs: Sequence[Sequence[Document]], config: JanusConfig, seq_len: int) -> PackedBatch:
    ids = np.full((len(packs), seq_len), PAD, np.int64)
    positions = np.zeros_like(ids)
    lengths, pixels, codes, uids, tasks = [], [], [], [], []
    places: dict[str, list[np.ndarray]] = {name: [] for name in ("pixels", "codes", "labels", "words", "tasks")}
    for row, documents in enumerate(packs):
        start = 0
        for document in documents:
            stop = start + len(document.ids)
            ids[row, start:stop], positions[row, start:stop] = document.ids, np.arange(stop - start)
            lengths.append(stop - start)
            flat = row * seq_len + start
            images = flat + np.flatnonzero(document.ids == IMAGE)
            if document.codes is not None:
                codes.append(document.codes)
                places["codes"].append(images)
            else:
                labels = np.flatnonzero(document.labels)
                places["labels"].append(flat + labels - 1)
                places["words"].append(document.ids[labels])
                places["tasks"].append(np.full(len(labels), TASK_IDS[document.task]))
            if document.pixels is not None:
                pixels.append(document.pixels)
                places["pixels"].append(images)
            uids.append(bytes(16))
            tasks.append(document.task)
            start = stop
        positions[row, start:] = np.arange(seq_len - start)
        lengths.extend([seq_len - start] if start < seq_len else [])
    side, per_image = config.vision_config.image_size, config.vq_config.num_patches**2
    column = {name: torch.from_numpy(np.concatenate([np.empty(0, np.int64), *parts])) for name, parts in places.items()}
    return PackedBatch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        pixels=torch.from_numpy(np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)),
        pixel_positions=column["pixels"],
        codes=torch.from_numpy(np.stack(codes) if codes else np.empty((0, per_image), np.int64)),
        code_positions=column["codes"],
        text_label_positions=column["labels"],
        text_labels=column["words"],
        text_label_tasks=column["tasks"],
        uids=uids,
        tasks=tasks,
    )


@dataclass(frozen=True)
class Measured:
    """One side's result."""

    seconds: list[float]
    """Wall time per step, first steps left out."""
    cpu_seconds: list[float]
    """CPU time of all threads per step: on a busy machine, the steadier figure."""
    losses: list[float]
    tokens: float
    """Real tokens per step, padding of either kind left out."""
    documents: float
    """Per step."""
    flops: float = 0.0
    """Model FLOPs per step (`janus.train.flops`)."""
    peak_bytes: int = 0

    @property
    def steps_per_s(self) -> float:
        """Of wall time, by the median step."""
        return 1 / statistics.median(self.seconds)

    @property
    def tokens_per_s(self) -> float:
        """Real tokens."""
        return self.tokens * self.steps_per_s

    @property
    def steps_per_cpu_s(self) -> float:
        """Of CPU time, by the median step."""
        return 1 / statistics.median(self.cpu_seconds)


def run_ours(
    janus: Janus, steps: Sequence[Sequence[Document]], recipe: Recipe, world: World, *, warm_up: int
) -> Measured:
    """Train `janus` on `steps` with the trainer's own parts: what `janus.train.loop` does per step."""
    freeze(janus, recipe.train)
    flops = count_flops(janus, recipe.train)
    module, shards = parallelize(LossModule(janus), recipe, world)
    parameters = {name: p for name, p in janus.named_parameters() if p.requires_grad}
    optimizers, clipper = Optimizers(recipe.optimizer, parameters), Clipper(parameters, recipe.clip, shards)
    seconds, cpu_seconds, losses, work = [], [], [], 0.0
    _reset_peak(world.device)
    for number, documents in enumerate(steps):
        batches = pack(documents, janus.config, recipe.data.seq_len, recipe.data.micro_batch)
        if world.device.type == "cuda":
            batches = [batch.pin_memory() for batch in batches]
        start, cpu_start = _now(world.device), time.process_time()
        done = accumulate(module, batches, world, recipe)
        clipper.clip()
        optimizers.step(1.0)
        optimizers.zero_grad()
        if number >= warm_up:
            seconds.append(_now(world.device) - start)
            cpu_seconds.append(time.process_time() - cpu_start)
            work += flops.step(batches)
        losses.append(float(done.sums.sum()) / sum(done.global_tokens))
    flops_per_step = work / len(steps[warm_up:])
    return Measured(seconds, cpu_seconds, losses, *_per_step(steps[warm_up:]), flops_per_step, _peak(world.device))


def run_hugging_face(
    model: nn.Module,
    steps: Sequence[Sequence[Document]],
    recipe: Recipe,
    device: torch.device,
    *,
    warm_up: int,
    rows: int | None = None,
) -> Measured:
    """Train a `JanusForConditionalGeneration` on understanding and text with `transformers.Trainer`.

    Args:
        rows: most documents per forward pass, the rest of a step following by gradient accumulation; None for all.
    """
    import tempfile

    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    model.module_paths = MODULES
    freeze(model, recipe.train)
    # Parts without a loss on this side; they would only be skipped.
    for name, parameter in model.named_parameters():
        if "generation_" in name:
            parameter.requires_grad_(False)

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.cpu_seconds: list[float] = []

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.start, self.cpu_start = _now(device), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds.append(_now(device) - self.start)
            self.cpu_seconds.append(time.process_time() - self.cpu_start)

    clock = Clock()
    passes = forward_passes(steps, rows)
    batches = [batch for step in passes for batch in step]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=len(steps),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=len(passes[0]),
            learning_rate=recipe.optimizer.lr,
            adam_beta1=recipe.optimizer.betas[0],
            adam_beta2=recipe.optimizer.betas[1],
            weight_decay=recipe.optimizer.weight_decay,
            max_grad_norm=recipe.clip,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            bf16=recipe.precision != "fp32",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=device.type == "cpu",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=batches, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        # Trainer's own loader shuffles, and both sides must see the same steps.
        trainer.get_train_dataloader = lambda: torch.utils.data.DataLoader(  # type: ignore[method-assign]
            batches, batch_size=1, collate_fn=lambda chosen: padded(chosen[0]), pin_memory=device.type == "cuda"
        )
        _reset_peak(device)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds, cpu_seconds = clock.seconds[warm_up:], clock.cpu_seconds[warm_up:]
    return Measured(seconds, cpu_seconds, losses, *_per_step(steps[warm_up:]), peak_bytes=_peak(device))


def _per_step(steps: Sequence[Sequence[Document]]) -> tuple[float, float]:
    """Real tokens and documents of an average step."""
    tokens = sum(len(document.ids) for documents in steps for document in documents)
    return tokens / len(steps), sum(map(len, steps)) / len(steps)


def forward_passes(steps: Sequence[Sequence[Document]], rows: int | None) -> list[list[Sequence[Document]]]:
    """Each step's documents in order, cut as evenly as can be into passes of at most `rows` documents.

    Every step has as many passes as the step that needs most: `Trainer` accumulates over a fixed number.
    """
    count = 1 if rows is None else max(-(-len(documents) // rows) for documents in steps)
    return [
        [documents[len(documents) * k // count : len(documents) * (k + 1) // count] for k in range(count)]
        for documents in steps
    ]


def padded(documents: Sequence[Document]) -> dict[str, torch.Tensor]:
    """One row per document, padded on the right; prompts, pictures and padding carry no label."""
    width = max(len(document.ids) for document in documents)
    ids = torch.full((len(documents), width), PAD)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, document in enumerate(documents):
        length = len(document.ids)
        ids[row, :length] = torch.from_numpy(document.ids)
        mask[row, :length] = 1
        labels[row, :length] = torch.from_numpy(np.where(document.labels, document.ids, -100))
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    pictures = [document.pixels for document in documents if document.pixels is not None]
    if pictures:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        batch["pixel_values"] = (pixels / 255 - 0.5) / 0.5
    return batch


def hardware(device: torch.device) -> str:
    """Device, threads and versions, for the report."""
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers {transformers.__version__}"
    )


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
