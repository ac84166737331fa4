"""A sample: the unit a source yields, before any pixel is loaded.

One sample is a list of messages plus the images its `<image>` marks refer to, in order. Everything Janus trains on is
written this way:

| what                     | task          | messages                                              |
|--------------------------|---------------|-------------------------------------------------------|
| image + class name       | generation    | caption: "goldfish"                                   |
| image + caption          | generation    | caption: "A red fish. It swims ..."                   |
| image + caption          | understanding | caption: "A red fish ..." (the template makes it QA)  |
| visual chat, VQA         | understanding | system? user: "<image>How many ...?", assistant: "3"… |
| interleaved page         | understanding | document: "text <image> text ..."                     |
| plain text               | text          | document: "..."                                       |
| text chat                | text          | system? user, assistant …                             |

A `caption` message carries no `<image>` mark: it describes the sample's one image.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, get_args

import pydantic

from schemas.digest import canonical_json
from schemas.reasons import Outcome

Task = Literal["understanding", "text", "generation"]
TASKS: tuple[Task, ...] = get_args(Task)
Template = Literal["plain", "describe", "chat"]
"""How a sample is put as tokens (`janus.model.templates`)."""
Role = Literal["system", "user", "assistant", "caption", "document"]

IMAGE_MARK = "<image>"
UID_BYTES = 16


class Message(pydantic.BaseModel):
    """One turn, caption or document. `text` may hold `<image>` marks, except in a caption."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    role: Role
    text: str


class ImageRef(pydantic.BaseModel):
    """Where the bytes of one image are. Exactly one of `url` and `path` is set."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    """http(s) address, fetched by the download step."""
    path: str | None = None
    """Local file, relative to the source's folder ..."""
    root: Literal["images"] | None = None
    """... or to its image folder, where the spec names one apart (an absolute `options.images`)."""
    offset: int | None = None
    """Byte range inside `path` (a member of a tar): start ..."""
    size: int | None = None
    """... and length."""
    column: str | None = None
    """Place of a binary value inside `path` when it is a Parquet file: a column, then fields of structs and numbers in
    lists, with dots between ("images.2.bytes") ..."""
    row: int | None = None
    """... and the row number."""
    sha256: str | None = None
    """Hex digest of the image's bytes. Of a local image it is the identity, and None only where the file was not there
    when the source was read (its row then fails as missing_file); of a URL it is what the source promises."""

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> ImageRef:
        if (self.url is None) == (self.path is None):
            raise ValueError("an image reference needs exactly one of url and path")
        return self

    @property
    def identity(self) -> str:
        """What names the image in a uid: its content where that is known before download, else its place."""
        if self.url is not None:
            return f"url:{self.url}"
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return f"path:{self.path}" if self.column is None else f"path:{self.path}#{self.column}:{self.row}"


class Sample(pydantic.BaseModel):
    """One row of a source."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    task: Task
    key: str
    """The row's name in its source (relative path, id, line number): provenance for humans, not identity."""
    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...] = ()
    licence: str | None = None
    columns: dict[str, Any] = {}
    """Columns of the source that its spec wants kept (`columns`): strings, numbers, booleans and None."""
    outcome: Outcome = Outcome.OK
    """Of reading the row. One that could not be read has its key and this, and neither messages nor images."""

    @property
    def uid(self) -> bytes:
        """16 bytes: SHA-256 over task, messages and image identities (design D1).

        Neither the source's name nor the row's place in it enters, so the same sample met twice has one uid. A row that
        could not be read has nothing but its place.
        """
        content = {
            "task": self.task,
            "messages": [[message.role, message.text] for message in self.messages],
            "images": [image.identity for image in self.images],
        }
        if self.outcome != Outcome.OK:
            content["unreadable"] = [self.outcome.value, self.key]
        return hashlib.sha256(canonical_json(content)).digest()[:UID_BYTES]
