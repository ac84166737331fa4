"""What a build shows in Prefect's UI: the funnel, the caption scores, and a look at the pictures it kept."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from itertools import chain
from uuid import UUID

from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from janus.images import ImageProblem, load_rgb
from janus.report import svg
from janus.report.contact_sheet import contact_sheet
from pipelines.funnel import caption_scores, funnels
from pipelines.ledger import open_input
from schemas.manifest import Snapshot, SnapshotShard
from storage.places import Place

SHEET = (8, 3)
"""Pictures on the sample sheet: columns, rows."""
SIDE = 96
"""Side of a picture on the sheet, pixels."""


def key(corpus: str, what: str) -> str:
    """An artifact's key: small letters, digits and dashes, as Prefect wants it."""
    return re.sub(r"[^a-z0-9]+", "-", f"{corpus} {what}".lower()).strip("-")


class StepProgress:
    """A progress bar in the UI for one step of a build. Call it with (shards done, shards in all)."""

    def __init__(self, corpus: str, step: str) -> None:
        self._id: UUID = create_progress_artifact(0.0, key=key(corpus, step), description=f"{corpus}: {step}")

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        update_progress_artifact(self._id, 100.0 * done / total if total else 100.0)


def publish_artifacts(corpus: Place, snapshot: Snapshot) -> None:
    """Create the artifacts of a published snapshot in the current flow or task run."""
    create_table_artifact(funnel_rows(snapshot), key=key(snapshot.corpus, "funnel"), description=f"# {snapshot.name}")
    scores = [score for _, score in caption_scores(corpus, snapshot)]
    if scores:
        chart = svg.histogram("Caption scores", {"captions": scores}, x_label="cosine of image and caption")
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg.standalone(chart).encode()).decode()
        create_image_artifact(uri, key=key(snapshot.corpus, "scores"), description=f"{len(scores)} caption scores")
    sheet = sample_sheet(corpus, snapshot)
    if sheet is not None:
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=85)
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        create_image_artifact(uri, key=key(snapshot.corpus, "samples"), description="Some pictures of the corpus")


def funnel_rows(snapshot: Snapshot) -> list[dict[str, int | str]]:
    """One row per source and per reason: where its rows went."""
    rows: list[dict[str, int | str]] = []
    for one in funnels(snapshot):
        rows.append({"source": one.source, "what": "in", "rows": one.rows})
        rows.append({"source": one.source, "what": "kept", "rows": one.kept})
        rows += [{"source": one.source, "what": f"dropped: {why}", "rows": count} for why, count in one.dropped.items()]
        rows += [{"source": one.source, "what": f"failed: {why}", "rows": count} for why, count in one.failed.items()]
    return rows


def sample_sheet(corpus: Place, snapshot: Snapshot) -> Image.Image | None:
    """A sheet of pictures of kept rows, taken in turn from every source; None for a corpus without pictures."""
    columns, rows = SHEET
    sources: dict[str, list[SnapshotShard]] = {}
    for shard in snapshot.shards:
        if shard.task != "text":
            sources.setdefault(shard.source, []).append(shard)
    streams = [chain.from_iterable(_pictures(corpus, shard) for shard in shards) for shards in sources.values()]
    chosen: list[Image.Image] = []
    while streams and len(chosen) < columns * rows:
        stream = streams.pop(0)
        picture = next(stream, None)
        if picture is not None:
            chosen.append(picture)
            streams.append(stream)
    if not chosen:
        return None
    return contact_sheet(chosen, columns=columns, side=SIDE)


def _pictures(corpus: Place, shard: SnapshotShard) -> Iterator[Image.Image]:
    """The first image of every row of a shard that came through all steps, one batch of rows in memory at a time."""
    kept = set(open_input(corpus, shard.path)[1].table(["uid"]).column("uid").to_pylist())
    for batch in open_input(corpus, shard.upstream["raw"])[1].batches():
        for uid, images in zip(batch.column("uid"), batch.column("images"), strict=True):
            if uid.as_py() in kept and len(images) and (data := images[0]["bytes"].as_py()) is not None:
                try:
                    yield load_rgb(data)
                except ImageProblem:
                    continue
