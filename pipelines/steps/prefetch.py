"""An ordered, bounded parallel map: keeps decoding ahead of the device without holding a shard in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """Yield function(item) in the order of `items`, computing at most `ahead` items ahead in `threads` threads.

    With one thread everything runs in the caller's thread, one item at a time.
    """
    if threads == 1:
        yield from map(function, items)
        return
    iterator = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        pending: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(iterator, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(iterator, 1))
            yield result


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
