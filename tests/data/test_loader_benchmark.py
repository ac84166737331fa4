"""The part of benchmarks/loader.py that needs neither photos nor the other loaders."""

from __future__ import annotations

import pytest

from benchmarks.loader import billion_rows, price_of_a_window


@pytest.mark.slow
def test_nearly_every_document_of_a_window_lies_in_another_shard() -> None:
    """docs/data-order.md states what that costs."""
    price = price_of_a_window()
    assert price["steps"] == billion_rows().forecasts[0].window_steps
    assert 0.95 * price["documents"] < price["shards"] < price["documents"]
    assert price["cpu"] > 0
