"""ImageNet: one folder per WordNet id, and a file that gives the ids their names.

    <path>/<images>/n01440764/*.JPEG
    <path>/<classes>            "n01440764<TAB>tench" or, as in LOC_synset_mapping.txt, "n01440764 tench, Tinca tinca"

The caption is the class name alone (paper section 3.2, stage I): the first synonym, underscores as spaces. The WordNet
id is what tells classes apart: "crane" and "maillot" each name two. `where` can ask for it: "wnid in ('n01440764')".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.account import Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.files import walk
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.limits import MAX_ROW
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import IMAGE_SUFFIXES, OTHER_IMAGES, local_image
from pipelines.reading.rows import Item, condition_of, samples
from pipelines.reading.tables import those_that_hold
from pipelines.reading.where import Node
from schemas.reasons import Skip
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class ImageNetOptions(Options):
    """Options of `imagenet_folder`."""

    images: str = "."
    """Folder of the class folders, relative to the source's path."""
    classes: str = "classes.tsv"
    """File of class names, relative to the source's path."""


def read(source: Source) -> Iterator[Item]:
    """One sample per image, class by class in order of the WordNet ids, files by name."""
    options = options_of(source, ImageNetOptions)
    gate = gate_of(source)
    names = class_names(gate, gate.path(options.classes, f"source {source.name}: options.classes"))
    images = gate.path(options.images, f"source {source.name}: options.images")
    if not images.is_dir():
        raise SourceError(f"source {source.name}: {images}: no such folder; expected one folder per class in it")

    def sample(row: Record) -> Sample:
        wnid = row.data["wnid"]
        if wnid not in names:
            raise RowError(f"{row.where}: class {wnid} has no name in {options.classes}")
        image = local_image(gate, row.key, row.where)
        caption = (Message(role="caption", text=names[wnid]),)
        return Sample(task=source.task, key=row.key, messages=caption, images=(image,))

    yield from samples(source, _found(gate, images, condition_of(source)), sample)


def _found(gate: Gate, images: Path, condition: Node | None) -> Iterator[Record | Skipped]:
    for folder in sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))):
        gate.resolve(folder)
        for file in walk(gate, folder):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                row = Record(str(file), gate.relative(file), {"wnid": folder.name})
                yield from those_that_hold([row], condition)
            elif file.suffix.lower() in OTHER_IMAGES:
                yield Skipped(Skip.UNSUPPORTED_FORMAT, 1, str(file))


def class_names(gate: Gate, file: Path) -> dict[str, str]:
    """WordNet id to class name. Raises SourceError naming the line that is not `id name`."""
    if not gate.is_file(file):
        raise SourceError(f"{file}: no such file; expected lines of WordNet id, tab, class name (options.classes)")
    names = {}
    for number, line in enumerate(gate.read_text(file, MAX_ROW).splitlines(), start=1):
        if not line.strip():
            continue
        wnid, _, name = line.partition("\t") if "\t" in line else line.partition(" ")
        name = name.split(",")[0].replace("_", " ").strip()
        if not wnid or not name:
            raise SourceError(f"{file}:{number}: expected WordNet id and class name, found {line[:80]!r}")
        names[wnid] = name
    return names
