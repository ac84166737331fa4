"""img2dataset as a download engine: a guarded child process whose results are checked again.

What it cannot do (see docs/download.md for the list) is done around it where that is possible: addresses and site
policies are checked before, headers and redirects inside its processes (pipelines/fetch/img2dataset_guard.py), bytes
and pictures after. It hangs on a server that sends a byte now and then and on a dead worker, so a watchdog kills the
whole process group when no shard has been finished for too long.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from janus.images import ImageProblem
from pipelines.fetch.address import Resolver, Target, parse
from pipelines.fetch.breaker import Breaker
from pipelines.fetch.img2dataset_guard import RULES, read_refusal
from pipelines.fetch.notes import Notes
from pipelines.fetch.optout import product
from pipelines.fetch.picture import check_picture
from pipelines.fetch.policies import Policies
from pipelines.fetch.result import (
    FIRST_WAIT_S,
    LONGEST_RETRY_AFTER_S,
    OVER_BUDGET,
    Fetched,
    FetchProblem,
    outcome_of_status,
)
from pipelines.fetch.transport import Transport
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations

IDLE_S = 60.0
WORK_S = 2.0
"""Hung is who uses less than WORK_S of processor time in IDLE_S and a deadline. Starting takes more: each of its
processes imports torch, wandb and albumentations, and workers are replaced every five shards."""
SHARD_S = 900.0
"""Hung is also who finishes no shard for so long, however busy (an endless body)."""
MEMORY = 4 << 30
"""Bytes that each of its processes may use, besides the images: it reads bodies whole, however large."""

_log = logging.getLogger(__name__)


class Img2datasetFetcher:
    """The download engine img2dataset. One `fetch_many` at a time; each takes seconds to start."""

    def __init__(self, limits: Limits, operations: Operations, notes: Path | None = None) -> None:
        """`notes` is the folder that the workers of a build share; see pipelines/fetch/notes.py."""
        self._limits = limits
        self._operations = operations
        self._notes = notes
        self._end = 0.0
        self._resolver = Resolver(operations.resolve)
        self._transport = Transport(self._resolver, limits.user_agent, keep=operations.connections)
        self._breaker = Breaker(operations.host_failures, Notes(notes))
        self._policies = Policies(self._transport, limits, Notes(notes), self._breaker)
        self._pool = ThreadPoolExecutor(max_workers=operations.connections, thread_name_prefix="check")

    def fetch_many(self, urls: Sequence[str]) -> Iterator[Fetched]:
        """Fetch all, answers in the order of `urls`. The bodies wait for the caller on disk, in TMPDIR."""
        with tempfile.TemporaryDirectory(prefix="img2dataset-bodies-") as folder:
            results = self._fetch(urls, Path(folder))
            for index in range(len(urls)):
                body = Path(folder, str(index))
                data = None
                if results[index].outcome == Outcome.OK:
                    data = body.read_bytes()
                    body.unlink()
                yield replace(results[index], data=data)

    def _fetch(self, urls: Sequence[str], bodies: Path) -> dict[int, Fetched]:
        """All attempts: the answers by index, with their bodies not in `data` but in a file of that name."""
        results: dict[int, Fetched] = {}
        left = list(range(len(urls)))
        wait = 0.0
        self._end = time.monotonic() + self._operations.shard_seconds
        for attempt in range(self._operations.retries + 1):
            time.sleep(wait)
            wait = FIRST_WAIT_S * 2 ** (attempt + 1)
            admitted: dict[int, str] = {}
            for index, answer in zip(left, self._pool.map(self._admit, [urls[index] for index in left]), strict=True):
                if isinstance(answer, Target):
                    admitted[index] = answer.url
                else:
                    results[index] = _problem(urls[index], answer)
                    if (asked := answer.retry_after or 0.0) <= LONGEST_RETRY_AFTER_S:
                        wait = max(wait, asked)
            for index, result in self._download(admitted):
                results[index] = replace(result, url=urls[index], data=None)
                if result.data is not None:
                    (bodies / str(index)).write_bytes(result.data)
            left = [index for index in left if _may_come(results[index].outcome)]
            if not left or time.monotonic() > self._end:
                break
        return results

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._transport.close()
        self._resolver.close()

    def _admit(self, url: str) -> Target | FetchProblem:
        """Check what can be checked before img2dataset sees the address."""
        if time.monotonic() > self._end:
            return FetchProblem(Outcome.TIMEOUT, detail=OVER_BUDGET)
        try:
            target = parse(url)
            self._breaker.check(target.host)
            self._resolver.places(target, self._limits.deadline_s)
            if self._limits.respect_opt_out:
                self._policies.check(target)
        except FetchProblem as problem:
            return problem
        return target

    def _download(self, urls: dict[int, str]) -> Iterator[tuple[int, Fetched]]:
        """One attempt at all `urls`. After a hang, the shard that hung is given up and the rest is started again."""
        rows = list(urls.items())
        size = self._operations.connections  # a shard is one wave of downloads: that much a hang can cost
        while rows:
            if time.monotonic() > self._end:
                yield from ((index, Fetched(url, Outcome.TIMEOUT, detail=OVER_BUDGET)) for index, url in rows)
                return
            with tempfile.TemporaryDirectory(prefix="img2dataset-") as folder:
                output = Path(folder) / "output"
                output.mkdir()
                hung = self._run(rows, size, Path(folder), output)
                shards = [rows[start : start + size] for start in range(0, len(rows), size)]
                finished = [(output / f"{number:05d}_stats.json").is_file() for number in range(len(shards))]
                for number, shard in enumerate(shards):
                    if finished[number]:
                        path = output / f"{number:05d}.parquet"
                        yield from self._results(path, shard)
                        path.unlink()
            unfinished = [shard for shard, done in zip(shards, finished, strict=True) if not done]
            over = time.monotonic() > self._end
            given_up = [] if over else unfinished[:1] if hung else unfinished
            for shard in given_up:
                yield from ((index, Fetched(url, Outcome.ENGINE_ERROR)) for index, url in shard)
            rows = [row for shard in unfinished[len(given_up) :] for row in shard]

    def _run(self, rows: list[tuple[int, str]], size: int, folder: Path, output: Path) -> bool:
        """Run img2dataset over `rows`. Returns whether it had to be killed."""
        table = pa.table({"number": [index for index, _ in rows], "url": [url for _, url in rows]})
        pq.write_table(table, folder / "urls.parquet")
        job = {
            "url_list": str(folder / "urls.parquet"),
            "input_format": "parquet",
            "save_additional_columns": ["number"],
            "output_folder": str(output),
            "output_format": "parquet",
            "disable_all_reencoding": True,  # the original bytes; everything else loses orientation or depth
            "extract_exif": False,
            "compute_hash": "sha256",
            "processes_count": 1,
            "thread_count": self._operations.connections,
            "number_sample_per_shard": size,
            "timeout": self._limits.deadline_s,
            "retries": 0,  # its own would try 404 again, and at once
            "max_shard_retry": 0,
            "user_agent_token": product(self._limits.user_agent),
            "disallowed_header_directives": [],  # the guard reads them, in all their forms
        }
        (folder / "job.json").write_text(json.dumps(job))
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipelines.fetch.img2dataset_child", str(folder / "job.json")],
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                hung = self._watch(child, output, -(-len(rows) // size))
            finally:
                # Always: its logger and workers outlive it when something went wrong.
                ended = child.poll()
                _kill_group(child)
        if hung or ended not in (None, 0):
            end = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
            _log.warning(
                "img2dataset %s: %s", "hung or took too long and was killed" if hung else "failed", " ".join(end)
            )
        return hung

    def _environment(self) -> dict[str, str]:
        # A proxy would resolve names itself, past our check.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {
            **environment,
            RULES: json.dumps(
                {
                    "limits": self._limits.model_dump(mode="json"),
                    "operations": self._operations.model_dump(mode="json"),
                    "notes": str(self._notes.resolve()) if self._notes else None,
                    "memory": self._memory(),
                    "build": os.getpid(),
                }
            ),
            "NO_ALBUMENTATIONS_UPDATE": "1",
            "WANDB_MODE": "disabled",
        }

    def _memory(self) -> int:
        # It holds up to two images per thread.
        return MEMORY + 2 * self._operations.connections * self._limits.max_bytes

    def _watch(self, child: subprocess.Popen[bytes], output: Path, shards: int) -> bool:
        """Wait for the shards or the end of the child. True if it made no progress for too long, or time is up."""
        finished, worked = 0, 0.0
        last_shard = last_work = time.monotonic()
        while child.poll() is None:
            now = time.monotonic()
            found, used = len(list(output.glob("*_stats.json"))), _processor_seconds(child.pid)
            if found == shards:  # its logger would take seconds more
                return False
            if found > finished:
                finished, last_shard = found, now
            if used > worked + WORK_S:
                worked, last_work = used, now
            idle = now - max(last_shard, last_work)
            if idle > IDLE_S + self._limits.deadline_s or now - last_shard > SHARD_S or now > self._end:
                return True
            time.sleep(0.2)
        return False

    def _results(self, path: Path, shard: list[tuple[int, str]]) -> Iterator[tuple[int, Fetched]]:
        """The rows of one finished shard, each exactly once: what img2dataset lost on the way is an engine error."""
        lost = dict(shard)
        for row in _rows(path, ["number", "status", "error_message", "sha256", "jpg"]):
            index = row["number"]
            if (url := lost.pop(index, None)) is None:
                continue
            if row["status"] == "success":
                yield index, self._checked(url, row["jpg"], row["sha256"])
            else:
                yield index, _problem(url, classify(row["error_message"] or ""))
        yield from ((index, Fetched(url, Outcome.ENGINE_ERROR)) for index, url in sorted(lost.items()))

    def _checked(self, url: str, data: bytes | None, sha256: str | None) -> Fetched:
        """Judge what img2dataset calls a success, which it does unseen."""
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            return Fetched(url, Outcome.ENGINE_ERROR)
        if len(data) > self._limits.max_bytes:
            return Fetched(url, Outcome.TOO_LARGE)
        try:
            what = check_picture(data, self._limits)
        except ImageProblem as problem:
            return Fetched(url, problem.outcome)
        return Fetched(url, Outcome.OK, data) if what is None else Fetched(url, Outcome.OPTED_OUT, detail=what)


def _problem(url: str, problem: FetchProblem) -> Fetched:
    return Fetched(url, problem.outcome, http_status=problem.status, detail=problem.detail)


def _may_come(outcome: Outcome) -> bool:
    """Whether another attempt in this run makes sense."""
    return outcome.transient and outcome != Outcome.HOST_DOWN


_RULES: tuple[tuple[str, Outcome], ...] = (
    (r"redirection to url .* is not allowed", Outcome.BAD_URL),
    (r"redirect error that would lead to an infinite loop", Outcome.REDIRECT_LOOP),
    (r"unknown url type|no host given|nonnumeric port|invalid url|control characters", Outcome.BAD_URL),
    (r"incompleteread", Outcome.TRUNCATED),
    (r"timed out|timeout", Outcome.TIMEOUT),
    (r"urlopen error|connection|remote end closed|badstatusline|got more than|ssl|errno", Outcome.CONNECTION),
)


def classify(message: str) -> FetchProblem:
    """What one of img2dataset's error messages means, which are the text of some exception."""
    if (ours := read_refusal(message)) is not None:
        return ours
    status = re.match(r"HTTP Error (\d{3})", message)
    number = int(status.group(1)) if status else None
    for pattern, outcome in _RULES:
        if re.search(pattern, message, re.IGNORECASE):
            return FetchProblem(outcome, status=number)
    return FetchProblem(outcome_of_status(number) if number else Outcome.ENGINE_ERROR, status=number)


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, with one at a time in memory: it holds whatever the servers sent."""
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(batch_size=1, columns=columns):
            yield from batch.to_pylist()


def _processor_seconds(group: int) -> float:
    """Processor time that the processes of a group have used, as far as they live (Linux).

    Elsewhere the clock, so that the group always seems to work and only SHARD_S holds.
    """
    if not Path("/proc/self/stat").is_file():
        return time.monotonic()
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()  # from the third field on: state, ppid, pgrp ...
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
