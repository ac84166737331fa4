"""The corpus spec: a TOML file that says what goes into a corpus and by which rules.

Two kinds of setting are kept apart. What shapes the content (sources, signals, filters, templates, models) is in the
spec and enters the key of every shard it shapes. How the work is done (workers, engine, connections, host overrides) is
in `Operations`: it is given when a build starts, enters no key, and changes nothing but what a download meets (see
there).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from schemas.plugins import did_you_mean
from schemas.sample import Task, Template

MAX_PIXELS = 64_000_000
"""Pixels of an image that anyone may have made, from its header; more is refused undecoded. 8000 x 8000 fits."""


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


def _tables(value: Any) -> Any:
    for name, options in value.items() if isinstance(value, dict) else ():
        if not isinstance(options, dict):
            raise ValueError(f"{name}: expected a table of options ({name}.OPTION = ...), found {options!r}")
    return value


Settings = Annotated[dict[str, dict[str, Any]], pydantic.BeforeValidator(_tables)]
"""Name of a signal or filter to its options. They are checked where the modules are, in pipelines/selection.py."""


def _radius(value: Any) -> Any:
    if value is True:
        raise ValueError("expected a number of bits from 0 to 16, or false for no comparison by perceptual hash")
    return None if value is False else value


Radius = Annotated[Annotated[int, pydantic.Field(ge=0, le=16)] | None, pydantic.BeforeValidator(_radius)]
"""Bits of 64 in which perceptual hashes may differ; None, in a spec `false`, for no comparison."""


def _share(value: Any) -> Any:
    if value is True:
        raise ValueError("expected a number from 0.5 to 1, or false for no comparison")
    return None if value is False else value


Likeness = Annotated[Annotated[float, pydantic.Field(ge=0.5, le=1)] | None, pydantic.BeforeValidator(_share)]
"""Least similarity of duplicates; None, in a spec `false`, for no comparison."""

SHORT_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"


class Dedup(_Model):
    """Duplicate removal, within and across the sources of a task."""

    exact: bool = True
    """By SHA-256 of the content."""
    near_radius: Radius = 4
    """Pictures whose 64-bit perceptual hashes differ in at most so many bits are duplicates. 0: equal hashes, which
    different pictures of little detail can have too. `near_radius = false` switches the comparison off."""
    text_jaccard: Likeness = None
    """Texts, pages and conversations with the same pictures, or none, that share at least so many of their runs of five
    words are duplicates. Estimated by MinHash (signal `minhash`)."""
    embedding_cosine: Likeness = None
    """Pictures whose embeddings (signal `clip_embedding`) have at least that cosine are duplicates."""

    @property
    def compares(self) -> bool:
        """Whether anything is compared."""
        return self.exact or any(x is not None for x in (self.near_radius, self.text_jaccard, self.embedding_cosine))


class Decontaminate(_Model):
    """Removal of rows that hold a picture or a question of an evaluation set (docs/dedup.md)."""

    sets: dict[str, str] = {}
    """Short name of each evaluation set to its file or folder: pictures, tables of questions, lists of hashes."""
    phash_radius: Radius = 4
    """Pictures whose 64-bit perceptual hashes differ in at most so many bits are the same. `phash_radius = false`
    compares bytes only."""
    ngram: int = pydantic.Field(default=13, ge=2, le=64)
    """A row that shares so many words in a row with a text of a set holds it. 13 as for GPT-3 (arXiv 2005.14165,
    appendix C)."""
    min_words: int = pydantic.Field(default=5, ge=1)
    """Texts shorter than `ngram` words are held by a row of which they are a whole message or line; those of fewer
    words than this are not compared."""

    @pydantic.field_validator("sets")
    @classmethod
    def _named(cls, sets: dict[str, str]) -> dict[str, str]:
        for name, path in sets.items():
            if not re.fullmatch(SHORT_NAME, name):
                raise ValueError(f"set name {name!r}: use lower-case letters, digits, - and _")
            if not path:
                raise ValueError(f"{name}: expected a file or folder, found an empty path")
        return sets


class Sampling(_Model):
    """How a captioner writes."""

    max_tokens: int = pydantic.Field(default=256, ge=1)
    """Longest answer. One that is still being written then is no caption."""
    temperature: float = pydantic.Field(default=0.0, ge=0)
    """0: always the likeliest token. Above it, each row has a seed of its own, from its uid."""
    top_p: float = pydantic.Field(default=1.0, gt=0, le=1)


class Recaption(_Model):
    """Captions written by a model, for the sources that ask for them (docs/recaption.md)."""

    engine: str
    """What writes them: a module in pipelines/captioners/ ("openai", "transformers", "janus")."""
    options: dict[str, Any] = {}
    """Of the engine, such as its model. Checked by the engine itself."""
    prompt: str = "Describe the image in detail."
    """What is asked of every picture; `<caption>` in it is the source's caption."""
    side: int = pydantic.Field(default=768, ge=16, le=1024)
    """Longest side of the picture as the model is given it, pixels; it is never enlarged."""
    sampling: Sampling = Sampling()
    keep_better: bool = False
    """Whether the caption that fits the picture better is taken, by the caption score (`[signals.caption_score]`)."""


