"""What the rows of a shard say: the messages of the source, or those with the captions that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from pipelines import ledger
from schemas.layers import says
from storage.places import Place


def said_instead(corpus: Place, paths: Mapping[str, str]) -> pa.ChunkedArray | None:
    """The messages of every row that stand in for those of the raw layer; None where nothing does.

    Args:
        paths: layer to the path of the shard there.

    Raises ShardError.
    """
    layer = says(paths)
    if layer == "raw":
        return None
    return ledger.open_input(corpus, paths[layer])[1].table(["messages"]).column("messages")
