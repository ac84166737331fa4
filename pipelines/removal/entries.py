"""Lists of what is to be taken down, and those that a corpus keeps.

    corpus/takedown/lists/<digest>.txt       a list, one entry a line; the union of all holds
    corpus/takedown/purged/<digest>.json     a purge: when, uids, and what snapshots are called since
    corpus/takedown/opted-out.json           rows that their sites reserved when these were last asked again
    corpus/takedown/purging.json             the purge that is under way, or was interrupted

An entry is an http(s) address, a host, the SHA-256 of a picture (64 hex digits) or a uid (32 hex digits).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from schemas.digest import canonical_json, digest
from schemas.printable import printable
from storage.store import Store

if TYPE_CHECKING:
    from pipelines.fetch.address import Target

FOLDER = "takedown"
LISTS, PURGED, PURGING = f"{FOLDER}/lists", f"{FOLDER}/purged", f"{FOLDER}/purging.json"
OPTED_OUT = f"{FOLDER}/opted-out.json"
MAX_BYTES = 256 << 20
"""Of a list."""
_HOST = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{2,63}", re.IGNORECASE)


class Purge(pydantic.BaseModel):
    """What was removed when. Uids are digests: nothing of a row can be made of one."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    time: str
    """When it began, ISO 8601, UTC."""
    uids: tuple[str, ...]
    """Of the rows, hex, sorted."""
    snapshots: dict[str, str] = {}
    """Names of snapshots that had such rows, or grew from one that had, and the names of those in their place."""


class OptedOut(pydantic.BaseModel):
    """What sites said when they were last asked again."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    uids: tuple[str, ...] = ()
    """Of the rows with a picture that is reserved, hex, sorted. Where a site did not answer, what it said before."""
    unanswered: int = 0
    """Addresses whose sites did not answer."""


@dataclass(frozen=True)
class Entries:
    """What is to be taken down."""

    addresses: frozenset[str] = frozenset()
    """Normalised (pipelines.fetch.address.Target.url)."""
    hosts: frozenset[str] = frozenset()
    """In lower case. A host stands for itself, not for hosts below it."""
    sha256: frozenset[bytes] = frozenset()
    """Of pictures."""
    uids: frozenset[bytes] = frozenset()
    """Of rows."""

    def __bool__(self) -> bool:
        return bool(self.addresses or self.hosts or self.sha256 or self.uids)

    def __or__(self, other: Entries) -> Entries:
        return Entries(
            self.addresses | other.addresses,
            self.hosts | other.hosts,
            self.sha256 | other.sha256,
            self.uids | other.uids,
        )

    def lines(self) -> list[str]:
        """The entries as a list has them, sorted."""
        texts = {*self.addresses, *self.hosts}
        return sorted(texts | {value.hex() for value in (*self.sha256, *self.uids)})

    def naming(self, address: str | None) -> set[str]:
        """The entries that name an address: itself, or its host."""
        target = _parsed(address) if address and (self.addresses or self.hosts) else None
        return {target.url, target.host} & (self.addresses | self.hosts) if target else set()


def _parsed(address: str) -> Target | None:
    # Late: these bring what opens pictures, and verify needs none.
    from pipelines.fetch.address import parse
    from pipelines.fetch.result import FetchProblem

    try:
        return parse(address)
    except FetchProblem:
        return None


def parse_list(lines: Iterable[str], where: str) -> Entries:
    """The entries of a list. Blank lines, and what follows a # at the start of a line or after a blank, are comments.

    Raises ValueError with one line that names the first line that is no entry; `where` begins it.
    """
    addresses, hosts, sha256, uids = set(), set(), set(), set()
    for number, line in enumerate(lines, start=1):
        text = re.split(r"(?:^|\s)#", line.removeprefix("\ufeff"), maxsplit=1)[0].strip()
        if not text:
            continue
        if re.fullmatch(r"[0-9a-fA-F]{64}", text):
            sha256.add(bytes.fromhex(text))
        elif re.fullmatch(r"[0-9a-fA-F]{32}", text):
            uids.add(bytes.fromhex(text))
        elif "://" in text and (target := _parsed(text)):
            addresses.add(target.url)
        elif (_HOST.fullmatch(text) or text.lower() == "localhost") and (target := _parsed(f"http://{text}")):
            hosts.add(target.host)
        else:
            raise ValueError(
                f"{where}: line {number}: {printable(text[:80])!r} is neither an address (http://...), a host, a "
                "SHA-256 (64 hex digits) nor a uid (32 hex digits)"
            )
    return Entries(frozenset(addresses), frozenset(hosts), frozenset(sha256), frozenset(uids))


def read_list(path: Path) -> Entries:
    """The entries of a file. Raises FileNotFoundError or ValueError with one line, also for one without any entry."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: {size} bytes, more than {MAX_BYTES}; split the list")
    try:
        found = parse_list(path.read_text(encoding="utf-8").splitlines(), str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8") from None
    if not found:
        raise ValueError(f"{path}: holds no entry")
    return found


def keep_list(corpus: Store, entries: Entries) -> None:
    """Leave a list in a corpus. The same entries once more change nothing."""
    data = "".join(f"{line}\n" for line in entries.lines()).encode()
    corpus.put_if_absent(f"{LISTS}/{digest(data.decode())[:16]}.txt", data)


def kept_entries(corpus: Store) -> Entries:
    """All that is to be taken down in a corpus: its lists, and the rows of earlier purges.

    Raises ValueError with one line if a file is damaged: what should go is not known then.
    """
    found = Entries()
    for entry in sorted(corpus.list(LISTS), key=lambda entry: entry.key):
        where = f"{corpus.url}/{entry.key}"
        try:
            found |= parse_list(corpus.read(entry.key).decode().splitlines(), where)
        except UnicodeDecodeError:
            raise ValueError(f"{where}: not text in UTF-8") from None
    for entry in corpus.list(PURGED):
        found |= Entries(uids=frozenset(map(bytes.fromhex, _read(corpus, entry.key).uids)))
    return found


def opted_out(corpus: Store) -> OptedOut:
    """What the last recheck found. Raises ValueError with one line if that cannot be read."""
    try:
        return OptedOut.model_validate_json(corpus.read(OPTED_OUT))
    except FileNotFoundError:
        return OptedOut()
    except pydantic.ValidationError:
        raise ValueError(f"{corpus.url}/{OPTED_OUT}: damaged; build with --recheck robots to make it again") from None


def keep_opted_out(corpus: Store, found: OptedOut) -> None:
    """Note what a recheck found."""
    corpus.write(OPTED_OUT, canonical_json(found))


def pending(corpus: Store) -> Purge | None:
    """The purge that is under way. Raises ValueError if it cannot be read."""
    return _read(corpus, PURGING) if corpus.size(PURGING) is not None else None


def begin(corpus: Store, purge: Purge) -> None:
    """Note a purge as under way."""
    corpus.write(PURGING, canonical_json(purge))


def end(corpus: Store, purge: Purge) -> None:
    """Note a purge as done. The same rows purged twice make one record each time."""
    key = f"{PURGED}/{digest(purge)[:16]}.json"
    corpus.put_if_absent(key, canonical_json(purge))
    corpus.delete(PURGING)


def _read(corpus: Store, key: str) -> Purge:
    try:
        return Purge.model_validate_json(corpus.read(key))
    except pydantic.ValidationError:
        raise ValueError(f"{corpus.url}/{key}: not the record of a purge; restore it") from None
