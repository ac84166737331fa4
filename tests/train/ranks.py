"""Several processes for one test, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

# One clean process imports torch and transformers once and is forked for every rank.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.train.little", "tests.train.steps"])
TIMEOUT_S = 300


def start_ranks(
    size: int, function: Callable[..., Any], *args: Any, local_size: int | None = None
) -> list[tuple[Any, Connection]]:
    """Start `function(*args)` in `size` processes, as on nodes of `local_size`; process and result pipe of each."""
    local_size = local_size or size
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(size):
        receiver, sender = CONTEXT.Pipe(duplex=False)
        environment = {"RANK": rank, "LOCAL_RANK": rank % local_size, "WORLD_SIZE": size}
        environment |= {"LOCAL_WORLD_SIZE": local_size}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = CONTEXT.Process(target=_call, args=(sender, environment, function, args))
        process.start()
        sender.close()
        started.append((process, receiver))
    return started


def run_ranks(size: int, function: Callable[..., Any], *args: Any, local_size: int | None = None) -> list[Any]:
    """Results of `function(*args)` in `size` processes. Fails with the first traceback if one fails."""
    started = start_ranks(size, function, *args, local_size=local_size)
    results, failures = [], []
    for process, receiver in started:
        try:
            assert receiver.poll(TIMEOUT_S), "a rank hangs"
            ok, value = pickle.loads(receiver.recv_bytes())  # noqa: S301 (our own test processes)
            (results if ok else failures).append(value)
        except EOFError:
            failures.append("a rank died")
        if failures:
            for other, _ in started:
                other.kill()
        process.join()
    assert not failures, failures[0]
    return results


def _call(sender: Connection, environment: dict[str, Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    try:
        answer = (True, function(*args))
    except BaseException:
        answer = (False, traceback.format_exc())
    # Not send(): it would pass tensors as handles to memory of a process that ends now.
    sender.send_bytes(pickle.dumps(answer))
