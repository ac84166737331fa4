"""The process that img2dataset runs in: `python -m pipelines.fetch.img2dataset_child JOB.json`.

img2dataset starts processes of its own, and each imports this file again: that is how the guard gets into all of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pipelines.fetch.img2dataset_guard  # noqa: F401  (importing it is what guards)

if __name__ == "__main__":
    from img2dataset import download

    download(**json.loads(Path(sys.argv[1]).read_text()))