class Source(_Model):
    """One source of a corpus."""

    name: str
    """Short name; shard folders and metrics use it."""
    format: str
    """Module in pipelines/sources/ that reads it, e.g. "imagenet_folder"."""
    path: str
    """File or folder. `{name}` refers to a variable given to `load_spec`."""
    task: Task
    template: Template = "plain"
    """How messages become tokens.

    plain: `<image>caption` / `caption<image>` / the document as it is (stages 1 and 2).
    describe: `<image>Describe the image in detail.` + caption (stage 2, paper section 3.2).
    chat: the model's chat template; loss on the assistant's answers only (stage 3).
    """
    group: str = ""
    """Label that a training phase can ask for: "imagenet" marks the rows stage 2 starts with."""
    options: dict[str, Any] = {}
    """Settings of the format, e.g. column names. Checked by the source itself."""
    filters: Settings | None = None
    """Replaces the corpus-wide filters for this source."""
    skip_signals: tuple[str, ...] = ()
    """Signals that are not measured here (for class names and chats, a caption score says little)."""
    recaption: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Share of the rows, by uid, whose caption is the one that `[recaption]` writes; the rest keep the source's."""
    limit: int | None = pydantic.Field(default=None, ge=0)
    """Take only the first so many rows."""
    licence: str | None = None
    """Licence of rows that state none themselves."""
    where: str | None = None
    """Take only rows for which this holds, a condition on the source's own columns (docs/sources.md), for example
    "aesthetic_score >= 5.0 and width >= 512". In Parquet, row groups that cannot hold such a row are not read."""
    columns: tuple[str, ...] = ()
    """Columns of the source that are kept with each row, such as scores it was published with."""
    missing_image: Literal["drop_page", "drop_image"] = "drop_page"
    """What becomes of a row of several images, or of a page, that loses one: it fails, or it goes on without it."""
    allow_links_to: tuple[str, ...] = ()
    """Folders outside of `path` that links in it may lead to; relative ones are seen from the current folder."""
    max_unreadable: float = pydantic.Field(default=0.05, ge=0, le=1)
    """Greatest share of rows that cannot be read (broken JSON, a missing field, a forbidden path). More stop the build:
    then the description is wrong, or the copy."""
    allow_empty: bool = False
    """Whether a source without any row, or of which no row is kept, is in order."""
    on_removed: Literal["keep", "drop"] = "keep"
    """What a refresh does with rows that the source no longer has. Changed rows are replaced either way."""

    @property
    def portable_options(self) -> dict[str, Any]:
        """`options` as they enter keys: that an image folder lies apart shapes content, where it lies does not."""
        images = self.options.get("images")
        apart = isinstance(images, str) and os.path.isabs(images)
        return {**self.options, "images": "/"} if apart else self.options

    @pydantic.field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not re.fullmatch(SHORT_NAME, name):
            raise ValueError(f"source name {name!r}: use lower-case letters, digits, - and _ (it names folders)")
        return name


