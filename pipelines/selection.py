"""What a spec has done to the rows of each source: the signals that are measured and the filters that are applied.

Names, options and what they need of each other are checked here, before a build starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from janus.cli import Collected
from pipelines.filters import Filter, load_filter
from pipelines.signals import OF_A_PICTURE, SIGNALS, Signal, field_type, load_signal, split_field
from schemas.plugins import did_you_mean
from schemas.spec import CorpusSpec, Settings, Source

ALWAYS = ("image", "text", "phash")
"""Signals that every corpus has: the outcome of decoding, and what duplicates are found by."""
REQUIRED = frozenset({"image", "text"})
"""Signals that no source can do without."""


@dataclass(frozen=True)
class Selection:
    """Signals and filters of one source."""

    signals: tuple[Signal, ...]
    """Those that others read come before them."""
    filters: tuple[Filter, ...]
    """In the spec's order."""


def select(spec: CorpusSpec) -> dict[str, Selection]:
    """Signals and filters by source.

    Raises ValueError with one line for a name, an option or a signal field that does not exist, and for a signal that
    is needed and cannot be measured; Mistakes for several of these.
    """
    mistakes = Collected()
    for name in spec.signals:
        with mistakes:
            SIGNALS.load(name)
    corpus_wide = _filters(spec.filters, "filters", mistakes)
    selections = {}
    for source in spec.sources:
        where = f"source {source.name}: filters"
        filters = corpus_wide if source.filters is None else _filters(source.filters, where, mistakes)
        selections[source.name] = Selection(_signals(spec, source, filters, mistakes), filters)
    mistakes.tell()
    return selections


def _filters(settings: Settings, where: str, mistakes: Collected) -> tuple[Filter, ...]:
    found = []
    for name, options in settings.items():
        with mistakes:
            found.append(load_filter(name, options, where))
    return tuple(found)


def _signals(spec: CorpusSpec, source: Source, filters: Iterable[Filter], mistakes: Collected) -> tuple[Signal, ...]:
    """Signals to measure, in an order in which each comes after those it reads."""
    for name in source.skip_signals:
        with mistakes:
            SIGNALS.load(name)
            if name in REQUIRED:
                raise ValueError(f"source {source.name}: skip_signals: {name} cannot be left out")
    found: dict[str, Signal] = {}
    names = dict.fromkeys((*ALWAYS, *_compared_by(spec, source), *spec.signals))
    asked = [name for name in names if name not in source.skip_signals]
    for name in asked:
        with mistakes:
            _add(name, spec, source, found, ())
    told = {*asked} - found.keys()
    for filter in filters:
        with mistakes:
            for field in _reads(filter):
                name = field.partition(".")[0]
                if name in told or (source.filters is None and name in source.skip_signals):
                    continue  # a corpus-wide filter judges the sources that have the signal
                try:
                    _add(name, spec, source, found, ())
                    _check_key(found[name], field, spec, source)
                except ValueError as error:
                    raise ValueError(f"filter {filter.name} reads {field}: {error}") from None
    measured: dict[str, Signal] = {}
    for name, signal in found.items():
        if source.task == "text" and (signal.needs & OF_A_PICTURE or not measured.keys() >= {*signal.reads}):
            continue  # null in every row
        measured[name] = signal
    return tuple(measured.values())


def _check_key(signal: Signal, field: str, spec: CorpusSpec, source: Source) -> None:
    """Raise ValueError for a key of a map that no row can have."""
    key = split_field(field)[2]
    if not key:
        return
    known = signal.keys()
    if "columns" in signal.needs:  # a corpus-wide filter judges the sources that keep the column
        sources = [source] if source.filters is not None else spec.sources
        known = tuple({name: None for one in sources for name in one.columns})
    if known is not None and key not in known:
        raise ValueError(f"no key {key!r}{did_you_mean(key, known)}")


def _compared_by(spec: CorpusSpec, source: Source) -> list[str]:
    """Signals that only some specs find duplicates by."""
    found = []
    if spec.dedup.text_jaccard is not None and source.task != "generation":
        found.append("minhash")
    if spec.dedup.embedding_cosine is not None and source.task != "text":
        found.append("clip_embedding")
    return found


def _reads(filter: Filter) -> tuple[str, ...]:
    try:
        for field in filter.reads:
            field_type(field)
        return filter.reads
    except ValueError as error:
        raise ValueError(f"filters.{filter.name}: {error}") from None


def _add(name: str, spec: CorpusSpec, source: Source, found: dict[str, Signal], readers: tuple[str, ...]) -> None:
    """Put a signal and those it reads into `found`, which keeps its order."""
    if name in found:
        return
    if name in source.skip_signals:
        raise ValueError(f"skip_signals of source {source.name} has {name}")
    if name in readers:
        raise ValueError(f"signals {' and '.join(dict.fromkeys((*readers, name)))} read each other")
    signal = load_signal(name, spec.signals.get(name))
    for other in signal.reads:
        try:
            _add(other, spec, source, found, (*readers, name))
        except ValueError as error:
            raise ValueError(f"signal {name} reads signal {other}: {error}") from None
    found[name] = signal
