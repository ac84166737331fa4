"""MinHash signature of a text: two texts agree in about as many of its places as they share of their runs of words.

Runs of five words, as in the deduplication of C4 (Lee et al., arXiv 2107.06499) and of FineWeb. Case, punctuation and
spacing do not count (pipelines/decontamination/texts.py). With 128 places, the estimate of a Jaccard similarity of 0.7
has a standard error of 0.04. rensa computes the minima: it has no dependencies, where datasketch needs SciPy, and takes
hashes as they are.

Captions have none: rows with a caption are compared by their pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.decontamination.texts import ngrams, whole, words
from pipelines.signals import Options, Values

if TYPE_CHECKING:  # that one opens images, and whoever compares signatures need not
    from pipelines.row import Row

VERSION = 1
NGRAM = 5
PLACES = 128
FIELDS = {"signature": pa.binary(2 * PLACES)}
"""uint16[128], little-endian: the low bits of the minimum of each permutation."""
NEEDS = ("text",)
SEED = 1


def fingerprint(options: Options) -> dict[str, str]:
    """The algorithm of rensa."""
    import rensa

    return {"rensa": str(rensa.RMinHash.ALGORITHM_VERSION)}


def measure(row: Row) -> Values:
    """The signature of all text of the row; null for a caption, and for a text without a word."""
    found = words(row.text) if row.caption is None else []
    if not found:
        return {"signature": None}
    import rensa

    runs = np.unique(ngrams(found, NGRAM)) if len(found) >= NGRAM else np.array([whole(found)], np.uint64)
    minima = rensa.RMinHash.digest_matrix_from_token_hash_sets([runs.tolist()], PLACES, SEED).to_rows()[0]
    return {"signature": np.array(minima, "<u4").astype("<u2").tobytes()}