Precision = Literal["fp32", "bf16"]
"""What a model computes in: whole float32, or bf16 matrix products and convolutions, on GPUs several times as fast."""


class Models(_Model):
    """The models a corpus is made with."""

    janus: str
    """Janus folder or hub id: tokenizer, chat template, image processor and VQ tokenizer are read from it."""


class Limits(_Model):
    """Caps on what a source may hand us (design D12). They decide outcomes, so they are part of the content."""

    max_bytes: int = pydantic.Field(default=32 * 1024 * 1024, ge=1)
    """Per image."""
    max_pixels: int = pydantic.Field(default=MAX_PIXELS, ge=1)
    """Per image, from its header, before any decoding."""
    redirects: int = pydantic.Field(default=5, ge=0)
    deadline_s: float = pydantic.Field(default=30.0, gt=0, le=86_400)
    """Whole request, from connect to last byte."""
    user_agent: str = pydantic.Field(default="janus-forge", pattern=r"^[!-~][ -~]*$")
    """Sent with every request; also the name that robots rules are matched against."""
    respect_opt_out: bool = True
    """Honour what sites and pictures say against being used for training (docs/download.md, Opt-outs)."""


class Tokenize(_Model):
    """The last step."""

    pixels: Literal["jpeg", "raw"] = "jpeg"
    """SigLIP input as JPEG (quality 95, 4:4:4) or raw uint8."""
    max_length: int = pydantic.Field(default=4096, ge=1)
    """Longest row in tokens; longer rows are dropped as too_long."""
    vq_precision: Precision = "fp32"
    """Of the VQ encoder. In bf16 some codes come out as a close neighbour (docs/model.md); the encoder takes 312 GFLOPs
    per image of 384 px, so a GPU's float32 units bound it to some 200 images per second."""


class CorpusSpec(_Model):
    """A corpus: its sources, and what is done to them."""

    name: str
    stage: Literal[1, 2, 3]
    models: Models
    sources: tuple[Source, ...] = pydantic.Field(min_length=1)
    description: str = ""
    shard_rows: int = pydantic.Field(default=2048, ge=1)
    """Rows per shard before filtering."""
    max_failed_share: float = pydantic.Field(default=0.5, ge=0, le=1)
    """Health gate: a shard with a greater share of failed rows is not committed but reported. Transient failures count
    too: a network outage must not become a shard of dead links. Shards of a few rows are judged mildly."""
    signals: Settings = {}
    """Signals to measure beside those that duplicates and the filters in use need, and the options of any signal."""
    filters: Settings = {}
    """Filters in the order in which they are tried: the first that drops a row is its reason."""
    dedup: Dedup = Dedup()
    decontaminate: Decontaminate = Decontaminate()
    recaption: Recaption | None = None
    limits: Limits = Limits()
    tokenize: Tokenize = Tokenize()

    @pydantic.model_validator(mode="after")
    def _unique_names(self) -> CorpusSpec:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called {name!r}")
        asking = [source.name for source in self.sources if source.recaption]
        if asking and self.recaption is None:
            raise ValueError(f"source {asking[0]}: recaption = ... wants a table [recaption] that says by which model")
        if self.recaption is not None and not asking:
            raise ValueError("recaption: no source asks for it; set recaption = 1.0 in those that are to have it")
        return self


