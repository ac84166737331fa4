"""Before a build plans anything: are the spec, the models and the first rows of every source in order?

All mistakes are told at once, in seconds. A source is judged by its first rows only: planning reads the rest, and what
is wrong there stops the build as before.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from janus.cli import Collected
from janus.images import ImageProblem
from pipelines.decontamination.sets import files_of
from pipelines.fetch import check_picture
from pipelines.reading.account import Account, Failed, Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.local import LocalImages, TooLarge, gates_of
from pipelines.reading.preview import PREVIEW_ROWS
from pipelines.selection import select
from pipelines.signals import Signal, load_signal
from pipelines.sources import preview
from pipelines.steps.context import signal_spec
from pipelines.steps.health import Unhealthy, check_health
from pipelines.steps.recaption import step_specs
from schemas.reasons import Outcome
from schemas.sample import ImageRef, Sample
from schemas.spec import CorpusSpec, Limits, Source

if TYPE_CHECKING:
    from schemas.manifest import Fingerprints

SECONDS = 5.0
"""Time for all sources together. What a source has not shown by then is left to planning."""
PICTURES = 8
"""Images of each source that are opened, until one is in order."""


def check(spec: CorpusSpec) -> Fingerprints:
    """Look at everything that a build depends on, and return the fingerprints of its model. Nothing is written.

    Raises ValueError or FileNotFoundError with one line where something is wrong, Mistakes with a line each where
    several things are.
    """
    from janus.model.checkpoints.fingerprint import fingerprints

    looks = [Look(spec, source) for source in spec.sources]
    for look in looks:
        look.start()
    until = time.monotonic() + SECONDS
    mistakes, prints = Collected(), None
    with mistakes:
        prints = fingerprints(spec.models.janus, spec.tokenize.pixels)
    check_settings(spec, mistakes)
    for look in looks:
        look.finish(until)
        mistakes.errors += look.mistakes.errors
    mistakes.tell()
    assert prints is not None
    return prints


def check_settings(spec: CorpusSpec, mistakes: Collected) -> None:
    """Collect what is wrong with signals, filters and their models, with recaptioning, and with evaluation sets."""
    signals: Iterable[Signal] = _loadable(spec)
    with mistakes:
        signals = [signal for selection in select(spec).values() for signal in selection.signals]
    for signal in {signal.name: signal for signal in signals}.values():
        with mistakes:
            signal_spec(signal)
    with mistakes:
        step_specs(spec)
    for name, path in spec.decontaminate.sets.items():
        with mistakes:
            files_of(name, path)


def _loadable(spec: CorpusSpec) -> Iterator[Signal]:
    """The signals that the spec sets options of, without those that cannot be made."""
    for name, options in spec.signals.items():
        with contextlib.suppress(ValueError):
            yield load_signal(name, options)


@dataclass
class Look:
    """A look at the first rows of one source, in a thread that nobody has to wait for: it ends at its next row."""

    spec: CorpusSpec
    source: Source
    samples: list[Sample] = field(default_factory=list)
    mistakes: Collected = field(default_factory=Collected)
    complete: bool = False
    """Whether these are all rows of the source."""

    def __post_init__(self) -> None:
        self.account = Account(self.source)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"look at {self.source.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self, until: float) -> None:
        """Wait for the end, but not past `until` (time.monotonic)."""
        self._thread.join(max(0.0, until - time.monotonic()))
        self._stop.set()

    def _run(self) -> None:
        # What nobody but a bug, or a disk, causes stops planning too, which says more of it.
        with contextlib.suppress(Exception), self.mistakes:
            for item in preview(self.source, self._stop):
                if isinstance(item, Skipped):
                    self.account.skip(item)
                elif isinstance(item, Failed):
                    self.account.fail(item)
                else:
                    self.account.take(item)
                    self.samples.append(item)
            at_its_end = self.account.rows < PREVIEW_ROWS or self.account.rows == self.source.limit
            self.complete = at_its_end and not self._stop.is_set()
            if self.account.rows and not self.account.taken:
                self.account.judge()
            images = [image for sample in self.samples for image in sample.images if image.path is not None]
            check_images(self.source, images, self.spec)


def check_images(source: Source, images: Sequence[ImageRef], spec: CorpusSpec) -> None:
    """Look for local images and open a few.

    Raises SourceError if none of them is there, or none of the first that are is a picture. Where a build would go on
    in spite of that, because they are few, it is left to the build.
    """
    there = [image for image in images if image.sha256 is not None]
    if images and not there:
        if _healthy(Outcome.MISSING_FILE, len(images), spec):
            return
        place = images[0].path if images[0].root is None else f"{source.options['images']}/{images[0].path}"
        raise SourceError(
            f"source {source.name}: none of the images of its first rows is there, {place} for instance; "
            "is the image folder (path, options.images) right?"
        )
    if not there:
        return
    problems: Counter[str] = Counter()
    with contextlib.closing(_opened(source, there[:PICTURES], spec.limits)) as opened:
        for image in there[:PICTURES]:
            try:
                check_picture(opened.read(image), spec.limits)
                return
            except (ImageProblem, TooLarge, RowError, FileNotFoundError) as error:
                problems[str(error)] += 1
    if not _healthy(Outcome.NOT_AN_IMAGE, len(there), spec):
        raise SourceError(
            f"source {source.name}: none of its first images can be used, {there[0].path} for instance "
            f"({problems.most_common(1)[0][0]}); is the field of images right?"
        )


def _healthy(outcome: Outcome, rows: int, spec: CorpusSpec) -> bool:
    """Whether a shard of `rows` rows that all have this outcome passes the health gate."""
    try:
        check_health({outcome.value: rows}, spec.max_failed_share, "")
    except Unhealthy:
        return False
    return True


def _opened(source: Source, images: Sequence[ImageRef], limits: Limits) -> LocalImages:
    return LocalImages(images, gates_of(source), Path(tempfile.gettempdir()), limits.max_bytes)
