"""Keeping what Beam says about itself off the terminal: none of it is about the corpus."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


class _NoApitools(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "apitools not found" not in record.getMessage()


def quiet_beam() -> None:
    """Call before the first import of apache_beam: that is when it complains about missing Google packages."""
    root = logging.getLogger()
    if not any(isinstance(known, _NoApitools) for known in root.filters):
        root.addFilter(_NoApitools())
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


@contextlib.contextmanager
def broken_connections_untold() -> Iterator[None]:
    """Drop the tracebacks of the threads that were connected to a worker process that is gone: WorkerLost tells it."""
    import grpc

    names = ("apache_beam.runners.worker.data_plane", "apache_beam.runners.portability.fn_api_runner.worker_handlers")
    loggers = [logging.getLogger(name) for name in names]
    tell = threading.excepthook

    def tell_others(raised: threading.ExceptHookArgs) -> None:
        if not issubclass(raised.exc_type, grpc.RpcError):
            tell(raised)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    threading.excepthook = tell_others
    try:
        yield
    finally:
        threading.excepthook = tell
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
