"""Before a build plans anything: are the spec, the models and the first rows of every source in order?

All mistakes are told at once, in seconds. A source is judged by its first rows only: planning reads the rest, and what
is wrong there stops the build as before.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from janus.cli import Mistakes
from janus.images import ImageProblem
from pipelines.decontamination.sets import files_of
from pipelines.fetch import check_picture
from pipelines.reading.account import Account, Failed, Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.local import LocalImages, TooLarge, gates_of
from pipelines.selection import select
from pipelines.signals import Signal, load_signal
from pipelines.sources import first_items
from pipelines.steps.context import signal_spec
from pipelines.steps.health import Unhealthy, check_health
from schemas.reasons import Outcome
from schemas.sample import ImageRef, Sample
from schemas.spec import CorpusSpec, Limits, Source

if TYPE_CHECKING:
    from schemas.manifest import Fingerprints

ROWS = 100
"""Rows of each source that are looked at: more than make a share of failed rows credible (`health.GATE_ROWS`)."""
SECONDS = 5.0
"""Time after which no further row of a source is looked at."""
PICTURES = 8
"""Images of each source that are opened, until one is in order."""
SOURCES_AT_A_TIME = 8


def check(spec: CorpusSpec) -> Fingerprints:
    """Look at everything that a build depends on, and return the fingerprints of its model. Nothing is written.

    Raises Mistakes with one line for each thing that is wrong.
    """
    from janus.model.checkpoints.fingerprint import fingerprints

    prints, mistakes = None, []
    try:
        prints = fingerprints(spec.models.janus, spec.tokenize.pixels)
    except (ValueError, OSError) as error:
        mistakes.append(str(error))
    try:
        signals = [signal for selection in select(spec).values() for signal in selection.signals]
    except ValueError as error:
        mistakes.append(str(error))
        signals = list(_loadable(spec))
    mistakes += missing_models(signals)
    for name, path in spec.decontaminate.sets.items():
        try:
            files_of(name, path)
        except (ValueError, OSError) as error:
            mistakes.append(str(error))
    with ThreadPoolExecutor(SOURCES_AT_A_TIME) as threads:
        found = threads.map(partial(check_source, spec), spec.sources)
    mistakes += [mistake for mistake in found if mistake is not None]
    if mistakes or prints is None:
        raise Mistakes(mistakes)
    return prints


def _loadable(spec: CorpusSpec) -> Iterator[Signal]:
    """The signals that the spec sets options of, without those that cannot be made."""
    for name, options in spec.signals.items():
        with contextlib.suppress(ValueError):
            yield load_signal(name, options)


def missing_models(signals: Iterable[Signal]) -> list[str]:
    """What is wrong with the models that signals are measured with, a line for each signal."""
    mistakes = []
    for signal in {signal.name: signal for signal in signals}.values():
        try:
            signal_spec(signal)
        except (ValueError, OSError) as error:
            mistakes.append(str(error))
    return mistakes


def check_source(spec: CorpusSpec, source: Source) -> str | None:
    """What is wrong with the first rows of a source, in one line; None if nothing is.

    One with a `join` is left to planning, which has to sort the whole file of captions before its first row.
    """
    if source.options.get("join"):
        return None
    try:
        account, images = Account(source), []
        for item in first_items(source, ROWS, SECONDS):
            if isinstance(item, Skipped):
                account.skip(item)
            elif isinstance(item, Failed):
                account.fail(item)
            else:
                account.take(item)
                images += _local(item)
        if account.rows and not account.taken:
            account.judge()
        _check_images(source, images, spec)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _local(sample: Sample) -> list[ImageRef]:
    return [image for image in sample.images if image.path is not None]


def _check_images(source: Source, images: Sequence[ImageRef], spec: CorpusSpec) -> None:
    """Raise SourceError if none of the images is there, or none of the first that are is a picture."""
    there = [image for image in images if image.sha256 is not None]
    if images and not there:
        with contextlib.suppress(Unhealthy):
            check_health({Outcome.MISSING_FILE.value: len(images)}, spec.max_failed_share, "")
            return
        place = images[0].path if images[0].root is None else f"{source.options['images']}/{images[0].path}"
        raise SourceError(
            f"source {source.name}: none of the images of its first rows is there, {place} for instance; "
            "is the image folder (path, options.images) right?"
        )
    problems: Counter[str] = Counter()
    with contextlib.closing(_opened(source, there[:PICTURES], spec.limits)) as opened:
        for image in there[:PICTURES]:
            try:
                check_picture(opened.read(image), spec.limits)
                return
            except (ImageProblem, TooLarge, RowError, FileNotFoundError) as error:
                problems[str(error)] += 1
    with contextlib.suppress(Unhealthy):
        check_health({Outcome.NOT_AN_IMAGE.value: len(there)}, spec.max_failed_share, "")
        return
    raise SourceError(
        f"source {source.name}: none of its first images can be used, {there[0].path} for instance "
        f"({problems.most_common(1)[0][0]}); is the field of images right?"
    )


def _opened(source: Source, images: Sequence[ImageRef], limits: Limits) -> LocalImages:
    return LocalImages(images, gates_of(source), Path(tempfile.gettempdir()), limits.max_bytes)
