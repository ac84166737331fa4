"""What a change of a file makes the demo do again: no less and no more than the steps that use the file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.dependencies import PACKAGES, ROOT, Checkout
from demo.steps import plan

MODULES = {step.name: step.module for step in plan(Path("runs/demo"), scenes=100, seed=0)}
TRAIN = {"train1", "train2", "train3"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, to be changed. Each change stays for the tests after it."""
    root = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def digests(root: Path) -> dict[str, str]:
    found = Checkout(root)
    return {name: found.code_digest(module) for name, module in MODULES.items()}


def redone(root: Path, file: str, change: str) -> set[str]:
    """The steps whose code is another after `change`, an expression, is put at the end of a file."""
    before = digests(root)
    path = root / file
    path.write_text(path.read_text() + change)
    return {name for name, value in digests(root).items() if value != before[name]}


@pytest.mark.parametrize(
    ("file", "users"),
    [
        ("janus/data/pack.py", {"base", *TRAIN}),
        ("janus/image_headers.py", {"corpora", "evaluate", *TRAIN}),
        ("janus/images.py", {"corpora", "evaluate", *TRAIN}),
        ("schemas/sample.py", set(MODULES)),
        ("demo/world/scene.py", {"world", "base", "evaluate"}),
        ("demo/world/reader.py", {"evaluate"}),
        ("demo/report/sections.py", {"report"}),
        ("pipelines/engine/worker.py", {"corpora"}),
        ("pipelines/sources/llava.py", {"corpora"}),
        ("janus/model/inference/answering.py", {"corpora", "evaluate", *TRAIN}),
        ("janus/train/loop.py", TRAIN),
        ("schemas/digest.py", set(MODULES)),
    ],
)
def test_a_change_redoes_what_uses_the_file(checkout: Path, file: str, users: set[str]) -> None:
    assert redone(checkout, file, "\n_CHANGED = 1\n") == users


def test_words_redo_nothing(checkout: Path) -> None:
    path = checkout / "janus/model/inference/answering.py"
    before, text = digests(checkout), path.read_text()
    reworded, count = re.subn(r'(^ *)"""(?=\w)', r'\1"""Reworded. ', text, flags=re.MULTILINE)
    assert count > 5
    path.write_text(reworded.replace("\nfrom", "\n# A comment.\n\nfrom", 1))
    assert digests(checkout) == before
    assert redone(checkout, "demo/world/scene.py", '\n"""Stands alone."""\n\n# and this\n') == set()


def test_names_in_strings_and_plug_ins_count(tmp_path: Path) -> None:
    files = {
        "pipelines/__init__.py": "",
        "pipelines/run.py": 'import subprocess\n\ndef f():\n    subprocess.run(["python", "-m", "pipelines.child"])\n',
        "pipelines/child.py": "from pipelines.kinds import KINDS\n",
        "pipelines/kinds/__init__.py": 'A = PluginFolder(__name__, "kind")\nB = PluginFolder("demo.more", "x")\n',
        "demo/more/__init__.py": "",
        "demo/more/two.py": "",
        "pipelines/kinds/one.py": "def late():\n    import demo.far\n",
        "pipelines/unused.py": "",
        "demo/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipelines.unused\n",
        "demo/far.py": "from demo import near\n",
        "demo/near.py": "import json, pipelines.none, torch\n",
        "demo/plug.py": "",
        "pyproject.toml": '[project.entry-points."janus_forge.kinds"]\nplug = "demo.plug"\nother = "else.where"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert Checkout(tmp_path).closure(["pipelines.run"]) == {
        *("pipelines", "pipelines.run", "pipelines.child", "pipelines.kinds", "pipelines.kinds.one"),
        *("demo", "demo.far", "demo.near", "demo.plug", "demo.more", "demo.more.two"),
    }


LOADED = """
import json, runpy, sys
out, module, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = module
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
open(out, "w").write(json.dumps([name for name in sys.modules if name.split(".")[0] in PACKAGES]))
"""


@pytest.mark.parametrize(
    "command",
    [
        ["demo.world", "--scenes", "8", "--heldout", "8", "--out", "{}/world"],
        ["janus.train", "--help"],
        ["flows.corpus", "--help"],
    ],
)
def test_no_module_that_really_is_loaded_is_missed(command: list[str], tmp_path: Path) -> None:
    arguments = [word.format(tmp_path) for word in command]
    code = f"PACKAGES = {PACKAGES!r}\n{LOADED}"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "loaded"), *arguments], cwd=ROOT, check=True, capture_output=True
    )
    loaded = set(json.loads((tmp_path / "loaded").read_text()))
    assert len(loaded) > 5
    assert loaded <= Checkout().closure([command[0]])
