"""One flipped bit in every file of a corpus, a run and a model folder, under every command that reads the folder.

The file is named in one line and the command fails, or the damage changes nothing in what the command gives: because
that file is not read, or was made again.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import torch

import janus.assemble
import janus.chat
import janus.data.mixture
import janus.evaluate.__main__
import janus.export
import janus.generate
import janus.train.__main__
import pipelines.build
import pipelines.verify
from janus.cli import USER_ERRORS
from janus.model.checkpoints.convert import read_checkpoint, write_deepseek
from janus.model.checkpoints.model_folder import save_janus
from tests.evaluate.worlds import write_lines
from tests.model.toy import toy_janus
from tests.pipelines.world import image_folder, picture

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
SPEC = """
name = "flips"
stage = 2
shard_rows = 8
[models]
janus = "{model}"
[[sources]]
name = "drawings"
format = "image_folder"
path = "{photos}"
task = "generation"
[[sources]]
name = "photos"
format = "image_folder"
path = "{photos}"
task = "understanding"
"""
STEPS = 2
TRAIN = (
    *("--stage", 2, "--preset", "tiny", "--device", "cpu", "--steps", STEPS, "--checkpoint.every", 1),
    *("--data.sequences", 2, "--data.micro-batch", 2, "--data.seq-len", 256, "--data.ratio", 1, 0, 1),
    *("--watch.sample-every", 0, "--data.decode-threads", 1),
)


@dataclass(frozen=True)
class World:
    """Where everything lies."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True)
class Told:
    """What a command gave."""

    failed: bool
    said: str
    """The error, and the lines on stdout."""
    made: dict[str, str]
    """Digests of what it wrote."""


