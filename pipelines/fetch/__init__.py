"""Downloading from untrusted hosts (design D12): two engines, one contract. See docs/download.md."""

from __future__ import annotations

from pathlib import Path

from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.img2dataset_engine import Img2datasetFetcher
from pipelines.fetch.picture import check_picture
from pipelines.fetch.result import Fetched, Fetcher
from schemas.spec import Limits, Operations

__all__ = ["Fetched", "Fetcher", "check_picture", "make_fetcher"]


def make_fetcher(limits: Limits, operations: Operations, notes: Path | None = None) -> Fetcher:
    """The engine that `operations.download_engine` names.

    `notes` is a folder in which the workers of a build share what they learn about hosts.
    """
    if operations.download_engine == "img2dataset":
        return Img2datasetFetcher(limits, operations, notes)
    return BuiltinFetcher(limits, operations, notes)
