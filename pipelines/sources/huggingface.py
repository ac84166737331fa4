"""Data sets of Hugging Face's library `datasets`, which reads them: what `save_to_disk` wrote, and what `load_dataset`
opens, read as a stream: a folder of Parquet files as it lies at the Hub (its cache as well), or the Hub itself.

    path = "{data}/mine"                                  a folder with state.json, or with a dataset_dict.json
    path = "{data}/hub/datasets--a--b/snapshots/<commit>" a folder that load_dataset opens
    path = "hf://datasets/OWNER/NAME@COMMIT"              the Hub, at a commit

A row is named by its split and its number there, so all three give the same rows. Nothing of a data set is run, and
what its card says about files leads out of its folder no more than a link does. Pictures are cells of Parquet or Arrow
files, or files by their path; a null cell is a picture that is not there (`missing_file`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

from pipelines.reading.captions import CaptionFields, CaptionReader
from pipelines.reading.conversations import FIELDS, conversation
from pipelines.reading.errors import RowError, SkipRow, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.hub import HubFolder, first_line
from pipelines.reading.options import options_of
from pipelines.reading.parquet import batch_rows, class_name, one_line
from pipelines.reading.records import Record, require_columns
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, condition_of, samples
from pipelines.reading.tables import those_that_hold
from schemas.reasons import Skip
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding", "text")
BATCH_ROWS = 64
"""Rows in memory at a time; each may hold a picture of many megabytes."""
CARDS = ("README.md", ".huggingface.yaml")
"""Files of a data set that can name its data files."""


class HuggingFaceOptions(CaptionFields):
    """Options of `huggingface`: a split, and column names."""

    split: str = "train"
    config: str | None = None
    """One of several data sets in a folder; `load_dataset` calls it the name."""
    content: Literal["caption", "conversation", "document"] | None = None
    """What the text of a row is. By default a caption, and a document in a text source. A conversation is in
    `conversations`, `messages` or `texts`, as in the format llava."""
    image: str = "image"
    """Column of a picture, or of a list of them."""
    images: str = ""
    """Folder that paths of pictures start in: relative to the source's path, or anywhere if absolute."""
    caption: str | list[str] = "text"
    """Column of the caption or document, as in other formats."""


class Part(NamedTuple):
    """One file of a split."""

    file: str
    """Relative to the source's folder."""
    data: Any
    """What `datasets` made of it: a Dataset or IterableDataset."""


def read(source: Source) -> Iterator[Item]:
    """One sample per row of the split, in its order."""
    options = options_of(source, HuggingFaceOptions)
    condition, gate = condition_of(source), gate_of(source)
    captions, images = CaptionReader(source, options, gate), Images(source, gate, options.images)
    content = options.content or ("document" if source.task == "text" else "caption")
    if content == "caption" and source.task == "text":
        raise SourceError(f"source {source.name}: options.content: a caption is no {source.task}; expected document")

    def sample(row: Record) -> Sample:
        found = _images(row, options.image, images)
        if source.task == "text":
            found = tuple(image for image in found if image.path != row.key)  # a null cell is no picture
        if bool(found) != (source.task != "text"):
            raise SkipRow(Skip.OTHER_TASK)
        if content == "conversation":
            messages = conversation(row, len(found))
        else:
            messages = (Message(role=content, text=captions.of(row)),)
        return Sample(task=source.task, key=row.key, messages=messages, images=found)

    columns = [*(() if content == "conversation" else options.fields), *source.columns]
    columns += [*(condition.columns() if condition else ()), *(() if source.task == "text" else (options.image,))]
    optional = [options.image, *(FIELDS if content == "conversation" else ())]
    rows = _records(source, options, gate, columns, optional)
    yield from samples(source, those_that_hold(rows, condition), sample)


def _records(
    source: Source, options: HuggingFaceOptions, gate: Gate, columns: list[str], optional: list[str]
) -> Iterator[Record]:
    """The rows of the split: `columns`, which must be there, and those of `optional` that are."""
    number = 0
    with tempfile.TemporaryDirectory(prefix="janus-forge-") as cache:
        for file, data in _parts(source, options, gate, cache):
            place = gate.root / file
            first, labels = 0, _class_names(data)
            for table in _told(data.with_format("arrow").iter(BATCH_ROWS), str(place)):
                names = table.column_names
                require_columns(names, columns, str(place))
                asked = {column if column in names else column.split(".")[0] for column in (*columns, *optional)}
                for batch in table.select([name for name in names if name in asked]).combine_chunks().to_batches():
                    with one_line(place, "Arrow"):
                        batch.validate(full=True)
                    rows = range(first, first + batch.num_rows)
                    for row, values in zip(rows, batch_rows(batch, list(rows), place), strict=True):
                        where, key = f"{place} row {row}", f"{options.split}:{number}"
                        number += 1
                        if isinstance(values, RowError):
                            yield Record(where, key, {}, file, row, values)
                            continue
                        for column in labels.keys() & values.keys():
                            values[column] = class_name(labels[column], values[column])
                        yield Record(where, key, values, file, row)
                    first = rows.stop


