"""Memory does not grow with the corpus: it is bounded by what is in flight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.world import folder_source, image_folder, spec

BUILD = """
import sys
from pathlib import Path
from pipelines.build import build
from schemas.spec import CorpusSpec, Operations
from tests.memory import peak
snapshot = build(CorpusSpec.model_validate_json(Path(sys.argv[1]).read_text()), sys.argv[2], Operations())
print(snapshot.rows(), peak())
"""


def peak_of_build(model: Path, folder: Path, rows: int) -> int:
    """Peak resident memory in MiB of a build of `rows` rows over 50 pictures."""
    photos = image_folder(folder / "photos", list(range(50)), width=640, height=480)
    lines = [json.dumps({"image": f"{n % 50}.jpg", "caption": f"Picture {n}. One of many."}) for n in range(rows)]
    (photos / "captions.jsonl").write_text("\n".join(lines))
    off = {"exact": False, "near_radius": None}
    settings = spec(model, [folder_source(photos)], shard_rows=512, dedup=off)
    (folder / "spec.json").write_text(settings.model_dump_json())
    command = [sys.executable, "-c", BUILD, str(folder / "spec.json"), str(folder / "c")]
    output = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout
    built, peak = map(int, output.split())
    assert built == rows
    return peak


@pytest.mark.slow
def test_memory_is_flat_from_1000_to_20000_rows(model: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    small = peak_of_build(model, tmp_path / "small", 1_000)
    large = peak_of_build(model, tmp_path / "large", 20_000)
    print(f"peak of 1,000 rows {small} MiB, of 20,000 rows {large} MiB")
    assert large < small + 150, "the pictures of the larger build alone are 560 MiB"
