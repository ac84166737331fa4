"""Local images: the right bytes for every reference, each row group read once, nothing over the cap loaded."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading.gate import Gate
from pipelines.reading.local import LocalImages, TooLarge
from pipelines.reading.tars import members
from pipelines.sources import SourceError
from schemas.sample import ImageRef
from tests.sources.reading import read_image


def test_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    assert read_image(ImageRef(path="a.tar", offset=3, size=4), tmp_path) == b"3456"


@pytest.fixture
def cells(tmp_path: Path) -> list[bytes]:
    """a.parquet, with binary values of the column jpg and of the structs in the column image, three rows to a group."""
    values = [bytes([n]) * n for n in range(10)]
    images = [{"bytes": value, "path": None} for value in values]
    pq.write_table(pa.table({"jpg": values, "image": images}), tmp_path / "a.parquet", row_group_size=3)
    return values


def test_cells_in_any_order(tmp_path: Path, cells: list[bytes]) -> None:
    rows = [(column, row) for column in ("jpg", "image.bytes") for row in (7, 0, 9, 3, 2, 8, 7)]
    refs = [ImageRef(path="a.parquet", column=column, row=row) for column, row in rows]
    with contextlib.closing(LocalImages(refs, {None: Gate(tmp_path)}, tmp_path, 9)) as images:
        assert [images.read(ref) for ref in refs] == [cells[row] for _, row in rows]
        assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"], "the temporary file has no name"


def test_cells_that_are_gone(tmp_path: Path, cells: list[bytes]) -> None:
    pq.write_table(pa.table({"jpg": [b"1", None]}), tmp_path / "b.parquet")
    gone = [("a", "jpg", 10), ("a", "png", 1), ("b", "jpg", 1), ("c", "jpg", 0)]
    refs = [ImageRef(path=f"{name}.parquet", column=column, row=row) for name, column, row in gone]
    with contextlib.closing(LocalImages(refs, {None: Gate(tmp_path)}, tmp_path, 9)) as images:
        for ref in refs:
            with pytest.raises(FileNotFoundError, match=f"row {ref.row} of column {ref.column}"):
                images.read(ref)


def test_a_damaged_file_is_one_line(tmp_path: Path, cells: list[bytes]) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.parquet: not a readable Parquet file: ") as caught:
        read_image(ImageRef(path="a.parquet", column="jpg", row=1), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_row_group_is_read_once_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,048 rows in groups of 100, in the order of uids: one by one it would be a group for nearly every row."""
    values = [str(n).encode() for n in range(2048)]
    pq.write_table(pa.table({"image": [{"bytes": v} for v in values]}), tmp_path / "a.parquet", row_group_size=100)
    reads: Counter[int] = Counter()
    read = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *args: Any, row_groups: list[int], **kwargs: Any) -> Any:
        reads.update(row_groups)
        return read(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    rows = random.Random(0).sample(range(2048), 2048)
    refs = [ImageRef(path="a.parquet", column="image.bytes", row=row) for row in rows]
    with contextlib.closing(LocalImages(refs, {None: Gate(tmp_path)}, tmp_path, 9)) as images:
        assert [images.read(ref) for ref in refs] == [values[row] for row in rows]
    assert reads == Counter(dict.fromkeys(range(21), 1))


def test_only_the_groups_that_are_wanted_are_read(tmp_path: Path, cells: list[bytes]) -> None:
    damaged = bytearray((tmp_path / "a.parquet").read_bytes())
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(3).column(0)
    damaged[group.data_page_offset : group.data_page_offset + 8] = b"damaged!"
    (tmp_path / "a.parquet").write_bytes(damaged)
    assert read_image(ImageRef(path="a.parquet", column="jpg", row=4), tmp_path) == cells[4]
    with pytest.raises(SourceError):
        read_image(ImageRef(path="a.parquet", column="jpg", row=9), tmp_path)


HUGE = 64 << 30
"""More than any machine that runs the tests has."""


def sparse(path: Path, head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(HUGE)


def test_files_and_members_over_the_cap_are_never_loaded(tmp_path: Path) -> None:
    sparse(tmp_path / "huge.jpg")
    with pytest.raises(TooLarge):
        read_image(ImageRef(path="huge.jpg"), tmp_path, max_bytes=10)

    info = tarfile.TarInfo("huge.jpg")
    info.size = HUGE - 1024
    sparse(tmp_path / "a.tar", info.tobuf(tarfile.GNU_FORMAT))
    (member,) = members(tmp_path / "a.tar", Gate(tmp_path))
    ref = ImageRef(path="a.tar", offset=member.offset, size=member.size)
    with pytest.raises(TooLarge):
        read_image(ref, tmp_path, max_bytes=10)


def test_the_cap_itself_is_allowed(tmp_path: Path, cells: list[bytes]) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(9))
    cell = ImageRef(path="a.parquet", column="jpg", row=9)
    for ref in (ImageRef(path="a.jpg"), ImageRef(path="a.jpg", offset=0, size=9), cell):
        assert len(read_image(ref, tmp_path, max_bytes=9)) == 9
        with pytest.raises(TooLarge):
            read_image(ref, tmp_path, max_bytes=8)


MEASURE = """
import contextlib, sys
from pathlib import Path
from pipelines.reading.gate import Gate
from pipelines.reading.local import LocalImages, TooLarge
from schemas.sample import ImageRef
from tests.memory import peak
root = Path(sys.argv[1])
refs = [ImageRef(path="a.parquet", column="image.bytes", row=row) for row in range(120)]
before = peak()
with contextlib.closing(LocalImages(refs, {None: Gate(root)}, root, 4 << 20)) as images:
    assert sum(len(images.read(ref)) for ref in reversed(refs[1:])) == 119 << 22
    with contextlib.suppress(TooLarge):
        images.read(refs[0])
        sys.exit("32 MiB were read under a cap of 4")
print(peak() - before)
"""


def test_a_group_of_large_cells_is_never_in_memory_at_once(tmp_path: Path) -> None:
    """119 cells of 4 MiB and one of 32, 508 MiB in one group, in a process of its own: about 205 MiB at its peak."""
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("image", pa.struct([("bytes", pa.binary())]))])) as file:
        sizes = [32, *[4] * 119]
        file.write_table(pa.table({"image": [{"bytes": bytes(size << 20)} for size in sizes]}))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300
