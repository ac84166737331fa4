"""The training loop: one for all stages (design D9)."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

import torch
from rich.console import Console
from rich.markup import escape

from janus.data.config import DataConfig, TokenIds
from janus.data.loader import Loader
from janus.data.shards import check_fingerprints, check_stage
from janus.model.checkpoints.fingerprint import fingerprints
from janus.model.checkpoints.model_folder import load_janus
from janus.model.checkpoints.sums import read_sums
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.packed import PackedBatch
from janus.train.card import make_card, show, show_rehearsal
from janus.train.checkpoint import Checkpointer, load, read_state, tensors
from janus.train.display import Display
from janus.train.failures import in_one_line
from janus.train.flops import CONVENTION, count_flops, peak_flops
from janus.train.gradients import Clipper
from janus.train.guard import StopRequest, check_finite, check_weights
from janus.train.logbook import Logbook, Reading
from janus.train.loggers import Logger, Run, open_loggers
from janus.train.optim import Optimizers
from janus.train.parallel import parallelize
from janus.train.recipe import Recipe
from janus.train.record import Inputs, check_identity, find_start, identity, model_digest, write_record
from janus.train.rehearsal import rehearse
from janus.train.repeatable import repeatable
from janus.train.run_lock import run_lock
from janus.train.schedule import lr_factor
from janus.train.step import LossModule, accumulate
from janus.train.trained import choose_trained, seed_dropout, weight_types
from janus.train.watch import Samples, held_out_loss
from janus.train.weights import plain_copy, write_adapted, write_model
from janus.train.world import World, describe_devices, hang_note, join_world
from schemas.manifest import Fingerprints, Snapshot, load_snapshot
from storage.places import Place


def train(recipe: Recipe, inputs: Inputs, console: Console, *, device: str = "auto") -> bool:
    """Run one stage, from the newest checkpoint in the run folder if there is one.

    Returns True when all steps are done and `out/model` is written, False after SIGTERM or SIGINT and a checkpoint.

    Raises ValueError or FileNotFoundError with one line for what a user can cause.
    """
    process_groups = recipe.precision == "bf16"
    joined = join_world(device, process_groups=process_groups, traces=inputs.out)
    with repeatable(recipe.parallel.deterministic), joined as world:
        quiet = console if world.is_main else Console(quiet=True)
        with in_one_line(inputs.out, world), ExitStack() as held:
            with world.agreed():
                if world.is_main:
                    held.enter_context(run_lock(inputs.out))
            return Trainer(recipe, inputs, world, quiet).run()


def dry_run(recipe: Recipe, inputs: Inputs, console: Console, *, device: str = "auto", rate: float = 0.0) -> None:
    """Check everything, print the run card and compute the first step without moving a weight. Writes nothing.

    Args:
        rate: tokens a second of all processes, to tell the run's time by; 0 for what the first step took.

    Raises ValueError or FileNotFoundError with one line for what a user can cause.
    """
    process_groups = recipe.precision == "bf16"
    with repeatable(recipe.parallel.deterministic), join_world(device, process_groups=process_groups) as world:
        quiet = console if world.is_main else Console(quiet=True)
        with in_one_line(inputs.out, world):
            Trainer(recipe, inputs, world, quiet, dry=True).rehearse(rate)


class Trainer:
    """One process of one run; `dry` for one that writes nothing."""

    def __init__(self, recipe: Recipe, inputs: Inputs, world: World, console: Console, *, dry: bool = False) -> None:
        self._recipe, self._inputs, self._world, self._console = recipe, inputs, world, console
        self._notes = [inputs.note] if inputs.note else []
        # One process looks: a checkpoint or snapshot may appear between two looks.
        with world.agreed():
            start = find_start(inputs, set_aside=not dry) if world.is_main else None
        start = world.share(start)
        assert start is not None
        self._done = start.step
        self._notes += start.notes
        run = {}
        # All that can be wrong with what a run is given shows here, before ranks depend on each other.
        with world.agreed():
            snapshot = self._snapshot(inputs.data, start.snapshot)
            prints = fingerprints(inputs.model, snapshot.fingerprints.pixels)
            check_fingerprints(snapshot, prints)
            janus, self._processor = load_janus(inputs.model, dtype=weight_types(recipe), device=world.device)
            check_weights(janus, inputs.model)
            if read_sums(inputs.model).of is None:
                self._notes.append(f"{inputs.model} has no SHA256SUMS: a bit that flipped in it would not be seen")
            self._tokens = token_ids(self._processor, janus)
            self._samples = self._make_samples()
            self._loader = self._load(inputs.data, snapshot, recipe.data, steps=recipe.steps, start_step=start.step)
            self._held_out = self._load_held_out(prints)
            if world.is_main:
                run = identity(recipe, model_digest(inputs.model), self._loader.order)
                changes = {}
                if start.checkpoint:
                    found = read_state(start.checkpoint)["identity"]
                    changes = check_identity(found, run, start.checkpoint, new_recipe=inputs.new_recipe)
                    if start.step > recipe.steps:
                        raise ValueError(f"--steps {recipe.steps}: {start.checkpoint} is already beyond that")
                if not dry:
                    self._notes += write_record(
                        recipe,
                        inputs,
                        snapshot=snapshot.name,
                        world=world,
                        identity=run,
                        step=start.step,
                        changes=changes,
                    )

        self._flops = count_flops(janus, recipe.train, recipe.adapted)
        with world.agreed():
            choose_trained(janus, recipe.train, recipe.lora, seed=recipe.data.seed)
        self._plain = LossModule(janus, isolate_documents=recipe.isolate_documents)
        self._module, shards = parallelize(self._plain, recipe, world)
        self._shards = shards
        if note := hang_note(world, inputs.out):
            self._notes.append(note)
        # Only now: sharding replaces the parameters.
        self._parameters = {name: p for name, p in janus.named_parameters() if p.requires_grad}
        self._optimizers = Optimizers(recipe.optimizer, self._parameters, janus.module_paths)
        self._clipper = Clipper(self._parameters, recipe.clip, shards, janus.module_paths)
        self._card = make_card(
            recipe,
            janus,
            snapshot,
            self._flops,
            self._loader.forecasts,
            self._loader.uses,
            shards=shards.size() if shards else 1,
            device=describe_devices(world),
        )
        self._checkpointer = Checkpointer(
            inputs.out / "checkpoints", recipe.checkpoint, world, snapshot=snapshot.name, identity=run
        )
        if start.checkpoint:
            with world.agreed():
                load(start.checkpoint, self._state(), group=world.host_group)

    def rehearse(self, rate: float) -> None:
        """Show the card and what the first step is like."""
        self._show()
        batches = next(self._world.each(self._loader), None)
        if batches is None:
            self._console.print(f"all {self._done} steps are done")
            return
        first = rehearse(self._module, batches, self._world, self._recipe)
        show_rehearsal(self._card, self._recipe, first, self._world.size, rate, self._console)

    def _show(self) -> None:
        show(self._card, self._recipe, self._console)
        if unverified := self._loader.unverified_bytes:
            self._notes.append(
                f"{unverified / 2**30:.3g} GiB of shards are new to this machine: each is hashed when it is first used "
                "and slows the first steps (--data.no-verify leaves it out)"
            )
        for note in self._notes:
            self._console.print(f"[yellow]note:[/] {escape(note)}")

    def run(self) -> bool:
        """Train to the last step (True), or until asked to stop (False)."""
        self._show()
        peak = peak_flops(self._world.device)
        if peak is not None:
            self._console.print(f"MFU is {CONVENTION}, {peak / 1e12:.0f} TFLOP/s")
        if self._done:
            self._console.print(f"continuing after step {self._done}")
        with self._world.agreed():
            loggers = self._loggers()
        display = Display(self._console, steps=self._recipe.steps, start_step=self._done)
        self._log = Logbook(
            self._recipe,
            self._world,
            self._card,
            self._flops,
            peak=peak,
            display=display,
            loggers=loggers,
        )
        try:
            with StopRequest() as stop, controlled_gc():
                try:
                    finished = self._steps(stop)
                except (Exception, SystemExit):
                    self._commit_before_leaving()
                    raise
                self._checkpointer.wait()
        finally:
            self._log.close()
        if not finished:
            self._console.print(f"stopped after step {self._done}; the same command continues")
            return False
        if self._recipe.lora.rank:
            write_adapted(self._inputs, self._recipe, self._plain, self._processor, self._world)
        else:
            dtype = torch.bfloat16 if self._recipe.output == "bf16" else torch.float32
            write_model(self._inputs.out / "model", self._plain, self._processor, self._world, dtype)
        self._console.print(f"done: {self._inputs.out / 'model'}")
        return True

    def _steps(self, stop: StopRequest) -> bool:
        """All remaining steps; False if asked to stop before the last."""
        # A GPU's numbers are read one step late, so that the host never waits for the device.
        lag = 1 if self._world.device.type == "cuda" else 0
        unread: deque[Reading] = deque()

        def settle(keep: int) -> None:
            while len(unread) > keep:
                reading = unread.popleft()
                numbers = reading.read()
                check_finite(reading.step, numbers.sums, numbers.norms, reading.documents)
                self._log.settle(reading, numbers)

        started_after = self._done
        for batches in self._world.each(self._loader):
            if self._done == started_after + 1:
                self._world.expect_steady_steps(self._shards)
            self._log.begin(batches)
            seed_dropout(self._recipe, self._done, self._world.rank)
            done = accumulate(self._module, batches, self._world, self._recipe, stop=stop.wanted)
            norms = self._clipper.clip()
            factor = lr_factor(self._recipe.schedule, self._done, self._recipe.steps)
            lr = factor * self._recipe.optimizer.lr
            unread.append(Reading(self._done + 1, batches, done, norms, lr, self._clipper.modules))
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

    def _commit_before_leaving(self) -> None:
        """Commit the save in flight of a run that ends with an error, which one of the save must not hide."""
        try:
            self._checkpointer.wait()
        except Exception as error:
            self._log.say(f"[yellow]warning:[/] the last checkpoint was not written: {escape(str(error))}")

    def _look(self, last: bool) -> None:
        """Held-out loss and samples, where they are due."""
        watch = self._recipe.watch
        if self._held_out and (last or self._done % watch.held_out_every == 0):
            with self._log.paused():
                losses = held_out_loss(self._module, self._held_out, self._world, self._recipe)
            self._log.write({"step": self._done, "held_out": losses})
            self._log.say("held-out " + " ".join(f"{task} {loss:.4f}" for task, loss in losses.items()))
        if self._samples and (last or self._done % watch.sample_every == 0):
            with self._log.paused():
                janus = plain_copy(self._plain, self._world)
                with self._world.agreed():
                    if janus is not None:
                        self._samples.draw(janus, self._done)

    def _snapshot(self, corpus: Place, name: str | None = None) -> Snapshot:
        """A snapshot for this stage, the latest without a name."""
        snapshot = load_snapshot(corpus, name)
        note = check_stage(snapshot, self._recipe.data.corpus_stage or self._recipe.stage)
        if note:
            self._notes.append(note)
        return snapshot

    def _make_samples(self) -> Samples | None:
        if not self._recipe.watch.sample_every:
            return None
        return Samples(self._inputs.out / "samples", self._recipe, self._processor)

    def _load_held_out(self, model: Fingerprints) -> Iterable[list[PackedBatch]] | None:
        """Whole captions, all sources: the loss of the data itself, the same batches each time."""
        watch = self._recipe.watch
        if not watch.held_out:
            return None
        corpus = watch.held_out
        data = replace(self._recipe.data, caption_drop=0.0, short_caption=0.0, first_group="")
        try:
            snapshot = self._snapshot(corpus)
            check_fingerprints(snapshot, model)
            return self._load(corpus, snapshot, data, steps=watch.held_out_steps)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"--watch.held-out {corpus}: {error}") from None

    def _load(self, corpus: Place, snapshot: Snapshot, data: DataConfig, *, steps: int, start_step: int = 0) -> Loader:
        return Loader(
            corpus,
            snapshot,
            data=data,
            tokens=self._tokens,
            steps=steps,
            rank=self._world.rank,
            world_size=self._world.size,
            start_step=start_step,
            pin_memory=self._world.device.type == "cuda",
        )

    def _state(self) -> dict[str, torch.Tensor]:
        return tensors(self._parameters, self._optimizers, step=self._done)

    def _loggers(self) -> dict[str, Logger]:
        if not self._world.is_main:
            return {}
        watch = self._recipe.watch
        run = Run(self._inputs.out, self._done, asdict(self._recipe))
        return open_loggers(watch.loggers, watch.logger_options, run)


def token_ids(processor: Processor, janus: Janus) -> TokenIds:
    """The special tokens of a model's tokenizer, and the size of its vocabulary."""
    return TokenIds(
        bos=processor.bos_id,
        eos=processor.eos_id,
        pad=processor.pad_id,
        boi=processor.boi_id,
        eoi=processor.eoi_id,
        image=processor.image_id,
        vocabulary=janus.config.text_config.vocab_size,
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
