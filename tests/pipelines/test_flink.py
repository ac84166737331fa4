"""The same corpus on a real Flink: Beam's job server with a Flink inside (scripts/install-flink.sh), two workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.test_build import grow, world
from tests.pipelines.world import contents, folder_source, spec
from tests.storage.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.integration


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(log.read_text())


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, which ends with it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            wait_for_port(process, port, log)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@pytest.fixture(scope="module")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of the job server."""
    home = Path(os.environ.get("FLINK_HOME") or Path.home() / ".cache/janus-forge-flink")
    if not (home / "lib").is_dir():
        pytest.skip("no Flink job server; install it with scripts/install-flink.sh")
    port = next(p for p in (free_port() for _ in range(100)) if p > 2048)
    log = tmp_path_factory.mktemp("flink") / "server.log"
    with running([str(ROOT / "scripts/flink.sh"), str(port)], port, log):
        yield port


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CorpusSpec, dict[str, str]]:
    """A spec with five kinds of source, and what the local engine makes of it."""
    folder = tmp_path_factory.mktemp("expected")
    settings = spec(model, kinds(folder / "sources"), shard_rows=4)
    build(settings, folder / "local", Operations())
    return settings, contents(folder / "local")


def kinds(root: Path) -> list[dict[str, object]]:
    """Image folders, plain text, ImageNet folders, tars and Parquet."""
    import io
    import tarfile

    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.pipelines.world import picture

    def jpeg(seed: object) -> bytes:
        file = io.BytesIO()
        picture(seed).save(file, "JPEG", quality=90)
        return file.getvalue()

    sources = world(root)
    (root / "tars").mkdir()
    with tarfile.open(root / "tars/0.tar", "w") as tar:
        for number in range(9):
            for name, data in ((f"{number}.jpg", jpeg(("tar", number))), (f"{number}.txt", b"A caption of a tar.")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    rows = {
        "image": [jpeg(("parquet", n)) for n in range(9)],
        "caption": [f"Picture {n} of a table." for n in range(9)],
    }
    (root / "parquet").mkdir()
    pq.write_table(pa.table(rows), root / "parquet/0.parquet")
    return [
        *sources,
        {"name": "tars", "format": "webdataset", "path": str(root / "tars"), "task": "generation"},
        {
            "name": "table",
            "format": "parquet_images",
            "path": str(root / "parquet"),
            "task": "understanding",
            "options": {"image": "image", "caption": "caption"},
        },
    ]


def on_flink(port: int, *more: str) -> Operations:
    options = (f"--job_endpoint=127.0.0.1:{port}", "--parallelism=2", *more)
    return Operations(engine="flink", engine_options=options)


def test_flink_builds_the_same_bytes(
    job_server: int, expected: tuple[CorpusSpec, dict[str, str]], tmp_path: Path
) -> None:
    settings, local = expected
    assert len({source.format for source in settings.sources}) >= 4
    build(settings, tmp_path / "flink", on_flink(job_server, "--environment_type=LOOPBACK"))
    assert contents(tmp_path / "flink") == local


def children(pid: int) -> list[int]:
    """Processes that `pid` started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_worker_killed_in_the_middle(
    job_server: int, expected: tuple[CorpusSpec, dict[str, str]], tmp_path: Path
) -> None:
    """The same bytes, or a clean failure and the same bytes at the next try."""
    settings, local = expected
    corpus, port = tmp_path / "flink", free_port()
    pool = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with running(pool, port, tmp_path / "pool.log") as process:
        operations = on_flink(job_server, "--environment_type=EXTERNAL", f"--environment_config=127.0.0.1:{port}")
        killed: list[int] = []

        def kill_one() -> None:
            while not killed:
                begun = len(list(corpus.glob("raw/*/*.json")))
                for pid in children(process.pid) if begun >= 1 else []:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break
                time.sleep(0.01)

        thread = threading.Thread(target=kill_one, daemon=True)
        thread.start()
        failed = ""
        try:
            build(settings, corpus, operations)
        except Exception as error:
            failed = str(error)
        thread.join(1)
        assert killed, "a worker was killed"
        if failed:
            assert not (corpus / "LATEST").exists(), "nothing was published"
            assert verify(corpus).differences == (), "and nothing half-written is believed"
            build(settings, corpus, operations)
    assert contents(corpus) == local


def test_a_refresh_on_flink(job_server: int, model: Path, tmp_path: Path) -> None:
    from tests.pipelines.world import image_folder

    photos = image_folder(tmp_path / "photos", list(range(12)))
    settings = spec(model, [folder_source(photos)])
    flink = on_flink(job_server, "--environment_type=LOOPBACK")
    for corpus, operations in (("local", Operations()), ("flink", flink)):
        build(settings, tmp_path / corpus, operations)
    grow(photos, [100, 101])
    for corpus, operations in (("local", Operations()), ("flink", flink)):
        build(settings, tmp_path / corpus, operations)
    assert contents(tmp_path / "flink") == contents(tmp_path / "local")
