"""Who goes next."""

from __future__ import annotations

import time

from pipelines.fetch.hosts import HostQueue


def drain(queue: HostQueue[str]) -> list[str]:
    found = []
    while (next_up := queue.take()) is not None:
        found.append(next_up[1])
    return found


def test_places_per_host() -> None:
    queue: HostQueue[str] = HostQueue(2)
    for name in ("a1", "a2", "a3", "a4", "b1"):
        queue.add(name[0], name)
    assert drain(queue) == ["a1", "a2", "b1"]  # b does not wait for a
    assert queue.until_next() is None
    queue.release("a")
    assert drain(queue) == ["a3"]
    queue.release("a")
    queue.release("a")
    assert drain(queue) == ["a4"]


def test_waiting_jobs_and_paused_hosts() -> None:
    queue: HostQueue[str] = HostQueue(1)
    queue.add("a", "later", wait=0.1)
    queue.pause("b", 0.2)
    queue.add("b", "paused")
    assert drain(queue) == []
    assert 0 < (queue.until_next() or 0) <= 0.1
    time.sleep(0.11)
    assert drain(queue) == ["later"]
    assert drain(queue) == []
    time.sleep(0.1)
    assert drain(queue) == ["paused"]
