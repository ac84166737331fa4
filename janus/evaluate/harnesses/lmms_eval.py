"""lmms-eval's model `janus_forge` (docs/harnesses.md), found by the entry point `lmms_eval.models`.

    python -m lmms_eval --model janus_forge --model_args pretrained=MODEL --tasks pope --batch_size 32
    python -m lmms_eval --model janus_forge --model_args pretrained=MODEL,mode=generation --tasks WISE --batch_size 16

Only lmms-eval imports this module. Written against its version 0.7.3.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from janus.evaluate.draw import Sampling

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from janus.train.world import World

NAME = "janus_forge"
MODES = ("understanding", "generation")
MANIFEST = ModelManifest(model_id=NAME, simple_class_path=f"{__name__}.JanusForge")


class JanusForge(lmms):  # type: ignore[misc]
    """A Janus that answers lmms-eval's questions about pictures, or draws its prompts.

    Args of `--model_args` (the others are lmms-eval's own options):
        pretrained: Janus folder or hub id.
        dtype: of the weights: bfloat16, float32 or auto.
        mode: understanding (answers are text), or generation (pictures are drawn; text-to-image tasks).
        output_dir: folder of the drawn pictures; the same command goes on in it.
        cfg_scale, temperature, top_k, top_p, seed, template: how pictures are drawn, as of `janus.evaluate`.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        mode: str = "understanding",
        output_dir: str = "janus_forge_pictures",
        **sampling: Any,
    ) -> None:
        from janus.evaluate.subject import load_subject

        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode={mode}: expected {' or '.join(MODES)}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ValueError(f"--batch_size {batch_size}: {NAME} takes a number, 1 or more")
        unknown = sampling.keys() - asdict(Sampling()).keys()
        if unknown or (sampling and mode != "generation"):
            known = "pretrained, dtype, mode, output_dir; with mode=generation: " + ", ".join(asdict(Sampling()))
            raise ValueError(f"--model_args {sorted(unknown or sampling)[0]}: {NAME} takes {known}")
        self.batch_size = int(batch_size)
        self.mode, self.output_dir, self.sampling = mode, Path(output_dir), Sampling(**sampling)
        local, processes = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if processes > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            if device in (None, "auto", "cuda"):
                device = f"cuda:{local}" if self.accelerator.device.type == "cuda" else "cpu"
        self.subject, evaluation = load_subject(pretrained, device or "auto", dtype)
        self.max_new_tokens = evaluation.get("max_new_tokens")

    @property
    def device(self) -> torch.device:
        """Where the model is; lmms-eval asks."""
        return self.subject.model.lm_head.weight.device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request, or {"text": "", "images": [path]} in JSON where it is to be drawn.

        Raises ValueError with one line that names task and document, for what Janus cannot do.
        """
        from tqdm import tqdm

        results = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            settings = request.args[4] if self.mode == "generation" else json.dumps(request.args[1], sort_keys=True)
            groups.setdefault(settings, []).append(index)
        with tqdm(total=len(requests), disable=self.rank != 0, desc=NAME) as bar:

            def done(indices: Sequence[int], place: int, result: str) -> None:
                index = indices[place]
                results[index] = result
                self.cache_hook.add_partial("generate_until", requests[index].args[:2], result)
                bar.update(1)

            run = self._draw if self.mode == "generation" else self._answer
            for indices in groups.values():
                run([requests[index].args for index in indices], partial(done, indices))
        return results

    def _answer(self, asked: Sequence[tuple[Any, ...]], on_answer: Callable[[int, str], None]) -> None:
        """Answer requests of the same settings."""
        from janus.evaluate.harnesses.asking import answers, user_turn
        from janus.evaluate.prompts import MAX_NEW_TOKENS
        from janus.model.inference.sampling_params import SamplingParams

        settings = asked[0][1]
        if (settings.get("num_beams") or 1) != 1:
            raise ValueError(
                f"task {asked[0][4]}: num_beams {settings['num_beams']}: {NAME} has no beam search; give 1"
            )
        until = settings.get("until") or []
        ends = [until] if isinstance(until, str) else list(until)

        def pictures(index: int) -> list[Image.Image]:
            return [picture.convert("RGB") for picture in self._visuals(asked[index])]

        def cut(index: int, said: str) -> None:
            places = [said.index(end) for end in ends if end in said]
            on_answer(index, said[: min(places, default=None)])

        conversations = []
        for one in asked:
            try:
                conversations.append([user_turn(one[0], len(self._visuals(one)))])
            except ValueError as error:
                raise ValueError(f"{_where(one)}: {error}") from None
        answers(
            self.subject,
            conversations,
            pictures,
            max_new_tokens=settings.get("max_new_tokens") or self.max_new_tokens or MAX_NEW_TOKENS,
            params=_params(settings, SamplingParams),
            seeds=[one[3] for one in asked],
            batch_size=self.batch_size,
            on_answer=cut,
        )

    def _draw(self, asked: Sequence[tuple[Any, ...]], on_answer: Callable[[int, str], None]) -> None:
        """Draw the requests of a task that have no picture yet; a document's picture depends on its prompt and id."""
        from janus.evaluate import draw, store
        from janus.evaluate.benchmark import Drawn, Prompt

        task = asked[0][4]
        folder = self.output_dir / str(task).replace("/", "_")
        about = {"model": self.subject.fingerprint, "dtype": self.subject.dtype, "sampling": asdict(self.sampling)}
        store.claim(folder, about, option="output_dir")
        pictures = []
        for one in asked:
            if self._visuals(one):
                raise ValueError(f"{_where(one)}: gives a picture to be edited; Janus draws from text alone")
            identity = f"{one[3]:05d}/0000"
            pictures.append(Drawn(identity, Prompt(one[0]), draw.path_of(folder, identity)))
            lines = pictures[-1].path.parent.parent / "metadata.jsonl"
            if lines.is_file() and store.read_lines(lines)[0].get("prompt") != one[0]:
                raise ValueError(f"{lines}: a picture of another prompt; choose another output_dir, or delete {folder}")
        draw.draw(
            self.subject.model,
            self.subject.processor,
            pictures,
            [draw.seed_of(task, self.sampling.seed, one[3]) for one in asked],
            self.sampling,
            batch_size=self.batch_size,
            world=_alone(self.device),
            on_progress=lambda *_: None,
        )
        for index, picture in enumerate(pictures):
            on_answer(index, json.dumps({"text": "", "images": [str(picture.path.resolve())]}))

    def _visuals(self, one: tuple[Any, ...]) -> list[Image.Image]:
        """The pictures of a request, as its task gives them."""
        from PIL import Image

        _, _, doc_to_visual, doc_id, task, split = one
        found = list(doc_to_visual(self.task_dict[task][split][doc_id]) or []) if doc_to_visual else []
        for visual in found:
            if not isinstance(visual, Image.Image):
                raise ValueError(
                    f"{_where(one)}: {type(visual).__name__} in place of a picture; Janus reads pictures alone"
                )
        return found

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Tasks that compare likelihoods are not supported. Raises NotImplementedError with one line."""
        _unsupported(requests, "likelihoods of given answers")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Tasks of several rounds are not supported. Raises NotImplementedError with one line."""
        _unsupported(requests, "answers of several rounds")


def _params(settings: Mapping[str, Any], make: Callable[..., Any]) -> Any:
    """Greedy, unless the task asks for sampling: many give a top_p of 0 beside a temperature of 0."""
    temperature = float(settings.get("temperature") or 0)
    if not temperature or settings.get("do_sample") is False:
        return make(temperature=0.0)
    return make(temperature=temperature, top_p=settings.get("top_p") or None)


def _where(one: tuple[Any, ...]) -> str:
    return f"task {one[4]}, document {one[3]}"


def _alone(device: torch.device) -> World:
    """lmms-eval has split the requests over its processes already."""
    from janus.train.world import World

    return World(rank=0, size=1, device=device, host_group=None, local_size=1)


def _unsupported(requests: Sequence[Any], what: str) -> NoReturn:
    task = requests[0].task_name if requests else "?"
    raise NotImplementedError(f"task {task} asks for {what}; {NAME} runs tasks of output_type generate_until")
