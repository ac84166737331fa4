"""Signals: what is measured of a row, once, and kept whether a filter asks for it or not; one file each (design D13).

A signal is a module with

- `VERSION`: raised when the same row comes to give other values, or an option another default;
- `FIELDS`: its columns, name to Arrow type. Filters call a field `<signal>.<field>`, and what a field of maps (of
  text to something) has under a key `<signal>.<field>.<key>`;
- `NEEDS`: what it takes of a row (`pipelines.row.Row`; see `Need`). One that lacks any of it is not measured: its
  fields are null;
- `READS`: other signals whose values it takes (`row.signals`), if any. It gets no images then: they are gone;
- `Options`: its options in the spec's `[signals.<name>]`, if any: a subclass of `schemas.plugins.Options`;
- `fields(options)`, if options say more of a field's type than `FIELDS`, the length of a list for instance;
- `keys(options)`, if it has fields of maps whose keys the options say: these keys. Filters may name no others;
- `fingerprint(options)`, if values depend on more than the options say, a model file for instance: name to digest. One
  under the name of an option stands in that option's place, so that a path never enters a key. Raises ValueError or
  FileNotFoundError with one line where an option names what does not exist;

and with one of

- `measure(row)` (with Options of its own: `measure(row, options)`): the values of one row by FIELDS. For what is cheap;
- `Model`, for what is computed in batches: see `Model` here. Made as `Model(options, device)` once per worker.

What a signal gives of a row depends on nothing but the row, its options and its models, never on what else is measured
in the same pass. To add one, add a file: its name is the signal's. Other packages name theirs as entry points of the
group `janus_forge.signals` (schemas/plugins.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from pipelines.steps.device import Device
from schemas.layers import signal_layer, signal_schema
from schemas.plugins import Options, PluginFolder, did_you_mean, options_of

if TYPE_CHECKING:  # that one opens images, and whoever only asks which signals there are need not
    from pipelines.row import Row

__all__ = ["Device", "Model", "Options", "Signal", "Values", "field_type", "load_signal"]

SIGNALS = PluginFolder(__name__, "signal")

Need = Literal["images", "header", "picture", "text", "caption", "licence", "columns"]
"""What a signal takes of a row:

- images: `row.images` as they were downloaded. Every row has them, if only an empty list;
- header: `row.header`, what the file of the first image says of itself;
- picture: `row.picture(...)`, the first image decoded;
- text: `row.text`, all text; a row of blanks has none;
- caption: `row.caption`, of a row that has one, be it empty;
- licence: `row.licence`, of a row whose source states one;
- columns: `row.columns`, what the spec keeps of the source's columns; a row of a source that keeps none has none.

The first three are missing from rows whose images could not be had, `header` and `picture` from those without images.
"""
OF_IMAGES = frozenset({"images", "header", "picture"})
"""Needs that take the bytes of images."""
OF_TEXT = frozenset({"text", "caption"})
"""Needs that take what a row says. A signal with other needs alone must not look at it: it is not measured again when a
model writes other captions. One without needs may."""
OF_A_PICTURE = frozenset({"header", "picture"})
"""Needs that no row of a text source meets."""

Values = Mapping[str, Any]
"""The fields of one row."""

OUTCOME = "image"
"""The signal that says whether a row's images decode. What its manifests count are outcomes ..."""
MEASURED, NOT_MEASURED = "measured", "not_measured"
"""... and those of the others, these."""


class Model(Protocol):
    """A loaded model of a signal."""

    def prepare(self, row: Row) -> Any:
        """What `measure` takes of a row, a preprocessed picture for instance. Runs in threads ahead of `measure`.

        Many wait in memory at a time, so keep it small. An ImageProblem leaves the row unmeasured.
        """

    def measure(self, batch: Sequence[Any]) -> Sequence[Values]:
        """The values of prepared rows, in their order. The same for a row whatever the batch is."""


