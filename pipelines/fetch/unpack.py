"""Bodies that come compressed although nobody asked for it, unpacked piece by piece up to a number of bytes."""

from __future__ import annotations

import zlib
from email.message import Message

from pipelines.fetch.result import FetchProblem
from schemas.reasons import Outcome

MEMBERS = 1024
"""Members of a gzip file. Each costs a decompressor, and an empty one has 20 bytes."""
_GZIP = b"\x1f\x8b"


def unpacker(headers: Message, status: int) -> Unpack | None:
    """What unpacks a body with these headers, None for one that is as it is.

    Raises FetchProblem NOT_AN_IMAGE for an encoding that we do not know.
    """
    encoding = ",".join(headers.get_all("Content-Encoding", [])).strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Unpack()
    raise FetchProblem(Outcome.NOT_AN_IMAGE, status=status)


class Unpack:
    """A gzip file of one or several members (RFC 1952, section 2.2), or a zlib stream."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=47)  # gzip or zlib, by the header
        self._members = 1
        self._begun = False
        self._rest = b""
        """Bytes after the end of a member that may be the start of the next."""

    def feed(self, block: bytes, room: int) -> bytes:
        """The bytes that `block` adds, at most `room`. Raises zlib.error if it is damaged."""
        self._begun = True
        found = bytearray()
        if self._stream.eof:
            block = self._rest + block
        while True:
            if self._stream.eof:
                # What follows the last member and is no member is padding.
                self._rest = block[:1]
                if not block.startswith(_GZIP):
                    return bytes(found)
                self._members += 1
                if self._members > MEMBERS:
                    raise zlib.error(f"more than {MEMBERS} gzip members")
                self._stream = zlib.decompressobj(wbits=47)
            found += self._stream.decompress(block, room - len(found))
            if not self._stream.eof or len(found) >= room:
                return bytes(found)
            block = self._stream.unused_data

    def end(self) -> None:
        """The body is over. Raises zlib.error if it broke off."""
        if self._begun and not self._stream.eof:
            raise zlib.error("incomplete stream")
