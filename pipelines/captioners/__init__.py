"""Captioners: models that write captions of pictures, one file each (design D13, D17).

A captioner is a module with

- `VERSION`: raised when the same picture and prompt come to give another answer;
- `Options`: its options in the spec's `[recaption.options]`, a subclass of `schemas.plugins.Options`;
- `OPERATIONAL`: names of options that say how the work is done and not what comes of it, such as an address. They enter
  no key;
- `fingerprint(options)`: what answers depend on besides the options, as for signals (pipelines/signals/__init__.py);
- `Captioner`, made as `Captioner(options, sampling, device)` once per worker: see `Captioner` here.

To add one, add a file: its name is the captioner's. Other packages name theirs as entry points of the group
`janus_forge.captioners` (schemas/plugins.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from schemas.plugins import Options, PluginFolder, options_of
from schemas.spec import Sampling

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Answer", "Asked", "Captioner", "Engine", "Options", "Sampling", "load_engine"]

CAPTIONERS = PluginFolder(__name__, "captioner")


@dataclass(frozen=True)
class Asked:
    """One picture to be described."""

    picture: Image.Image
    """RGB."""
    prompt: str
    seed: int
    """Of this row, below 2**63: for sampling, where a temperature is given."""


@dataclass(frozen=True)
class Answer:
    """What a captioner said."""

    text: str | None
    """None: nothing that is an answer could be had."""
    truncated: bool = False
    """Whether it was still writing when `max_tokens` were used up."""


class Captioner(Protocol):
    """A loaded captioner."""

    at_once: int
    """Pictures that `describe` is given at a time."""

    def describe(self, asked: Sequence[Asked], done: Callable[[int, Answer], None]) -> None:
        """Describe pictures, and call `done` with the place of each and its answer as soon as that is there.

        `done` may be called from several threads. What is said of a picture depends on nothing but picture, prompt and
        seed. Raises ValueError with one line where no picture can be described (no such model, a wrong key).
        """


@dataclass(frozen=True)
class Engine:
    """A captioner with its options, not loaded."""

    name: str
    options: Options

    @property
    def module(self) -> ModuleType:
        """Its file."""
        return CAPTIONERS.load(self.name)

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on, besides picture, prompt and sampling.

        Raises ValueError or FileNotFoundError with one line where an option names what does not exist.
        """
        try:
            fingerprint = self.module.fingerprint(self.options)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"recaption.options.{error}") from None
        options = self.options.model_dump(mode="json", exclude_defaults=True, exclude={*self.module.OPERATIONAL})
        return {"engine": self.name, "version": self.module.VERSION, **options, **fingerprint}


def load_engine(name: str, settings: Mapping[str, Any]) -> Engine:
    """The captioner `name` with its options from a spec. Raises ValueError with one line."""
    module = CAPTIONERS.load(name)
    for attribute in ("VERSION", "Options", "OPERATIONAL", "fingerprint", "Captioner"):
        if not hasattr(module, attribute):
            raise ValueError(f"captioner {name} ({module.__name__}): has no {attribute} (pipelines/captioners)")
    return Engine(name, options_of(module.Options, settings, "recaption.options"))
