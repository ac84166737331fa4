"""A real S3 server while builds are killed, race each other, and meet a server that fails."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import latest_name, load_snapshot
from schemas.spec import Operations
from storage.places import open_store
from storage.store import plain_key
from tests.pipelines.test_build import grow, world
from tests.pipelines.world import contents, folder_source, image_folder, make_model, spec
from tests.storage.servers import faulty

ROOT = Path(__file__).resolve().parents[2]
At = Callable[[str], str]
pytestmark = pytest.mark.integration
KILLS, ROUNDS = 32, 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "janus")


def lasting(url: str) -> dict[str, set[str]]:
    """Name in the corpus to the digests of what lies under it; scratch files of killed builds left out."""
    store = open_store(url)
    found: dict[str, set[str]] = {}
    for entry in store.list():
        if not entry.key.startswith(".scratch"):
            found.setdefault(plain_key(entry.key), set()).add(hashlib.sha256(store.read(entry.key)).hexdigest())
    return found


@contextmanager
def watched(url: str) -> Iterator[list[str]]:
    """What LATEST named, in order, looked at all the time."""
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        last = False
        while not last:
            last = over.wait(0.05)  # and once more when all is over
            name = latest_name(url)
            if name is not None and name not in seen[-1:]:
                seen.append(name)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_kills(model: Path, tmp_path: Path, at: At, versity_endpoint: str) -> None:
    settings = spec(model, world(tmp_path / "sources"), shard_rows=4)
    build(settings, tmp_path / "c", Operations())
    expected = {path: {digest} for path, digest in contents(tmp_path / "c").items()}
    (tmp_path / "spec.json").write_text(settings.model_dump_json())
    url = at(versity_endpoint)
    command = [sys.executable, "-m", "tests.pipelines.torment", str(tmp_path / "spec.json"), url, str(KILLS), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] == KILLS
    for corpus in report["finished"]:
        assert lasting(corpus) == expected, "not one byte differs, and nothing half-written is left"
        assert verify(corpus).differences == ()


BUILDER = """
import sys
from pathlib import Path
from pipelines.build import build
from schemas.spec import CorpusSpec, Operations
spec = CorpusSpec.model_validate_json(Path(sys.argv[1]).read_text())
for line in sys.stdin:
    print(build(spec, sys.argv[2], Operations()).name, flush=True)
"""


def builder(settings: Path, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(settings), url]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_builders_race(model: Path, tmp_path: Path, at: At, versity_endpoint: str) -> None:
    """Each of two builders sees a folder that grows on its own; both publish into one corpus, round after round."""
    url = at(versity_endpoint)
    builders = []
    for name in ("one", "two"):
        image_folder(tmp_path / name / "photos", list(range(6)))
        settings = spec(model, [folder_source(tmp_path / name / "photos")])
        (tmp_path / f"{name}.json").write_text(settings.model_dump_json())
        builders.append(builder(tmp_path / f"{name}.json", url))
    published: set[str] = set()
    try:
        with watched(url) as seen:
            for number in range(ROUNDS):
                grow(tmp_path / "one/photos", [100 + number])
                grow(tmp_path / "two/photos", [100 + number if number % 3 else 500 + number])
                for process in builders:
                    assert process.stdin is not None
                    process.stdin.write("go\n")
                    process.stdin.flush()
                for process in builders:
                    assert process.stdout is not None
                    name = process.stdout.readline().strip()
                    assert name, "a builder ended"
                    published.add(name)
    finally:
        for process in builders:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    assert [int(name[:5]) for name in seen] == sorted({int(name[:5]) for name in seen}), "LATEST never goes back"
    latest = load_snapshot(url)
    assert latest.name == seen[-1]
    line = [latest]
    while line[-1].parent:
        line.append(load_snapshot(url, line[-1].parent))
    assert published <= {snapshot.name for snapshot in line}, "no update was lost"
    assert latest.rows() == 6 + ROUNDS + len([n for n in range(ROUNDS) if n % 3 == 0])
    assert verify(url).differences == ()


def test_a_server_that_fails(model: Path, tmp_path: Path, at: At, versity_endpoint: str) -> None:
    """One request in four goes wrong in some way, answers that are lost among them."""
    settings = spec(model, world(tmp_path / "sources"), shard_rows=4)
    build(settings, tmp_path / "c", Operations())
    choose = random.Random(0)
    kinds: list[Any] = [409, 429, 500, 503, "drop", "lost", "cut", 0.3]

    def fault(method: str, path: str, number: int) -> Any:
        return choose.choice(kinds) if choose.random() < 0.25 else None

    with faulty(versity_endpoint, fault) as endpoint:
        url = at(endpoint)
        build(settings, url, Operations())
        assert lasting(url) == {path: {digest} for path, digest in contents(tmp_path / "c").items()}
