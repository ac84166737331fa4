"""Downloading from places nobody vouches for (design D12): two engines, one contract. See docs/download.md."""

from __future__ import annotations

from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.img2dataset_engine import Img2datasetFetcher
from pipelines.fetch.result import Fetched, Fetcher
from schemas.spec import Limits, Operations

__all__ = ["Fetched", "Fetcher", "make_fetcher"]


def make_fetcher(limits: Limits, operations: Operations) -> Fetcher:
    """The engine that `operations.download_engine` names."""
    if operations.download_engine == "img2dataset":
        return Img2datasetFetcher(limits, operations)
    return BuiltinFetcher(limits, operations)