def call(main: Callable[[], object], *arguments: object) -> Told:
    """A command in this process, as its command line would run it."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["command", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main()
        except USER_ERRORS as error:
            return Told(True, str(error), {})
        except SystemExit as stop:
            code = stop.code
    return Told(bool(code), out.getvalue() + (err.getvalue() if code else ""), {})


def made(told: Told, *folders: Path, but: tuple[str, ...] = ()) -> Told:
    """With the digests of all files in `folders`, or of the files themselves."""
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return Told(told.failed, told.said, {str(f): digest(f) for f in files if f.name not in but})


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def build(world: World) -> Told:
    told = call(pipelines.build.main, world.root / "spec.toml", "--corpus", world.corpus)
    return made(told, world.corpus, but=(".lock",))


def train(world: World, out: Path, *more: object) -> Told:
    words = ("--model", world.hf, "--data", world.corpus, "--out", out, *(more or TRAIN))
    return made(call(janus.train.__main__.main, *words), out / "model")


def evaluate(world: World, model: Path) -> Told:
    words = ("--model", model, "--data", world.data, "--out", world.out, "--benchmarks", "counting", "--device", "cpu")
    more = ("--counting.questions", world.data / "counting.jsonl", "--max-new-tokens", 2)
    told = call(janus.evaluate.__main__.main, *words, *more)
    return made(told, world.out / "counting", but=("run.json",))


def models(folder: str) -> dict[str, Callable[[World], Told]]:
    """The commands that read a model folder."""

    def at(world: World) -> Path:
        return world.root / folder

    return {
        "export": lambda w: made(call(janus.export.main, at(w), "--out", w.out), w.out),
        "generate": lambda w: made(
            call(janus.generate.main, at(w), "x", "--cfg-scale", 1, "--device", "cpu", "--out", w.out), w.out
        ),
        "chat": lambda w: call(
            janus.chat.main, at(w), "--image", w.data / "a.png", "--ask", "x", "--max-new-tokens", 3, "--device", "cpu"
        ),
        "evaluate": lambda w: evaluate(w, at(w)),
        "assemble": lambda w: made(
            call(janus.assemble.main, "--preset", "tiny", "--vq", at(w), "--tokenizer", at(w), "--out", w.out), w.out
        ),
    }


COMMANDS: dict[str, dict[str, Callable[[World], Told]]] = {
    "hf": {**models("hf"), "build": build, "train": lambda w: train(w, w.out)},
    "deepseek": models("deepseek"),
    "adapter": {"export": lambda w: made(call(janus.export.main, w.hf, "--adapter", w.adapter, "--out", w.out), w.out)},
    "corpus": {
        "build": build,
        "verify": lambda w: call(pipelines.verify.main, w.corpus),
        "mixture": lambda w: call(
            janus.data.mixture.main, w.corpus, "--preset", "tiny", "--stage", 2, *TRAIN[6:8], *TRAIN[10:20]
        ),
        "train": lambda w: train(w, w.out),
    },
    "run": {
        "resume": lambda w: train(w, w.run),
        "export": lambda w: made(call(janus.export.main, "--run", w.run, "--out", w.out), w.out),
        "config": lambda w: train(w, w.out, "--config", w.run / "recipe.json", "--device", "cpu"),
    },
}
"""Folder of the world to the commands that read it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A corpus, a run that was stopped after its first step, and the model in both layouts."""
    threads, before = torch.get_num_threads(), sys.argv
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("flips") / "world"
    world = World(root)
    save_janus(world.hf, *toy_janus())
    write_deepseek(read_checkpoint(world.hf), world.deepseek)
    image_folder(world.photos, list(range(12)))
    (root / "spec.toml").write_text(SPEC.format(model=world.hf, photos=world.photos))
    world.data.mkdir()
    picture("a").save(world.data / "a.png")
    write_lines(world.data / "counting.jsonl", [{"image": "a.png", "text": "how many?", "label": 2}])
    told = build(world)
    assert not told.failed, told.said
    yield world
    torch.set_num_threads(threads)
    sys.argv = before


@pytest.fixture(scope="module")
def stopped(whole: World) -> World:
    """With a run that was killed in its second step, and the adapter of another one."""
    told = train(whole, whole.run)
    assert not told.failed, told.said
    shutil.rmtree(whole.run / "model")
    shutil.rmtree(whole.run / f"checkpoints/step-{STEPS:06}")
    told = train(whole, whole.lora, *TRAIN, "--lora.rank", 2)
    assert not told.failed, told.said
    (whole.lora / "adapter").rename(whole.adapter)
    shutil.rmtree(whole.lora)
    return whole


def flips(content: bytes, count: int) -> Iterator[bytes]:
    """One bit each, at the first, middle and last byte and at others; of `count` 1, somewhere."""
    chance = random.Random(len(content))
    places = [0, len(content) // 2, len(content) - 1] if count > 1 else []
    places += [chance.randrange(len(content)) for _ in range(count - len(places))]
    for place in sorted(set(places)):
        yield content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def walk(whole: World, tmp_path: Path, folder: str, command: str, count: int) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(whole.root, kept)
    run = COMMANDS[folder][command]

    def fresh() -> None:
        shutil.rmtree(whole.root)
        shutil.copytree(kept, whole.root)

    try:
        expected = run(whole)
        assert not expected.failed, expected.said
        named = 0
        for file in sorted(path for path in (kept / folder).rglob("*") if path.is_file()):
            for number, content in enumerate(flips(file.read_bytes(), count) if file.stat().st_size else ()):
                fresh()
                (whole.root / file.relative_to(kept)).write_bytes(content)
                told = run(whole)
                where = f"{command}: {file.relative_to(kept)}, flip {number}: {told.said}"
                if told.failed:
                    named += 1
                    assert told.said.strip().count("\n") == 0 or command == "verify", where
                    # A shard by its manifest, and the other way round.
                    assert file.name.removesuffix(".json").removesuffix(".arrow") in told.said, where
                else:
                    assert told.said == expected.said, where
                    assert told.made == expected.made, where
        assert named
    finally:
        fresh()


WALKS = [(folder, command) for folder, commands in COMMANDS.items() for command in commands]


@pytest.mark.parametrize(("folder", "command"), [("hf", "export"), ("corpus", "verify")])
def test_a_flipped_bit_is_named(whole: World, tmp_path: Path, folder: str, command: str) -> None:
    walk(whole, tmp_path, folder, command, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "command"), WALKS)
def test_a_flipped_bit_is_named_by_every_command(stopped: World, tmp_path: Path, folder: str, command: str) -> None:
    # A build or a run for each of the fifty files of a corpus takes minutes: one flip of each.
    walk(stopped, tmp_path, folder, command, 1 if folder == "corpus" and command in ("build", "train") else 4)
