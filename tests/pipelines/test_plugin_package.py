"""A package from outside adds a source, signals and a filter to a corpus that is there already (design D13, D14)."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from janus.data.config import DataConfig, TokenIds
from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_processor
from pipelines import ledger
from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import Snapshot, load_snapshot
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import contents, folder_source, image_folder, spec

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "plugin_package"
MIN = 128.0

# Builds, and counts what the build does with pictures and which signals it measures.
COUNTING_BUILD = """
import collections, json, sys
from pathlib import Path
import pipelines.row, pipelines.signals, pipelines.steps.tokenize
from pipelines.build import build
from pipelines.verify import verify
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import contents

counts = collections.Counter()

def counted(owner, name, label):
    function = getattr(owner, name)
    def call(*arguments, **options):
        counts[label(*arguments)] += 1
        return function(*arguments, **options)
    setattr(owner, name, call)

counted(pipelines.row, "load_reduced", lambda data, *_: "decoded to measure")
counted(pipelines.steps.tokenize, "load_rgb", lambda data, *_: "decoded to tokenize")
counted(pipelines.signals.Signal, "measure", lambda signal, row: f"measured {signal.name}")
from janus_example.exposure import Model
counted(Model, "measure", lambda model, batch: f"batches of {len(batch)}")
spec, corpus = CorpusSpec.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
operations = Operations.model_validate_json(sys.argv[3])
snapshot = build(spec, corpus, operations)
said = {"counts": dict(counts), "snapshot": snapshot.name, "differences": verify(corpus).differences}
build(spec, Path(sys.argv[4]), operations)
anew = {path: sha for path, sha in contents(Path(sys.argv[4])).items() if path.endswith((".arrow", ".json"))}
said["anew"] = {path: sha for path, sha in anew.items() if not path.startswith("snapshots/")}
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugins")
    copy = shutil.copytree(PACKAGE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(copy)]
    subprocess.run(command, check=True)
    return folder / "site"


