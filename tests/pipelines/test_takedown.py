"""Takedown: listed rows leave the next snapshot, and a purge leaves none of their bytes anywhere."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import takedown
from pipelines.build import build
from pipelines.ledger import load_manifest, open_input
from pipelines.removal.entries import Entries, kept_entries, parse_list, pending
from pipelines.verify import verify
from schemas.manifest import Snapshot, load_snapshot
from schemas.spec import CorpusSpec, Operations
from storage.places import as_store
from tests.pipelines.test_changes import captions, write
from tests.pipelines.test_download import Handler
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec

ROOT = Path(__file__).resolve().parents[2]
CAPTION = "The secret harbour of picture number {}. It has many colours."


@dataclass(frozen=True)
class World:
    """A corpus of two snapshots, and where it came from."""

    root: Path
    spec: CorpusSpec
    operations: Operations

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    def build(self) -> Snapshot:
        return build(self.spec, self.corpus, self.operations)

    def copy(self, root: Path) -> World:
        shutil.copytree(self.corpus, root / "corpus")
        return World(root, self.spec, self.operations)


@pytest.fixture(scope="module")
def world(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Pictures of a folder, of the web, and on pages; one picture is in all three. The second snapshot has a row more,
    a stricter filter and one row that lost its caption."""
    root = tmp_path_factory.mktemp("takedown")
    photos = image_folder(root / "photos", list(range(7)))
    write(photos, {f"{n}.jpg": CAPTION.format(n) for n in range(7)})
    image_folder(root / "http", ["shared", "web1", "web2"])
    shutil.copy(root / "http" / "shared.jpg", photos / "shared.jpg")
    write(photos, captions(photos) | {"shared.jpg": "A harbour that is everywhere."})
    shutil.copy(root / "http" / "shared.jpg", root / "page.jpg")
    picture("page").save(root / "page2.jpg", quality=90)
    pages = [
        ("Before <image> between <image> after.", ["page.jpg", "page2.jpg"]),
        ("Alone <image> here.", ["page2.jpg"]),
    ]
    (root / "pages.jsonl").write_text("\n".join(json.dumps({"text": text, "images": names}) for text, names in pages))
    rows = [
        {"url": f"http://pictures.test/{n}.jpg#x", "caption": f"From the web, {n}."} for n in ("shared", "web1", "web2")
    ]
    (root / "urls.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    sources = [
        folder_source(photos),
        {"name": "web", "format": "url_list", "path": str(root / "urls.jsonl"), "task": "generation"},
        {
            "name": "pages", "format": "interleaved", "path": str(root), "task": "understanding",
            "options": {"files": ["pages.jsonl"], "images": "."},
        },
    ]  # fmt: skip
    handler = functools.partial(Handler, directory=str(root / "http"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        resolve = {"pictures.test:80": f"127.0.0.1:{running.server_address[1]}"}
        operations = Operations(resolve=resolve, retries=0)
        settings = spec(model, sources, shard_rows=4, filters={"sharpness": {"min": 0}})
        World(root, settings, operations).build()
        picture(50).save(photos / "50.jpg", quality=90)
        write(photos, captions(photos) | {"50.jpg": CAPTION.format(50), "6.jpg": "Corrected words."})
        made = World(root, spec(model, sources, shard_rows=4, filters={"sharpness": {"min": 1}}), operations)
        made.build()
        yield made
        running.shutdown()


def rows_of(corpus: Path, snapshot: Snapshot | None = None) -> list[dict[str, Any]]:
    """Every row of a snapshot: its decision, messages and pictures."""
    found = []
    for entry in (snapshot or load_snapshot(corpus)).shards:
        raw = open_input(corpus, entry.upstream["raw"])[1].table().to_pylist()
        decision = open_input(corpus, entry.upstream["decision"])[1].table().to_pylist()
        found += [{"source": entry.source, **row, **fate} for row, fate in zip(raw, decision, strict=True)]
    return found


def taken_down(corpus: Path, snapshot: Snapshot | None = None) -> set[str]:
    return {row["messages"][0]["text"] for row in rows_of(corpus, snapshot) if row["reason"] == "taken_down"}


def row_with(corpus: Path, text: str) -> dict[str, Any]:
    (row,) = (row for row in rows_of(corpus) if row["messages"] and row["messages"][0]["text"] == text)
    return row


def run(corpus: Path, lines: list[str], *options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (corpus.parent / "list.txt").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["takedown", str(corpus), str(corpus.parent / "list.txt"), *options])
    assert takedown.main() == 0


def entry_of(world: World, kind: str) -> str:
    if kind == "address":
        return "HTTP://Pictures.test:80/web1.jpg  # asked for by mail"
    if kind == "host":
        return "pictures.test"
    if kind == "uid":
        return row_with(world.corpus, CAPTION.format(3))["uid"].hex()
    return hashlib.sha256((world.root / "photos" / "2.jpg").read_bytes()).hexdigest().upper()


EXPECTED = {
    "address": {"From the web, web1."},
    "host": {
        "From the web, shared.", "From the web, web1.", "From the web, web2.", "A harbour that is everywhere.",
        "Before <image> between <image> after.",
    },
    "uid": {CAPTION.format(3)},
    "sha256": {CAPTION.format(2)},
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
def test_listed_rows_and_the_same_pictures_elsewhere_leave_the_next_snapshot(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    copy = world.copy(tmp_path)
    before = load_snapshot(copy.corpus)
    run(copy.corpus, [entry_of(copy if kind != "sha256" else world, kind), ""], monkeypatch=monkeypatch)
    assert f"{len(EXPECTED[kind])} rows match" in capsys.readouterr().out
    after = copy.build()
    assert taken_down(copy.corpus) == EXPECTED[kind]
    assert load_snapshot(copy.corpus, before.name) == before
    assert sum(counts.get("taken_down", 0) for counts in after.funnel.values()) == len(EXPECTED[kind])
    assert copy.build() == after
    assert verify(copy.corpus).differences == ()


def test_what_is_listed_is_not_collected_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a snapshot, all that the list names is left out before it is downloaded."""
    (tmp_path / "corpus").mkdir()
    other = World(tmp_path, world.spec, world.operations)
    run(other.corpus, ["http://pictures.test/web1.jpg", entry_of(world, "sha256")], monkeypatch=monkeypatch)
    found = other.build()
    assert (found.skipped["web"], found.skipped["photos"]) == ({"taken_down": 1}, {"taken_down": 1})
    texts = {row["messages"][0]["text"] for row in rows_of(other.corpus)}
    assert len(texts) == 12
    assert not texts & (EXPECTED["address"] | EXPECTED["sha256"])


def everything(corpus: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of a corpus as it lies on the disk, and every value in its Arrow files."""
    for path in sorted(corpus.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
            if path.suffix == ".arrow":
                table = pa.ipc.open_file(path).read_all()
                yield path, repr(table.to_pylist()).encode()


def holds(corpus: Path, secrets: list[bytes]) -> list[tuple[str, bytes]]:
    return [
        (path.relative_to(corpus).as_posix(), secret[:40])
        for path, data in everything(corpus)
        for secret in secrets
        if secret in data or repr(secret)[2:-1].encode() in data
    ]


def secrets_of(corpus: Path, texts: set[str]) -> list[bytes]:
    """What must be gone of some rows: captions, pictures and pieces of these, pixels and tokens."""
    found: list[bytes] = []
    for row in rows_of(corpus):
        if row["messages"][0]["text"] in texts:
            found += [message["text"].encode() for message in row["messages"]]
            for image in row["images"][:1]:  # the second one of the page stays, on another page
                found += [image["bytes"], image["bytes"][-200:-140], image["bytes"][-60:]]
            found += [row["key"].encode()] if row["source"] == "photos" else []
    for entry in load_snapshot(corpus).shards:
        uids = {row["uid"] for row in rows_of(corpus) if row["messages"][0]["text"] in texts}
        for row in open_input(corpus, entry.path)[1].table().to_pylist():
            if row["uid"] in uids:
                found += (row["pixels"] or ())[:1]
                found.append(np.array(row["input_ids"], dtype="<i4").tobytes())
    return found


HARBOURS = [CAPTION.format(1), CAPTION.format(6), "A harbour that is everywhere."]
PURGED = {*HARBOURS, "Corrected words.", "From the web, shared.", "Before <image> between <image> after."}


def purge_list(world: World) -> list[str]:
    shared = hashlib.sha256((world.root / "http" / "shared.jpg").read_bytes()).hexdigest()
    uids = [row["uid"].hex() for row in rows_of(world.corpus) if row["messages"][0]["text"] in HARBOURS[:2]]
    return [*uids, shared]


def test_a_purge_leaves_no_byte_and_every_snapshot_whole(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, lines = world.copy(tmp_path), purge_list(world)
    secrets = secrets_of(copy.corpus, PURGED)
    assert len(holds(copy.corpus, secrets)) > len(secrets)
    old = [load_snapshot(copy.corpus, path.stem) for path in sorted((copy.corpus / "snapshots").glob("*.json"))]
    kept = [{row["messages"][0]["text"] for row in rows_of(copy.corpus, one) if kept_row(row)} for one in old]
    run(copy.corpus, lines, "--purge", monkeypatch=monkeypatch)
    assert "6 rows removed" in capsys.readouterr().out
    assert holds(copy.corpus, secrets) == []
    assert verify(copy.corpus).differences == ()
    (record,) = (json.loads(path.read_text()) for path in (copy.corpus / "takedown" / "purged").iterdir())
    assert len(record["uids"]) == 6
    assert set(record["snapshots"]) == {one.name for one in old}
    assert record["time"].startswith("20")
    for before, texts in zip(old, kept, strict=True):
        after = load_snapshot(copy.corpus, record["snapshots"][before.name])
        assert {row["messages"][0]["text"] for row in rows_of(copy.corpus, after) if kept_row(row)} == texts - PURGED
        assert after.rows() == len(texts - PURGED)
        assert after.parent == record["snapshots"].get(before.parent)
        for source, counts in after.funnel.items():
            assert counts["rows"] == before.funnel[source]["rows"] == sum(counts.values()) - counts["rows"]
    assert load_snapshot(copy.corpus).name == record["snapshots"][old[-1].name]
    files = contents(copy.corpus)
    run(copy.corpus, lines, "--purge", monkeypatch=monkeypatch)
    assert contents(copy.corpus) == files, "there is nothing left to remove"


def kept_row(row: dict[str, Any]) -> bool:
    return row["outcome"] == "ok" and row["reason"] is None


def test_a_refresh_after_a_purge_measures_and_collects_nothing_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path)
    secrets = secrets_of(copy.corpus, PURGED)
    run(copy.corpus, purge_list(world), "--purge", monkeypatch=monkeypatch)
    purged = load_snapshot(copy.corpus)
    picture_one = hashlib.sha256((world.root / "photos" / "1.jpg").read_bytes()).digest()
    assert picture_one in kept_entries(as_store(copy.corpus)).sha256, "nor can it come from elsewhere"
    made = {path for path in contents(copy.corpus) if path.startswith(("rows", "raw", "signals"))}
    after = copy.build()
    assert {path for path in contents(copy.corpus) if path.startswith(("rows", "raw", "signals"))} == made
    assert holds(copy.corpus, secrets) == []
    assert after.rows() == purged.rows()
    assert verify(copy.corpus).differences == ()
    assert copy.build() == after
    # Planned anew, with other settings, the source still does not bring them back.
    anew = World(tmp_path, copy.spec.model_copy(update={"shard_rows": 5}), copy.operations)
    found = anew.build()
    assert holds(copy.corpus, secrets) == []
    assert found.rows() == after.rows()
    assert sum(skipped["taken_down"] for skipped in found.skipped.values()) == 5


KILLS = [
    "takedown/purging.json",
    "rows/*",
    "raw/*",
    "signals/image/*",
    "decision/*.json",
    "train/*.arrow",
    "snapshots/*",
]
KILLS += ["LATEST", "delete 1", "delete 3", "delete 12", "takedown/purged/*", "delete -1"]
DEADLY = """
import fnmatch, os, signal, sys
from pathlib import Path
from storage.local import LocalStore
from pipelines import takedown
corpus, pattern = Path(sys.argv[1]), sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace, link, delete, deleted = os.replace, os.link, LocalStore.delete, [0]
def deadly(do):
    def instead(source, target, **options):
        if fnmatch.fnmatch(Path(target).relative_to(corpus).as_posix(), pattern): die()
        do(source, target, **options)
    return instead
def counting(store, key):
    deleted[0] += 1
    if pattern == f"delete {deleted[0]}" or (pattern == "delete -1" and key == "takedown/purging.json"): die()
    delete(store, key)
os.replace, os.link, LocalStore.delete = deadly(replace), deadly(link), counting
sys.argv = ["takedown", sys.argv[1], sys.argv[2], "--purge"]
takedown.main()
"""


def purge_until(copy: World, lines: list[str], pattern: str) -> None:
    (copy.root / "list.txt").write_text("\n".join(lines))
    command = [sys.executable, "-c", DEADLY, str(copy.corpus), str(copy.root / "list.txt"), pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, (pattern, done.stderr)


def comparable(corpus: Path) -> dict[str, str]:
    """Digests of all files but the record, which has the time in it."""
    return {path: value for path, value in contents(corpus).items() if not path.startswith("takedown/purged")}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", KILLS)
def test_a_killed_purge_is_ended_by_the_next_call(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    copy, lines, undisturbed = world.copy(tmp_path / "a"), purge_list(world), world.copy(tmp_path / "b")
    secrets = secrets_of(copy.corpus, PURGED)
    purge_until(copy, lines, pattern)
    if pending(as_store(copy.corpus)):
        assert any("a purge was interrupted" in line for line in verify(copy.corpus).differences)
        with pytest.raises(ValueError, match="a purge was interrupted"):
            copy.build()
    run(copy.corpus, lines, "--purge", monkeypatch=monkeypatch)
    run(undisturbed.corpus, lines, "--purge", monkeypatch=monkeypatch)
    assert comparable(copy.corpus) == comparable(undisturbed.corpus)
    assert holds(copy.corpus, secrets) == []
    assert verify(copy.corpus).differences == ()
    (record,) = (json.loads(path.read_text()) for path in (copy.corpus / "takedown" / "purged").iterdir())
    assert len(record["uids"]) == 6


def test_shards_that_no_snapshot_needs_are_searched_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path)
    for name in ("LATEST", "snapshots"):
        path = copy.corpus / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    secrets = secrets_of(world.corpus, PURGED)
    (raw,) = [path for path in (copy.corpus / "raw" / "photos").glob("*.arrow")][:1]
    raw.with_suffix(".json").unlink()  # killed before its manifest
    run(copy.corpus, purge_list(world), "--purge", monkeypatch=monkeypatch)
    assert holds(copy.corpus, secrets) == []


def test_damage_stops_a_purge_before_anything_is_removed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path)
    shared = hashlib.sha256((world.root / "http" / "shared.jpg").read_bytes()).digest()
    entry = next(
        entry
        for entry in load_snapshot(copy.corpus).shards
        if any(
            row["sha256"] == shared
            for row in open_input(copy.corpus, entry.upstream["signals/image"])[1].table().to_pylist()
        )
    )
    path = copy.corpus / entry.upstream["signals/phash"]
    path.write_bytes(path.read_bytes()[:-1])
    before = contents(copy.corpus)
    with pytest.raises(ValueError, match="truncated"):
        run(copy.corpus, [shared.hex()], "--purge", monkeypatch=monkeypatch)
    after = contents(copy.corpus)
    assert before.items() <= after.items()
    assert all(path.startswith("takedown/lists/") for path in after.keys() - before.keys())


@pytest.mark.parametrize(
    "line", ["deadbeef", "ftp://example.org/x.jpg", "a b", "../x", "-host.org/..", "f" * 63, "http://", "\x1b[31m"]
)
def test_a_line_that_is_no_entry_is_told(line: str) -> None:
    with pytest.raises(ValueError, match=r"list: line 2: .* is neither an address") as caught:
        parse_list(["example.org", line], "list")
    assert "\x1b" not in str(caught.value)


def test_a_list_is_read_and_written() -> None:
    uid, sha256 = "0f" * 16, "ab" * 32
    lines = [
        "\ufeff# a comment",
        "",
        f"  {uid.upper()} # why",
        sha256,
        "Example.ORG",
        "https://Example.org:443/a#b",
        "localhost",
    ]
    found = parse_list(lines, "list")
    assert found == Entries(
        frozenset({"https://example.org/a"}), frozenset({"example.org", "localhost"}),
        frozenset({bytes.fromhex(sha256)}), frozenset({bytes.fromhex(uid)}),
    )  # fmt: skip
    assert parse_list(found.lines(), "list") == found
    assert found.naming("https://example.org/b") == {"example.org"}
    assert found.naming("https://www.example.org/a") == set()


def test_lists_of_a_corpus_add_up_and_a_damaged_one_stops_a_build(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path)
    for line in ("example.org", "example.net", "example.org"):
        run(copy.corpus, [line], monkeypatch=monkeypatch)
    lists = list((copy.corpus / "takedown" / "lists").iterdir())
    assert len(lists) == 2
    assert kept_entries(as_store(copy.corpus)).hosts == {"example.org", "example.net"}
    lists[0].write_text("example.org\nexam")
    with pytest.raises(ValueError, match="line 2: 'exam' is neither"):
        copy.build()


def test_filters_that_compare_rows_leave_out_what_is_taken_down(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a row was purged makes no difference to the share of the others."""
    photos = image_folder(tmp_path / "photos", list(range(10)))
    settings = spec(model, [folder_source(photos)], filters={"rank": {"by": "sharpness.variance", "keep": 0.5}})
    made = World(tmp_path, settings, Operations())
    made.build()
    ranked = [row for row in rows_of(made.corpus) if kept_row(row)]
    lines = [row["uid"].hex() for row in ranked[:2]]
    run(made.corpus, lines, monkeypatch=monkeypatch)
    soft = made.build()
    assert soft.funnel["photos"] == {"rows": 10, "kept": 4, "score_rank": 4, "taken_down": 2}
    run(made.corpus, lines, "--purge", monkeypatch=monkeypatch)
    assert made.build().funnel == soft.funnel
    assert {load_manifest(made.corpus, entry.path).counts["kept"] for entry in load_snapshot(made.corpus).shards}


def test_mistakes_are_one_line(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for arguments, says in (
        (["nowhere", "list.txt"], "no such corpus folder"),
        ([str(world.corpus), "list.txt"], "list.txt: no such list"),
        ([str(world.corpus), str(tmp_path / "empty.txt")], "holds no entry"),
        ([str(world.corpus)], "no LIST given"),
        ([str(world.corpus), "--purge"], "no LIST given"),
    ):
        monkeypatch.setattr(sys, "argv", ["takedown", *arguments])
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            takedown.main()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sites_are_asked_again_and_what_they_reserve_leaves(world: World, tmp_path: Path, workers: int) -> None:
    copy, robots = world.copy(tmp_path), world.root / "http" / "robots.txt"
    before = load_snapshot(copy.corpus)
    ask = World(tmp_path, copy.spec, copy.operations.model_copy(update={"recheck": "robots", "workers": workers}))
    try:
        assert ask.build().rows() == before.rows()
        robots.write_text("User-agent: janus-forge\nDisallow: /web1\n")
        found = ask.build()
        assert found.funnel["web"] == {"rows": 3, "kept": 1, "duplicate_exact": 1, "opted_out": 1}
        assert {row["messages"][0]["text"] for row in rows_of(copy.corpus) if row["reason"] == "opted_out"} == {
            "From the web, web1."
        }
        assert copy.build() == found, "a build that does not ask keeps what was said"
        robots.unlink()
        assert copy.build() == found
        robots.mkdir()  # the server answers with a redirect to a page: no rules are there
        assert ask.build().funnel["web"]["kept"] == 2
        robots.rmdir()
        robots.write_bytes("User-agent: *".encode("utf-16"))  # cannot be read: a no
        assert ask.build().funnel["web"]["opted_out"] == 3
        dead = {"pictures.test:80": "127.0.0.1:9"}
        gone = World(tmp_path, copy.spec, ask.operations.model_copy(update={"resolve": dead}))
        last = load_snapshot(copy.corpus)
        assert gone.build() == last, "a site that does not answer keeps what it said"
        assert verify(copy.corpus).differences == ()
    finally:
        robots.unlink(missing_ok=True)
    deaf = copy.spec.model_copy(update={"limits": copy.spec.limits.model_copy(update={"respect_opt_out": False})})
    with pytest.raises(ValueError, match="respect_opt_out = false"):
        World(tmp_path, deaf, ask.operations).build()