def _parts(source: Source, options: HuggingFaceOptions, gate: Gate, cache: str) -> Iterator[Part]:
    """The files of the split, in order."""
    import datasets

    if (folder := _saved_in(source, options, gate)) is None:
        yield from _streamed(source, options, gate, cache)
        return
    state = _json(gate, f"{folder}state.json")
    files = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(files, list) or not all(
        isinstance(f, dict) and isinstance(f.get("filename"), str) for f in files
    ):
        raise SourceError(f"source {source.name}: {gate.root / folder}state.json: names no files; save it again")
    for named in files:
        path = gate.path(folder + named["filename"], f"{folder}state.json")
        gate.open_data(path).close()  # a regular file, and one that is ours to open
        (data,) = _told((datasets.Dataset.from_file(gate.resolve(path)) for _ in range(1)), str(path))
        yield Part(gate.relative(path), data)


def _saved_in(source: Source, options: HuggingFaceOptions, gate: Gate) -> str | None:
    """The folder of the split, relative to the source's, with a slash at its end, if `save_to_disk` wrote it."""
    if isinstance(gate, HubFolder):
        return None
    if gate.is_file(gate.root / "state.json"):
        return ""
    if not gate.is_file(gate.root / "dataset_dict.json"):
        return None
    if not gate.is_file(gate.path(f"{options.split}/state.json", "options.split")):
        found = sorted(path.parent.name for path in gate.root.glob("*/state.json"))
        raise SourceError(f"source {source.name}: no split {options.split!r} (splits: {', '.join(found)})")
    return f"{options.split}/"


def _streamed(source: Source, options: HuggingFaceOptions, gate: Gate, cache: str) -> Iterator[Part]:
    """What `load_dataset(..., streaming=True)` opens: one part per file."""
    import datasets

    where = f"source {source.name}: {source.path}"
    for card in CARDS:
        if gate.is_file(gate.root / card):
            _check_card(gate, card)
    hub = isinstance(gate, HubFolder)
    place = {"path": gate.id, "revision": gate.commit} if isinstance(gate, HubFolder) else {"path": gate.real}

    def opened() -> Iterator[Any]:
        yield datasets.load_dataset_builder(name=options.config, cache_dir=cache, **place)

    (builder,) = _told(opened(), where)
    files = {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}
    if options.split not in files:
        raise SourceError(f"{where}: no split {options.split!r} (splits: {', '.join(files)})")
    top = f"{gate.address}/" if isinstance(gate, HubFolder) else f"{gate.real}/"
    names = []
    for file in map(str, files[options.split]):
        name = file.removeprefix(top)
        path = gate.path(name, where)  # refuses what does not lie in the folder
        if not hub:
            gate.open_data(path).close()
        names.append(name)
    if hasattr(builder.config, "batch_size"):
        builder.config.batch_size = BATCH_ROWS  # else a whole row group is in memory
    (stream,) = _told((builder.as_streaming_dataset(split=options.split) for _ in range(1)), where)
    if stream.num_shards != len(names) or not all(name.endswith(".parquet") for name in names):
        raise SourceError(f"{where}: its files are no Parquet files; pictures in others are read by their own formats")
    for index, name in enumerate(names):
        yield Part(name, stream.shard(len(names), index))


def _check_card(gate: Gate, card: str) -> None:
    """Raise SourceError if a card names data files that do not lie below its folder, before anything looks for them."""
    import yaml

    text = gate.read_text(gate.root / card)

    if card.endswith(".md"):
        text = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    try:
        configs = (yaml.safe_load(text) or {}).get("configs")
    except (yaml.YAMLError, AttributeError, RecursionError):
        raise SourceError(f"{gate.root / card}: its YAML part cannot be read") from None
    for name in _strings(configs):
        if "://" in name or "::" in name or name.startswith(("/", "~")) or ".." in PurePosixPath(name).parts:
            raise SourceError(f"{gate.root / card}: {name!r} is not below this folder; take it out of its configs")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(item)


def _json(gate: Gate, name: str) -> Any:
    try:
        return json.loads(gate.read_text(gate.path(name, name)))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{gate.root / name}: {first_line(error)}") from None


T = TypeVar("T")


def _told(items: Iterator[T], where: str) -> Iterator[T]:
    """`items` of a library that raises what it likes, as a SourceError of one line."""
    try:
        yield from items
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{where}: cannot be read by the library datasets: {first_line(error)}") from None


def _class_names(data: Any) -> dict[str, list[str]]:
    """Columns of class numbers to the names of the classes."""
    import datasets

    features = (data.features or {}).items()
    return {name: feature.names for name, feature in features if isinstance(feature, datasets.ClassLabel)}


def _images(row: Record, field: str, images: Images) -> tuple[ImageRef, ...]:
    """The pictures of a row; none where it has no column for them. A null cell is named by its row."""
    if field not in row.data and field.split(".")[0] not in row.data:
        return ()
    value = row.get(field)
    if value is None or (isinstance(value, dict) and value.get("bytes") is None and not value.get("path")):
        return (ImageRef(path=row.key),)
    return images.of(row, field)
