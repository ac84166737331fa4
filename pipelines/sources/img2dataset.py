"""What img2dataset has written, in its formats webdataset, parquet and files.

Every shard has NNNNN.parquet with a row per address, failed ones too, and NNNNN_stats.json once it is finished. A
success refers to the bytes in the shard (re-encoded or not, as img2dataset was told; they are hashed here, for its own
sha256 column names what was downloaded). A failure refers to the address, so the download step tries it again and
gives it a named outcome: nothing vanishes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, files_of, records
from pipelines.reading.refs import IMAGE_SUFFIXES, cell_image, local_image, range_image, root_of
from pipelines.reading.tars import Member, members
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class Img2datasetOptions(Options):
    """Options of `img2dataset`."""

    caption: str = "caption"
    """Column with the caption."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per row that img2dataset was given, shard by shard."""
    options = options_of(source, Img2datasetOptions)
    root = root_of(source)
    for table in files_of(source, (".parquet",)):
        if not table.with_name(f"{table.stem}_stats.json").is_file():
            raise SourceError(
                f"{table}: no {table.stem}_stats.json beside it: img2dataset did not finish this shard; let it finish, "
                "or delete the shard's files"
            )
        shard = _Shard(table, root)
        for record in records(table, root):
            yield Sample(
                task=source.task,
                key=record.key,
                messages=(Message(role="caption", text=record.text(options.caption)),),
                images=(shard.image(record),),
            )


class _Shard:
    """Where the images of one shard are."""

    def __init__(self, table: Path, root: Path) -> None:
        self._table = table
        self._root = root
        self._tar = table.with_suffix(".tar")
        self._folder = table.with_suffix("")
        self._members: dict[str, Member] = {}
        if self._tar.is_file():
            self._members = {member.name: member for member in members(self._tar)}

    def image(self, record: Record) -> ImageRef:
        """The image of a row."""
        if record.text("status") != "success":
            return ImageRef(url=record.text("url"))
        key = record.text("key")
        relative = self._table.relative_to(self._root)
        for suffix in sorted(IMAGE_SUFFIXES):
            name = key + suffix
            data = record.data.get(suffix[1:])
            if isinstance(data, bytes):
                return cell_image(relative.as_posix(), suffix[1:], record.row, data, record.where)
            if name in self._members:
                member = self._members[name]
                tar = relative.with_suffix(".tar").as_posix()
                return range_image(self._tar, tar, member.offset, member.size)
            if (self._folder / name).is_file():
                return local_image(self._root, (relative.with_suffix("") / name).as_posix(), record.where)
        raise SourceError(f"{record.where}: status is success, but {key} is in no column, tar or folder of this shard")
