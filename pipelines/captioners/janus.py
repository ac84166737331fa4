"""A Janus of our own, in either layout: the one that describes what it draws.

Pictures are described one at a time, so that an answer depends on no other row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.captioners import Answer, Asked, Sampling, transformers
from pipelines.signals import Device
from pipelines.steps.device import reproducible
from schemas.sample import IMAGE_MARK, Message

VERSION = 1
OPERATIONAL = ()


Options = transformers.Options
fingerprint = transformers.fingerprint


class Captioner:
    """A loaded Janus."""

    at_once = 16

    def __init__(self, options: Options, sampling: Sampling, device: Device) -> None:
        import torch

        from janus.model.checkpoints.model_folder import load_janus

        self._sampling, self._device, self._precision = sampling, device.name, options.precision
        self._model, self._processor = load_janus(options.model, device=device.name, dtype=torch.float32)
        self._model.eval()

    def describe(self, asked: Sequence[Asked], done: Callable[[int, Answer], None]) -> None:
        """Describe one picture after the other."""
        from janus.model.inference.answering import continue_prompts, text_prompt
        from janus.model.inference.sampling_params import SamplingParams

        temperature = self._sampling.temperature
        params = SamplingParams(temperature=temperature, top_p=self._sampling.top_p if temperature else None)
        for index, one in enumerate(asked):
            message = Message(role="user", text=f"{IMAGE_MARK}\n{one.prompt}")
            with reproducible(self._precision, self._device):
                ((text, ended),) = continue_prompts(
                    self._model,
                    self._processor,
                    [text_prompt(self._processor, [message], True, "chat")],
                    [[one.picture]],
                    max_new_tokens=self._sampling.max_tokens,
                    params=params,
                    seeds=[one.seed],
                )
            done(index, Answer(text, truncated=not ended))