@dataclass(frozen=True)
class Signal:
    """A signal with its options."""

    name: str
    options: Options

    @property
    def module(self) -> ModuleType:
        """Its file."""
        return SIGNALS.load(self.name)

    @property
    def layer(self) -> str:
        """Name of its layer."""
        return signal_layer(self.name)

    @property
    def version(self) -> int:
        """Of its code."""
        return int(self.module.VERSION)

    @property
    def fields(self) -> Mapping[str, pa.DataType]:
        """Its columns."""
        exact = getattr(self.module, "fields", None)
        return exact(self.options) if exact else self.module.FIELDS  # type: ignore[no-any-return]

    @property
    def schema(self) -> pa.Schema:
        """Of its shards."""
        return signal_schema(self.name, self.version, self.fields)

    @property
    def needs(self) -> frozenset[Need]:
        """What it takes of a row."""
        return frozenset(self.module.NEEDS)

    @property
    def reads(self) -> tuple[str, ...]:
        """Signals whose values it takes."""
        return tuple(getattr(self.module, "READS", ()))

    def keys(self) -> tuple[str, ...] | None:
        """The keys of its maps, None where the options do not say them."""
        return tuple(self.module.keys(self.options)) if hasattr(self.module, "keys") else None

    @property
    def batched(self) -> bool:
        """Whether it has a model that takes batches."""
        return hasattr(self.module, "Model")

    def fingerprint(self) -> dict[str, str]:
        """What its values depend on besides the row and its options. Raises ValueError or FileNotFoundError."""
        function = getattr(self.module, "fingerprint", None)
        try:
            return dict(function(self.options)) if function else {}
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"signals.{self.name}: {error}") from None

    def measure(self, row: Row) -> Values:
        """The values of one row, for a signal without a model."""
        options = () if type(self.options) is Options else (self.options,)
        return self.module.measure(row, *options)  # type: ignore[no-any-return]


def load_signal(name: str, settings: Mapping[str, Any] | None = None) -> Signal:
    """The signal `name` with its options from a spec. Raises ValueError with one line."""
    module = SIGNALS.load(name)
    for attribute in ("VERSION", "FIELDS", "NEEDS"):
        if not hasattr(module, attribute):
            raise ValueError(f"signal {name} ({module.__name__}): has no {attribute} (pipelines/signals/__init__.py)")
    if not (hasattr(module, "measure") or hasattr(module, "Model")):
        raise ValueError(
            f"signal {name} ({module.__name__}): has neither measure nor Model (pipelines/signals/__init__.py)"
        )
    signal = Signal(name, options_of(getattr(module, "Options", Options), settings or {}, f"signals.{name}"))
    if signal.reads and signal.needs & OF_IMAGES:
        raise ValueError(f"signal {name} ({module.__name__}): a signal that READS others gets no images")
    return signal


def field_type(name: str) -> pa.DataType:
    """Arrow type of the signal field called `<signal>.<field>`, or `<signal>.<field>.<key>` of a map.

    Raises ValueError with one line if there is none.
    """
    signal, column, key = split_field(name)
    if signal not in SIGNALS.names():
        raise ValueError(f"no signal field {name!r}: no signal {signal!r}{did_you_mean(signal, SIGNALS.names())}")
    fields = SIGNALS.load(signal).FIELDS
    if column not in fields:
        known = [f"{signal}.{field}" for field in fields]
        raise ValueError(f"no signal field {name!r}{did_you_mean(name, known)}")
    kind = fields[column]
    if pa.types.is_map(kind) != bool(key):
        problem = "it is one value, without keys" if key else f"it holds many; name one of them: {name}.KEY"
        raise ValueError(f"no signal field {name!r}: {problem}")
    return kind.item_type if key else kind


def split_field(name: str) -> tuple[str, str, str]:
    """Signal, field and key of the name of a signal field; the key is "" for a field that is no map."""
    signal, _, rest = name.partition(".")
    column, _, key = rest.partition(".")
    return signal, column, key
