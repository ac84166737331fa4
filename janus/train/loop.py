"""The training loop: one for all stages (DESIGN D9)."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from janus.data.config import DataConfig, TokenIds
from janus.data.loader import Loader
from janus.data.shards import check_fingerprints
from janus.model.fingerprint import fingerprints
from janus.model.folder import load_janus
from janus.model.processor import Processor
from janus.train.card import make_card, show
from janus.train.checkpoint import Checkpointer, committed, load, read_state, tensors
from janus.train.flops import CONVENTION, count_flops, peak_flops
from janus.train.gradients import Clipper
from janus.train.guard import StopRequest
from janus.train.logbook import Logbook, Reading, Sink
from janus.train.metrics import Display, MetricsFile, TensorBoard
from janus.train.optim import Optimizers, freeze
from janus.train.parallel import parallelize
from janus.train.recipe import Recipe
from janus.train.record import Inputs, check_identity, identity, model_digest, write_record
from janus.train.schedule import lr_factor
from janus.train.step import LossModule, accumulate
from janus.train.watch import Samples, held_out_loss
from janus.train.weights import plain_copy, write_model
from janus.train.world import World, join_world
from schemas.manifest import Snapshot, load_snapshot


def train(recipe: Recipe, inputs: Inputs, console: Console, *, device: str = "auto") -> bool:
    """Run one stage, from the newest checkpoint in the run folder if there is one.

    Returns True when all steps are done and `out/model` is written, False after SIGTERM or SIGINT and a checkpoint.

    Raises ValueError or FileNotFoundError with one line for what a user can cause.
    """
    with join_world(device, process_groups=recipe.precision == "bf16") as world:
        quiet = console if world.is_main else Console(quiet=True)
        return Trainer(recipe, inputs, world, quiet).run()


class Trainer:
    """One process of one run."""

    def __init__(self, recipe: Recipe, inputs: Inputs, world: World, console: Console) -> None:
        self._recipe, self._inputs, self._world, self._console = recipe, inputs, world, console
        snapshot = load_snapshot(inputs.data, inputs.snapshot or None)
        model_prints = fingerprints(inputs.model, snapshot.fingerprints.pixels)
        check_fingerprints(snapshot, model_prints)
        self._held_out: tuple[Path, Snapshot] | None = None
        if recipe.watch.held_out:
            folder = Path(recipe.watch.held_out)
            self._held_out = folder, load_snapshot(folder)
            check_fingerprints(self._held_out[1], model_prints)
        janus, self._processor = load_janus(inputs.model, dtype=torch.float32, device=world.device)
        self._samples = Samples(inputs.out / "samples", recipe, self._processor) if recipe.watch.sample_every else None

        checkpoints = committed(inputs.out / "checkpoints")
        self._done = checkpoints[-1][0] if checkpoints else 0
        self._loader = self._load(inputs.data, snapshot, recipe.data, steps=recipe.steps, start_step=self._done)
        self._flops = count_flops(janus, recipe.train)
        freeze(janus, recipe.train)
        self._plain = LossModule(janus, isolate_documents=recipe.isolate_documents)
        self._module, shards = parallelize(self._plain, recipe, world)
        # Only now: sharding replaces the parameters.
        self._parameters = {name: p for name, p in janus.named_parameters() if p.requires_grad}
        self._optimizers = Optimizers(recipe.optimizer, self._parameters)
        self._clipper = Clipper(self._parameters, recipe.clip, shards)
        self._card = make_card(recipe, janus, snapshot, self._flops, shards=shards.size() if shards else 1)

        run = {}
        if world.is_main:
            inputs.out.mkdir(parents=True, exist_ok=True)
            run = identity(recipe, model_digest(inputs.model), self._loader.order)
            if checkpoints:
                check_identity(read_state(checkpoints[-1][1])["identity"], run, checkpoints[-1][1])
            write_record(recipe, inputs, snapshot=snapshot.name, world=world, identity=run, step=self._done)
        self._checkpointer = Checkpointer(inputs.out / "checkpoints", recipe.checkpoint, world, run)
        if checkpoints:
            load(checkpoints[-1][1], self._state(), group=world.host_group)

    def run(self) -> bool:
        """Train to the last step (True), or until asked to stop (False)."""
        show(self._card, self._recipe, self._console)
        peak = peak_flops(self._world.device)
        if peak is not None:
            self._console.print(f"MFU is {CONVENTION}, {peak / 1e12:.0f} TFLOP/s")
        if self._done:
            self._console.print(f"continuing after step {self._done}")
        display = Display(self._console, steps=self._recipe.steps, start_step=self._done)
        self._log = Logbook(
            self._recipe,
            self._world,
            self._card,
            self._flops,
            modules=self._clipper.modules,
            peak=peak,
            display=display,
            sinks=self._sinks(),
        )
        try:
            with StopRequest() as stop, controlled_gc():
                finished = self._steps(stop)
                self._checkpointer.wait()
        finally:
            self._log.close()
        if not finished:
            self._console.print(f"stopped after step {self._done}; the same command continues")
            return False
        write_model(self._inputs.out / "model", self._plain, self._processor, self._world)
        self._console.print(f"done: {self._inputs.out / 'model'}")
        return True

    def _steps(self, stop: StopRequest) -> bool:
        """All remaining steps; False if asked to stop before the last."""
        # A GPU's numbers are read one step late, so that the host never waits for the device.
        lag = 1 if self._world.device.type == "cuda" else 0
        unread: deque[Reading] = deque()

        def settle(keep: int) -> None:
            while len(unread) > keep:
                self._log.settle(unread.popleft())

        for batches in self._loader:
            self._log.begin(batches)
            done = accumulate(self._module, batches, self._world, self._recipe, stop=stop.wanted)
            norms = self._clipper.clip()
            factor = lr_factor(self._recipe.schedule, self._done, self._recipe.steps)
            unread.append(Reading(self._done + 1, batches, done, norms, factor * self._recipe.optimizer.lr))
            settle(keep=lag)
            self._optimizers.step(factor)
            self._optimizers.zero_grad()
            self._done += 1
            last = self._done == self._recipe.steps
            if self._done % self._recipe.parallel.gc_every == 0:
                gc.collect(1)
            if self._checkpointer.due(self._done) or last or done.stop:
                # Nothing that is not finite is ever saved.
                settle(keep=0)
                with self._log.paused():
                    self._checkpointer.save(self._done, self._state())
            self._checkpointer.poll()
            if done.stop and not last:
                return False
            self._look(last)
        return True

    def _look(self, last: bool) -> None:
        """Held-out loss and samples, where they are due."""
        watch = self._recipe.watch
        if self._held_out and (last or self._done % watch.held_out_every == 0):
            with self._log.paused():
                # Whole captions, all sources: the loss of the data itself, the same batches each time.
                data = replace(self._recipe.data, caption_drop=0.0, short_caption=0.0, first_role="")
                steps = self._load(*self._held_out, data, steps=watch.held_out_steps)
                losses = held_out_loss(self._module, steps, self._world, self._recipe)
            self._log.write({"step": self._done, "held_out": losses})
            self._log.say("held-out " + " ".join(f"{task} {loss:.4f}" for task, loss in losses.items()))
        if self._samples and (last or self._done % watch.sample_every == 0):
            with self._log.paused():
                janus = plain_copy(self._plain, self._world)
                if janus is not None:
                    self._samples.draw(janus, self._done)
                self._world.barrier()

    def _load(self, corpus: Path, snapshot: Snapshot, data: DataConfig, *, steps: int, start_step: int = 0) -> Loader:
        return Loader(
            corpus,
            snapshot,
            data=data,
            tokens=token_ids(self._processor),
            steps=steps,
            rank=self._world.rank,
            world_size=self._world.size,
            start_step=start_step,
            pin_memory=self._world.device.type == "cuda",
        )

    def _state(self) -> dict[str, torch.Tensor]:
        return tensors(self._parameters, self._optimizers, step=self._done)

    def _sinks(self) -> list[Sink]:
        if not self._world.is_main:
            return []
        sinks: list[Sink] = [MetricsFile(self._inputs.out, start_step=self._done)]
        if self._recipe.watch.tensorboard:
            sinks.append(TensorBoard(self._inputs.out))
        return sinks


def token_ids(processor: Processor) -> TokenIds:
    """The special tokens of a model's tokenizer."""
    return TokenIds(
        bos=processor.bos_id,
        eos=processor.eos_id,
        pad=processor.pad_id,
        boi=processor.boi_id,
        eoi=processor.eoi_id,
        image=processor.image_id,
    )


@contextmanager
def controlled_gc() -> Iterator[None]:
    """No automatic garbage collection inside: a pause on one rank is a pause on all, and it can take half a second."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
