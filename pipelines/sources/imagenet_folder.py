"""ImageNet: one folder per WordNet id, and a file that gives the ids their names.

    <path>/<images>/n01440764/*.JPEG
    <path>/<classes>            "n01440764<TAB>tench" or, as in LOC_synset_mapping.txt, "n01440764 tench, Tinca tinca"

The caption is the class name alone (paper section 3.2, stage I): the first synonym, underscores as spaces. The WordNet
id is what tells classes apart: "crane" and "maillot" each name two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import read_text, walk
from pipelines.reading.refs import IMAGE_SUFFIXES, inside, local_image, root_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class ImageNetOptions(Options):
    """Options of `imagenet_folder`."""

    images: str = "."
    """Folder of the class folders, relative to the source's path."""
    classes: str = "classes.tsv"
    """File of class names, relative to the source's path."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per image, class by class in order of the WordNet ids, files by name."""
    options = options_of(source, ImageNetOptions)
    root = root_of(source)
    names = class_names(inside(root, options.classes, f"source {source.name}: options.classes"))
    images = inside(root, options.images, f"source {source.name}: options.images")
    if not images.is_dir():
        raise SourceError(f"source {source.name}: {images}: no such folder; expected one folder per class in it")
    for folder in sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))):
        if folder.name not in names:
            raise SourceError(f"{folder}: class {folder.name} has no name in {options.classes}")
        for file in walk(folder):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                relative = file.relative_to(root).as_posix()
                yield Sample(
                    task=source.task,
                    key=relative,
                    messages=(Message(role="caption", text=names[folder.name]),),
                    images=(local_image(root, relative, str(file)),),
                )


def class_names(file: Path) -> dict[str, str]:
    """WordNet id to class name. Raises SourceError naming the line that is not `id name`."""
    if not file.is_file():
        raise SourceError(f"{file}: no such file; expected lines of WordNet id, tab, class name (options.classes)")
    names = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        wnid, _, name = line.partition("\t") if "\t" in line else line.partition(" ")
        name = name.split(",")[0].replace("_", " ").strip()
        if not wnid or not name:
            raise SourceError(f"{file}:{number}: expected WordNet id and class name, found {line!r}")
        names[wnid] = name
    return names