class Operations(_Model):
    """How a build is run. Nothing here enters a key or changes a byte, given the same answers from the network.

    What was downloaded can differ: more retries may find a host that is up again, and img2dataset cannot tell where a
    redirect ended or with which status an image came. Those columns of the raw layer are null then, which the keys of
    the later layers show; the rows of the train layer are the same for the same images.
    """

    engine: str = "local"
    """local, or a Beam runner: prism, flink, spark, dataflow (docs/pipelines.md)."""
    workers: int = pydantic.Field(default=1, ge=1)
    """Processes of the local engine; the other engines take their own options for this."""
    engine_options: tuple[str, ...] = ()
    """Further Beam options, passed through. On a command line --engine-options=--NAME=VALUE, once for each."""
    download_engine: Literal["builtin", "img2dataset"] = "builtin"
    """What fetches images by address: this project's own fetcher, or img2dataset (docs/download.md)."""
    connections: int = pydantic.Field(default=32, ge=1)
    """Concurrent downloads per worker."""
    per_host: int = pydantic.Field(default=8, ge=1)
    """Concurrent requests to one host, per worker."""
    retries: int = pydantic.Field(default=3, ge=0)
    """Attempts after the first for transient failures, with back-off and Retry-After honoured."""
    host_failures: int = pydantic.Field(default=4, ge=0)
    """Time-outs and failed connections in a row after which the rest of a host's rows get host_down; 0 is never."""
    shard_seconds: float = pydantic.Field(default=3600.0, ge=1)
    """Time for downloading one shard. After it no request is started; rows without an answer get timeout."""
    resolve: dict[str, str] = {}
    """Host overrides, "host:port" to "address:port" (two words), the one way to reach a private address."""
    retry_transient: bool = False
    """Try rows again whose last outcome was transient."""
    recheck: Literal["robots"] | None = None
    """Ask the sites of pictures that the corpus has once more for their robots.txt, tdmrep.json and ai.txt: what they
    reserve today leaves the next snapshot as opted_out (docs/takedown.md)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models of signals and the VQ tokenizer run; auto is cuda where there is one."""
    keep_last: int | None = pydantic.Field(default=None, ge=1)
    """After publishing, delete snapshots older than the newest so many, and shards no snapshot uses."""


_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HERE = "here"


def _fill(value: Any, variables: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, variables, f"{where}.{key}" if where else key) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, variables, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in variables:
            raise ValueError(f"{where}: variable {{{name}}} has no value; give it with --set {name}=...")
        return variables[name]

    return _VARIABLE.sub(replace, value)


def _names(value: Any) -> set[str]:
    """The variables in the strings of a spec."""
    if isinstance(value, dict | list):
        return set().union(*map(_names, value.values() if isinstance(value, dict) else value))
    return set(_VARIABLE.findall(value)) if isinstance(value, str) else set()


def load_spec(path: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> CorpusSpec:
    """Read a corpus spec, with `{name}` in its strings replaced from `variables`; more of them than it has are fine.

    `{here}` is always known: the folder of the spec file. Options of sources, signals and filters are checked when a
    build starts.

    Raises FileNotFoundError or ValueError with one line naming file, field and what was expected.
    """
    file = Path(path)
    raw = _read(file)
    try:
        return CorpusSpec.model_validate(_fill(raw, {_HERE: str(file.parent), **(variables or {})}, ""))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "spec"
        raise ValueError(f"{file}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def load_specs(
    paths: Sequence[str | os.PathLike[str]], variables: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> list[CorpusSpec]:
    """Read corpus specs that share `variables`, as given on a command line, and `defaults` of those not given.

    Raises as `load_spec`, and ValueError for one of `variables` that no spec has.
    """
    specs = [load_spec(path, {**(defaults or {}), **variables}) for path in paths]
    known = set().union(*(_names(_read(Path(path))) for path in paths)) - {_HERE}
    for name in variables:
        if name not in known:
            where = ", ".join(map(str, paths))
            raise ValueError(f"--set {name}: no variable {{{name}}} in {where}{did_you_mean(name, known)}")
    return specs


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such corpus spec")
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
