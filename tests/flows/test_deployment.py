"""What the README promises, literally: a server, a worker, and `prefect deployment run build-stage2-corpus`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.manifest import load_snapshot

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def prefect(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run([PREFECT, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def running(*arguments: str, env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen([PREFECT, *arguments], cwd=ROOT, env=env, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server on a free port and a worker, with our deployments; yields the environment to use them in."""
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
        with running("worker", "start", "--pool", "local", env=env, log=tmp_path / "worker.log"):
            yield env


def test_the_bare_name_runs_the_deployment(
    environment: dict[str, str], spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path
) -> None:
    variables = json.dumps({"photos": str(photos), "janus": str(tiny_janus)})
    parameters = [f"spec={spec}", f"out={tmp_path / 'corpora'}", f"variables={variables}", "serve={}"]
    options = [word for one in parameters for word in ("--param", one)]
    prefect("deployment", "run", "build-stage2-corpus", "--watch", *options, env=environment)
    assert load_snapshot(tmp_path / "corpora" / "photos").rows() == 10

    listed = json.loads(prefect("deployment", "ls", "--output", "json", env=environment))
    assert sorted(one["name"] for one in listed) == [
        "build-stage1-corpus",
        "build-stage2-corpus",
        "build-stage3-corpus",
        "refresh-corpora",
    ]
    assert "0 3 * * *" in prefect("deployment", "inspect", "refresh-corpora", env=environment)
