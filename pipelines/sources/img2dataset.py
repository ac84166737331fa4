"""What img2dataset has written, in its formats webdataset, parquet and files.

Every shard has NNNNN.parquet with a row per address, failed ones too, and NNNNN_stats.json once it is finished. A
success refers to the bytes in the shard (re-encoded or not, as img2dataset was told; they are hashed here, for its own
sha256 column names what was downloaded). A failure refers to the address, so the download step tries it again and
gives it a named outcome: nothing vanishes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.captions import CaptionOptions, CaptionReader
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.options import options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import IMAGE_SUFFIXES, Images, local_image, range_image
from pipelines.reading.rows import Item, Table, samples
from pipelines.reading.tars import Member, members
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


def read(source: Source) -> Iterator[Item]:
    """One sample per row that img2dataset was given, shard by shard."""
    options = options_of(source, CaptionOptions)
    table = Table(source, options, suffixes=(".parquet",))
    captions, images = CaptionReader(source, options, table.gate), Images(source, table.gate)
    for file in table.files():
        if not table.gate.is_file(file.with_name(f"{file.stem}_stats.json")):
            raise SourceError(
                f"{file}: no {file.stem}_stats.json beside it: img2dataset did not finish this shard; let it finish, "
                "or delete the shard's files"
            )
        shard = _Shard(file, table.gate, images)

        def sample(row: Record, shard: _Shard = shard) -> Sample:
            caption = (Message(role="caption", text=captions.of(row)),)
            return Sample(task=source.task, key=row.key, messages=caption, images=(shard.image(row),))

        yield from samples(source, table.rows_of(file), sample)


class _Shard:
    """Where the images of one shard are."""

    def __init__(self, table: Path, gate: Gate, images: Images) -> None:
        self._gate, self._images = gate, images
        self._tar = table.with_suffix(".tar")
        self._folder = table.with_suffix("")
        self._members: dict[str, Member] = {}
        if gate.is_file(self._tar):
            self._members = {member.name: member for member in members(self._tar, gate) if member.regular}

    def image(self, record: Record) -> ImageRef:
        """The image of a row."""
        if record.text("status") != "success":
            return ImageRef(url=record.text("url"))
        key = record.text("key")
        for suffix in sorted(IMAGE_SUFFIXES):
            name = key + suffix
            if isinstance(record.data.get(suffix[1:]), bytes):
                return self._images.cell(record, suffix[1:])
            if (member := self._members.get(name)) is not None:
                return range_image(self._gate, self._tar, member.offset, member.size)
            place = f"{self._gate.relative(self._folder)}/{name}"
            if self._gate.is_file(self._gate.path(place, record.where)):
                return local_image(self._gate, place, record.where)
        raise RowError(f"{record.where}: status is success, but {key} is in no column, tar or folder of this shard")
