"""What can become of a row: closed sets of outcomes and reasons, over which the funnel adds up (design D2, D12).

To the reasons here come those of the filters that exist, one each (pipelines/filters/).
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What came of loading a row's images. Everything but OK is a failure, permanent or transient."""

    OK = "ok"
    # --- permanent: trying again cannot help
    BAD_URL = "bad_url"  # empty, not http(s), no host
    FORBIDDEN_ADDRESS = "forbidden_address"  # private, link-local, loopback (also after a redirect)
    HTTP_GONE = "http_gone"  # 404, 410
    HTTP_REFUSED = "http_refused"  # other 4xx but 408, 425, 429
    REDIRECT_LOOP = "redirect_loop"  # too many redirects
    OPTED_OUT = "opted_out"  # reserved by the site or in the picture, or what it says of that cannot be read
    TOO_LARGE = "too_large"  # over the byte cap
    TOO_MANY_PIXELS = "too_many_pixels"  # over the pixel cap
    NOT_AN_IMAGE = "not_an_image"  # HTML, empty, unknown format
    BAD_IMAGE = "bad_image"  # an image format, but damaged or cut short
    MISSING_FILE = "missing_file"  # local path gone
    HASH_MISMATCH = "hash_mismatch"  # bytes are not the ones the source named
    BAD_ROW = "bad_row"  # not what the format promises: broken JSON, a missing field, a wrong type, an unknown speaker
    ROW_TOO_LARGE = "row_too_large"  # over a cap of pipelines/reading/limits.py
    FORBIDDEN_PATH = "forbidden_path"  # a path that leaves the source's folder, or a pipe or device
    # --- transient: `--retry-transient` tries these again
    HTTP_RATE_LIMITED = "http_rate_limited"  # 429
    HTTP_SERVER_ERROR = "http_server_error"  # 5xx, 408, 425
    TIMEOUT = "timeout"  # whole-request deadline passed
    CONNECTION = "connection"  # DNS, refused, reset, TLS
    HOST_DOWN = "host_down"  # not asked for: its host did not answer several requests in a row
    TRUNCATED = "truncated"  # fewer bytes than Content-Length
    ENGINE_ERROR = "engine_error"  # the download engine died or answered nonsense

    @property
    def transient(self) -> bool:
        """Whether trying again later can help."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        Outcome.HTTP_RATE_LIMITED,
        Outcome.HTTP_SERVER_ERROR,
        Outcome.TIMEOUT,
        Outcome.CONNECTION,
        Outcome.HOST_DOWN,
        Outcome.TRUNCATED,
        Outcome.ENGINE_ERROR,
    }
)


UNREADABLE = frozenset({Outcome.BAD_ROW, Outcome.ROW_TOO_LARGE, Outcome.FORBIDDEN_PATH})
"""Outcomes of reading a row, before anything is loaded. A source with more than a few of them stops the build."""


class Skip(StrEnum):
    """Why a row of a source was not taken. Skipped rows are counted when a source is read; they are in no layer."""

    OTHER_TASK = "other_task"  # no picture where the task is understanding, or one where it is text
    WHERE = "where"  # not what the source's `where` asks for
    NO_CAPTION = "no_caption"  # no caption beside the picture, or none in the joined file
    NO_IMAGE = "no_image"  # a WebDataset sample without a picture
    DUPLICATE_KEY = "duplicate_key"  # a second tar member of the same name
    LINK_MEMBER = "link_member"  # a link, device or sparse file in a tar: nothing is stored under its name
    UNSUPPORTED_FORMAT = "unsupported_format"  # a picture file of a kind that is not read, such as HEIC
    TAKEN_DOWN = "taken_down"  # on a takedown list of the corpus, which does not have it (docs/takedown.md)


class Drop(StrEnum):
    """Why a row whose images loaded was not kept, where no filter says so. KEPT is the absence of a reason.

    Each filter adds a reason of its own (pipelines/filters/).
    """

    KEPT = "kept"
    UPDATED = "updated"  # its source has a newer version of it, which is another row
    REMOVED = "removed"  # gone at its source, which has `on_removed = "drop"`
    TAKEN_DOWN = "taken_down"  # on a takedown list of the corpus, or a picture of the same bytes is (docs/takedown.md)
    CONTAMINATED = "contaminated"  # holds a picture or a text of an evaluation set (docs/dedup.md)
    DUPLICATE_EXACT = "duplicate_exact"  # same image bytes, or same sample for texts, pages and chats, as a kept row
    DUPLICATE_NEAR = "duplicate_near"  # perceptual hash within the radius of a kept row
    DUPLICATE_TEXT = "duplicate_text"  # most runs of words are those of a kept row (docs/dedup.md)
    DUPLICATE_EMBEDDING = "duplicate_embedding"  # its picture's embedding is close to that of a kept row
    RECAPTION_EMPTY = "recaption_empty"  # the model that was to write its caption wrote none ...
    RECAPTION_REFUSED = "recaption_refused"  # ... or declined
    RECAPTION_REPEATED = "recaption_repeated"  # ... or went on in a loop
    RECAPTION_TRUNCATED = "recaption_truncated"  # ... or was still writing at `max_tokens`
    RECAPTION_FAILED = "recaption_failed"  # ... or gave no answer, or one that is no text (docs/recaption.md)
    TOO_LONG = "too_long"  # more tokens than the model's context
    TOKENIZE_FAILED = "tokenize_failed"  # the templates do not fit the messages (e.g. image marks and images differ)


NO_CAPTION = frozenset(drop.value for drop in Drop if drop.value.startswith("recaption_"))
"""Drops of rows for which a model was to write a caption and wrote none."""
RECAPTIONED, AS_SOURCE = "recaptioned", "as_source"
"""What the other rows are counted under in the recaption layer."""

ROWS_IN = "rows"
"""Name of the number of rows in, in a snapshot's funnel."""
FIXED = frozenset({ROWS_IN, *map(str, Outcome), *map(str, Drop)})
"""Names in a funnel that are no filter's reason."""