def with_plugins(installed: Path, code: str, *arguments: str) -> str:
    """Run Python code where the package is installed; returns what it printed last."""
    path = os.pathsep.join([str(installed), os.environ["PYTHONPATH"]])
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, list[str], Operations]]:
    """A folder of pictures behind a web server, which notes what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    folder = image_folder(tmp_path / "web", list(range(100, 112)))
    damaged = folder / "111.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-300])  # the header is whole
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        operations = Operations(resolve={"pictures.test:80": f"127.0.0.1:{server.server_address[1]}"}, retries=0)
        yield folder, asked, operations
        server.shutdown()


def sources(root: Path) -> list[dict[str, Any]]:
    """Pictures from the web, pictures from a folder, text."""
    rows = [{"url": f"http://pictures.test/{n}.jpg", "caption": f"Picture {n}."} for n in range(100, 112)]
    (root / "urls.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "text").mkdir()
    texts = [json.dumps({"text": f"Document number {n} is about colours."}) for n in range(9)]
    (root / "text" / "pages.jsonl").write_text("\n".join(texts))
    return [
        {"name": "web", "format": "url_list", "path": str(root / "urls.jsonl"), "task": "generation"},
        # So large that they are decoded reduced: a JPEG's scale must not depend on what is measured.
        folder_source(image_folder(root / "photos", list(range(3)), width=2100, height=2080), task="understanding"),
        {"name": "text", "format": "text", "path": str(root / "text"), "task": "text"},
    ]


def layer(corpus: Path, snapshot: Snapshot, name: str, source: str) -> list[dict[str, Any]]:
    """Rows of a layer of a source, in order."""
    paths = [
        (entry.path if name == "train" else entry.upstream[name]) for entry in snapshot.shards if entry.source == source
    ]
    return [row for path in paths for row in ledger.open_input(corpus, path)[1].table().to_pylist()]


def test_one_signal_and_one_filter_added_to_a_corpus(
    installed: Path, web: tuple[Path, list[str], Operations], model: Path, tmp_path: Path
) -> None:
    folder, asked, operations = web
    described = sources(tmp_path)
    corpus = tmp_path / "c"
    old = build(spec(model, described), corpus, operations)
    assert old.funnel["web"] == {"rows": 12, "kept": 11, "bad_image": 1}
    before, requests = contents(corpus), len(asked)

    described[0]["filters"] = {"too_dark": {"min": MIN}}
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "a.txt").write_text("One line about colours.\n\nAnother line about colours.\n")
    lines = {"name": "lines", "format": "lines", "path": str(tmp_path / "lines"), "task": "text"}
    new_spec = spec(model, [*described, lines], signals={"exposure": {"middle": 100.0}})
    (tmp_path / "spec.json").write_text(new_spec.model_dump_json())
    arguments = (str(tmp_path / "spec.json"), str(corpus), operations.model_dump_json(), str(tmp_path / "anew"))
    said = json.loads(with_plugins(installed, COUNTING_BUILD, *arguments))
    new = load_snapshot(corpus)
    assert (said["snapshot"], new.number, new.parent) == (new.name, 2, old.name)

    # Only what is new is measured: every picture is decoded once for it (the damaged one as well), none for training.
    assert len(asked) == 2 * requests, "by the corpus that was built anew; nothing is downloaded again"
    assert said["counts"] == {
        "decoded to measure": 15,
        "measured brightness": 15,
        "batches of 8": 1,  # of the shards: 8 and 4 of the web, one of them damaged, and 3 photos
        "batches of 3": 2,
        "measured image": 2,  # of the new source
        "measured text": 2,
    }
    after = contents(corpus)
    kept_files = {path: sha for path, sha in before.items() if path != "LATEST"}
    assert kept_files.items() <= after.items(), "nothing that was there differs"
    made = Counter(str(Path(path).parent) for path in after.keys() - before.keys() if path.endswith(".arrow"))
    assert made == {
        "signals/brightness/web": 2,
        "signals/brightness/photos": 1,
        "signals/exposure/web": 2,
        "signals/exposure/photos": 1,
        "decision/web": 2,
        "train/web": 2,
        **dict.fromkeys(
            ["rows/lines", "raw/lines", "signals/image/lines", "signals/text/lines", "decision/lines", "train/lines"], 1
        ),
    }

    # Decisions change where the filter is used, and there by what it says.
    for source in ("photos", "text"):
        shards = [[entry for entry in snapshot.shards if entry.source == source] for snapshot in (old, new)]
        assert [entry.path for entry in shards[0]] == [entry.path for entry in shards[1]]
    bright = {}
    for number in range(100, 111):
        with Image.open(folder / f"{number}.jpg") as image:
            bright[f"Picture {number}."] = float(np.asarray(image.convert("L")).mean())
    expected = {caption for caption, mean in bright.items() if mean >= MIN}
    assert 0 < len(expected) < 11
    captions = [row["messages"][0]["text"] for row in layer(corpus, new, "raw", "web")]
    decided = dict(zip(captions, layer(corpus, new, "decision", "web"), strict=True))
    assert {caption for caption, row in decided.items() if row["outcome"] == "ok" and not row["reason"]} == expected
    assert new.funnel["web"] == {"rows": 12, "kept": len(expected), "bad_image": 1, "too_dark": 11 - len(expected)}
    measured = dict(zip(captions, layer(corpus, new, "signals/brightness", "web"), strict=True))
    stops = dict(zip(captions, layer(corpus, new, "signals/exposure", "web"), strict=True))
    for caption, mean in bright.items():
        assert measured[caption]["mean"] == pytest.approx(mean, abs=1)
        assert stops[caption]["stops"] == pytest.approx(np.log2(mean / 100), abs=0.05)
    assert (measured["Picture 111."]["mean"], stops["Picture 111."]["stops"]) == (None, None)

    # The rows that stay are those that were there, and both snapshots verify and can be trained on.
    rows = {row["uid"]: row for row in layer(corpus, old, "train", "web")}
    assert all(rows[row["uid"]] == row for row in layer(corpus, new, "train", "web"))
    assert said["differences"] == []
    for snapshot in (old, new):
        assert uids_trained_on(corpus, snapshot, model) == {
            row["uid"] for source in snapshot.funnel for row in layer(corpus, snapshot, "train", source)
        }
    # Added one after the other or all at once: the same shards, byte for byte.
    assert said["anew"] == {path: sha for path, sha in contents(corpus).items() if path in said["anew"]}
    assert said["anew"].keys() >= {path for entry in new.shards for path in (entry.path, *entry.upstream.values())}
    # Where the package is not installed, the reason is one that nobody knows.
    differences = verify(corpus).differences
    assert differences
    assert all("no filter here has the reason too_dark; install the package" in line for line in differences)


def uids_trained_on(corpus: Path, snapshot: Snapshot, model: Path) -> set[bytes]:
    processor = load_processor(model)
    tokens = TokenIds(
        bos=processor.bos_id, eos=processor.eos_id, pad=processor.pad_id, boi=processor.boi_id, eoi=processor.eoi_id,
        image=processor.image_id,
    )  # fmt: skip
    data = DataConfig(ratio=(1, 1, 1), sequences=6, seq_len=256, micro_batch=6, verify=True)
    loader = Loader(corpus, snapshot, data=data, tokens=tokens, steps=12)
    return {uid for batches in loader for batch in batches for uid in batch.uids}


def test_an_unknown_plug_in_is_one_line(model: Path, tmp_path: Path) -> None:
    photos = folder_source(image_folder(tmp_path / "photos", [1]), filters={"too_dark": {"min": 3}})
    with pytest.raises(ValueError, match=r"^source photos: filters: no filter 'too_dark'; there are: .*aspect_ratio,"):
        build(spec(model, [photos]), tmp_path / "c", Operations())
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind", ["source", "signal", "filter"])
def test_the_examples_of_the_guide_are_the_files_of_the_package(kind: str) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    section = guide.split(f"### A {kind}\n")[1].split("\n### ")[0].split("\n## ")[0]
    blocks = re.findall(r"`(\w+\.py)`[^`]*```python\n(.*?)```", section, re.DOTALL)
    assert blocks
    for name, code in blocks:
        assert code == (PACKAGE / "janus_example" / name).read_text()
        assert len(code.splitlines()) <= 40


def test_the_guide_shows_the_entry_points_of_the_package() -> None:
    declared = (PACKAGE / "pyproject.toml").read_text()
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    for group in ("sources", "signals", "filters"):
        (block,) = re.findall(rf'```toml\n(\[project.entry-points."janus_forge.{group}"\].*?)```', guide, re.DOTALL)
        assert block in declared


def test_the_spec_of_the_test_is_valid(model: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert isinstance(spec(model, sources(tmp_path / "s")), CorpusSpec)
