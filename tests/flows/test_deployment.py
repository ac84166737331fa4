"""What the README promises, literally: a server, a worker, and `prefect deployment run build-stage2-corpus`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.crashed_runs import RUNS
from schemas.manifest import load_snapshot

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def prefect(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run([PREFECT, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def running(*arguments: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as output:
        process = subprocess.Popen([PREFECT, *arguments], cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server on a free port with our deployments; yields the environment to use them in."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    server = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
    with running(*server, env=env, log=tmp_path / "server.log"):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            time.sleep(0.5)
        prefect("work-pool", "create", "local", "--type", "process", env=env)
        prefect("--no-prompt", "deploy", "--all", env=env)
        yield env


def worker(environment: dict[str, str], tmp_path: Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return running("worker", "start", "--pool", "local", env=environment, log=tmp_path / "worker.log")


def options(*specific: str, photos: Path, tiny_janus: Path, tmp_path: Path) -> list[str]:
    variables = json.dumps({"photos": str(photos), "janus": str(tiny_janus)})
    parameters = [*specific, f"out={tmp_path / 'corpora'}", f"variables={variables}", "serve={}"]
    return [word for one in parameters for word in ("--param", one)]


def test_the_bare_name_runs_the_deployment(
    environment: dict[str, str], spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path
) -> None:
    words = options(f"spec={spec}", photos=photos, tiny_janus=tiny_janus, tmp_path=tmp_path)
    with worker(environment, tmp_path):
        prefect("deployment", "run", "build-stage2-corpus", "--watch", *words, env=environment)
    assert load_snapshot(tmp_path / "corpora" / "photos").rows() == 10

    listed = json.loads(prefect("deployment", "ls", "--output", "json", env=environment))
    assert sorted(one["name"] for one in listed) == [
        "build-stage1-corpus",
        "build-stage2-corpus",
        "build-stage3-corpus",
        "refresh-corpora",
    ]
    assert "0 3 * * *" in prefect("deployment", "inspect", "refresh-corpora", env=environment)


def test_a_refresh_killed_with_its_worker_does_not_hold_up_the_next(
    environment: dict[str, str], spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path
) -> None:
    """A build by hand marks it as Crashed, which frees its place; without one Prefect does after five minutes."""
    common = {"photos": photos, "tiny_janus": tiny_janus, "tmp_path": tmp_path}
    refresh = ("deployment", "run", "refresh-corpora", *options(f"specs={json.dumps([str(spec)])}", **common))
    with worker(environment, tmp_path) as first:
        prefect(*refresh, env=environment)
        deadline = time.monotonic() + 300
        while len(list((tmp_path / "corpora" / RUNS).glob("[!.]*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)  # the refresh and its first build
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        for pid in [first.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
    assert states(environment) == ["Running", "Running"]
    with worker(environment, tmp_path):
        build = ("deployment", "run", "build-stage2-corpus", "--watch", *options(f"spec={spec}", **common))
        prefect(*build, env=environment)
        assert states(environment) == ["Completed", "Crashed", "Crashed"]
        prefect(*refresh, "--watch", env=environment)
    assert states(environment) == ["Completed", "Completed", "Completed", "Crashed", "Crashed"]


def states(environment: dict[str, str]) -> list[str]:
    listed = json.loads(prefect("flow-run", "ls", "--output", "json", env=environment))
    return sorted(run["state"]["name"] for run in listed)
