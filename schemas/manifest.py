"""Manifests and snapshots: the only record of what is done (design D3).

A corpus folder:

    corpus/
      rows|raw|recaption|contamination|decision|train/<source>/<shard>.<key>.arrow    and .json beside it: the manifest,
                                                                            written last
      signals/<signal>/<source>/<shard>.<key>.arrow           the same for each signal
      snapshots/<number>-<digest>.json                        immutable
      specs/<digest>.json                                     what the spec of a snapshot asked for
      LATEST                                                  name of the newest snapshot, replaced atomically

`shard` names the set of rows (digest of their uids), `key` what was done to them (digest of inputs, step config and
model fingerprints). So a changed threshold is another file beside the old one, and old snapshots stay whole.
No time stamp and no machine name enters: the same corpus has the same bytes everywhere.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pydantic

from schemas.digest import digest
from schemas.sample import Task
from storage.places import Place, as_store

FORMAT = 2
LATEST = "LATEST"
"""Name of the file that names the newest snapshot."""
"""Of manifests and snapshots."""


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class TrainSummary(_Model):
    """What a train shard adds to a snapshot's figures, so that publishing one reads manifests alone."""

    lengths: dict[str, int]
    """Power-of-two upper bound of the token length to number of rows."""
    licences: dict[str, int]
    """Licence to rows; "" counts rows whose source states none."""


class ShardManifest(_Model):
    """One committed shard of one layer."""

    format: int = FORMAT
    layer: str
    source: str
    task: Task
    shard: str
    key: str
    """Digest of everything the content depends on: input shards, step name and version, config, fingerprints."""
    rows: int
    bytes: int
    sha256: str
    """Of the .arrow file."""
    inputs: dict[str, str]
    """Layer name to the sha256 of the input shard. A signal that reads another has that one's key: both are made in one
    pass."""
    config: str
    """Digest of the step's configuration."""
    fingerprints: dict[str, str] = {}
    """Models and processors that shaped the content."""
    counts: dict[str, int] = {}
    """Rows by outcome or drop reason; they add up to the rows of the input."""
    summary: TrainSummary | None = None
    """Of a train shard."""
    digest: str = ""
    """Of all other fields: a manifest that is not as it was written is not believed."""

    def sealed(self) -> ShardManifest:
        """This manifest with its digest, as it is written."""
        return self.model_copy(update={"digest": self._digest()})

    @property
    def is_sealed(self) -> bool:
        """Whether the digest is that of the other fields."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"digest"}))


class Fingerprints(_Model):
    """What a train shard was made with. The trainer refuses a model that differs."""

    tokenizer: str
    image_processor: str
    vq: str
    image_size: int
    """Side of the understanding and generation images, pixels."""
    understanding_tokens: int
    """Placeholders per understanding image."""
    generation_tokens: int
    """Codes per generated image."""
    codebook_size: int
    pixels: str
    """How `pixels` is stored: jpeg or raw."""


class SnapshotShard(_Model):
    """One train shard of a snapshot."""

    path: str
    """Relative to the corpus folder."""
    sha256: str
    rows: int
    bytes: int
    source: str
    task: Task
    group: str
    """Label of the source that a training phase can ask for: "imagenet", or "" for none."""
    upstream: dict[str, str]
    """Layer name to the relative path of the shard this one came from."""
    first_snapshot: int
    """Number of the snapshot in which these rows first appeared."""


class Snapshot(_Model):
    """An immutable list of shards: what a trainer trains on."""

    format: int = FORMAT
    corpus: str
    stage: int
    number: int
    parent: str | None
    """Name of the snapshot this one grew from."""
    spec: str
    """Digest of the corpus spec."""
    fingerprints: Fingerprints
    shards: tuple[SnapshotShard, ...]
    funnel: dict[str, dict[str, int]]
    """Per source: rows in, then every outcome and drop reason, and kept. They add up."""
    skipped: dict[str, dict[str, int]] = {}
    """Per source: rows that were met but not taken when it was last read, by reason. They are not in the funnel."""
    length_histogram: dict[str, dict[str, int]]
    """Per task: power-of-two upper bound of the token length to number of rows."""
    licences: dict[str, int]
    """Licence to kept rows; "" counts rows whose source states none."""
    decontamination: dict[str, str] = {}
    """Evaluation sets that its rows were compared with, by name, and the digests of their files."""

    @pydantic.model_serializer(mode="wrap")
    def _without_empty(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        if not self.decontamination:
            content.pop("decontamination", None)  # so that snapshots without any keep their names
        return content

    @property
    def name(self) -> str:
        """File name without suffix: number and digest."""
        return f"{self.number:05d}-{digest(self)[:12]}"

    def rows(self, task: Task | None = None) -> int:
        """Number of training rows, of one task or of all."""
        return sum(shard.rows for shard in self.shards if task in (None, shard.task))


def spec_path(snapshot: Snapshot) -> str:
    """Where in the corpus the content of a snapshot's spec lies: canonical JSON, named by its digest."""
    return f"specs/{snapshot.spec}.json"


def check_format(found: int, where: str) -> None:
    """Raise ValueError with one line if `found`, the format of a manifest or snapshot, is not that of this version."""
    if found != FORMAT:
        raise ValueError(
            f"{where}: corpus format {found}, and this version reads {FORMAT}: build the corpus again into a new "
            "folder (CHANGELOG.md, SHARD FORMAT)"
        )


class _Format(pydantic.BaseModel):
    format: int


def load_snapshot(corpus: Place, name: str | None = None) -> Snapshot:
    """Read a snapshot of a corpus, a folder or in an object store: the one called `name`, or the latest.

    Raises FileNotFoundError or ValueError with one line that says what to do.
    """
    store = as_store(corpus)
    if name is None:
        name = latest_name(store)
        if name is None:
            raise FileNotFoundError(
                f"{store.url}: no LATEST file, so no snapshot was published here; build the corpus first"
            )
    path = f"{store.url}/snapshots/{name}.json"
    try:
        if Path(name).name != name:
            raise FileNotFoundError
        data = store.read(f"snapshots/{name}.json")
    except FileNotFoundError:
        hint = "; LATEST names it: write the name of a snapshot that is there into it" * (name == latest_name(store))
        raise FileNotFoundError(f"{path}: no such snapshot{hint}") from None
    try:
        snapshot = Snapshot.model_validate_json(data)
    except pydantic.ValidationError as error:
        with contextlib.suppress(pydantic.ValidationError):
            check_format(_Format.model_validate_json(data).format, str(path))
        raise ValueError(f"{path}: not a snapshot of format {FORMAT}: {error.errors()[0]['msg']}") from None
    check_format(snapshot.format, str(path))
    if snapshot.name != name:
        raise ValueError(f"{path}: content has digest {snapshot.name}: the file was changed after publication")
    return snapshot


def latest_name(corpus: Place) -> str | None:
    """What LATEST names, or None if there is no such file."""
    try:
        return as_store(corpus).read(LATEST).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
