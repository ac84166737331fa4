"""The commands that draw and talk, as a person runs them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import janus.chat
import janus.generate
from janus.model.checkpoints.model_folder import save_janus
from janus.model.inference.answering import answer
from janus.model.inference.sampling import sample_images
from schemas.printable import printable_lines
from schemas.sample import Message
from tests.model.toy import SIDE, toy_janus

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "janus"
    save_janus(folder, *toy_janus())
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command's main in this process; its stdout and stderr."""

    def run(main: Callable[[], None], *arguments: object, typed: str = "") -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        main()
        printed = capsys.readouterr()
        return printed.out, printed.err

    return run


def test_generate_writes_pictures_grid_and_index(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "prompts.txt").write_text("two blue squares\n\n  \n")
    out = tmp_path / "pictures"
    arguments = ["--prompts", tmp_path / "prompts.txt", "--images", 2, "--seed", 7, "--cfg-scale", 2, "--out", out]
    run(janus.generate.main, folder, "A red fish!", *arguments)
    rows = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        ("A red fish!", 7),
        ("A red fish!", 8),
        ("two blue squares", 7),
        ("two blue squares", 8),
    ]
    assert rows[0]["file"] == "00000-a-red-fish-7.png"
    prompts = [row["prompt"] for row in rows]
    expected = sample_images(*toy_janus(), prompts, template="chat", cfg_scale=2.0, seeds=[7, 8, 7, 8])
    sheet = np.asarray(Image.open(out / "grid.png"))
    assert sheet.shape == (2 * SIDE + 12, 2 * SIDE + 12, 3)
    for index, (row, picture) in enumerate(zip(rows, expected, strict=True)):
        with Image.open(out / row["file"]) as written:
            np.testing.assert_array_equal(np.asarray(written), picture)
            assert written.text["prompt"] == row["prompt"]
            assert written.text["cfg_scale"] == "2.0"
        top, left = 4 + (index // 2) * (SIDE + 4), 4 + (index % 2) * (SIDE + 4)
        np.testing.assert_array_equal(sheet[top : top + SIDE, left : left + SIDE], picture)


def test_chat_answers_once_on_stdout(folder: Path, photo: Path, run: Run) -> None:
    said, _ = run(janus.chat.main, folder, "--image", photo, "--ask", "What is it?", "--max-new-tokens", 8)
    model, processor = toy_janus()
    question = [Message(role="user", text="<image>\nWhat is it?")]
    picture = Image.open(photo).convert("RGB")
    assert said.strip() == answer(model, processor, [question], [[picture]], max_new_tokens=8)[0]


def test_an_interactive_conversation_remembers_and_forgets(folder: Path, photo: Path, run: Run) -> None:
    def talk(*lines: str) -> list[str]:
        said, _ = run(janus.chat.main, folder, "--max-new-tokens", 6, typed="\n".join(lines) + "\n")
        return said.splitlines()

    model, processor = toy_janus()
    first, second = "Hello?", "<image> What now?"
    picture = Image.open(photo).convert("RGB")
    turns = [Message(role="user", text=first)]
    reply = answer(model, processor, [turns], [[]], max_new_tokens=6)[0]
    turns += [Message(role="assistant", text=reply), Message(role="user", text=second)]
    then = answer(model, processor, [turns], [[picture]], max_new_tokens=6)[0]
    text = "\n".join(talk(first, f"/image {photo}", second, "/reset", first, "/quit", "never asked"))
    shown = [printable_lines(part) for part in (reply, then, reply)]
    assert [part.strip() for part in shown] == _split(text, shown)


def _split(text: str, parts: list[str]) -> list[str]:
    """`parts` found in `text` one after the other, with nothing but white space between and after."""
    found = []
    for part in parts:
        text = text.lstrip()
        assert text.startswith(part)
        found.append(part)
        text = text[len(part) :]
    assert not text.strip()
    return found


def test_a_slip_does_not_end_a_conversation(folder: Path, run: Run) -> None:
    said, complaints = run(
        janus.chat.main, folder, "--max-new-tokens", 4, typed="/image nowhere.png\n<image> what?\nHello?\n"
    )
    assert "nowhere.png: no such picture" in complaints
    assert "1 <image> marks but 0 new pictures" in complaints
    (reply,) = answer(*toy_janus(), [[Message(role="user", text="Hello?")]], [[]], max_new_tokens=4)
    assert said.strip() == printable_lines(reply)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["./nowhere", "x"], "nowhere: no such folder"),
        (["./nowhere"], "no prompt"),
        (["./nowhere", "x", "--images", "0"], "--images 0"),
        (["./nowhere", "--prompts", "missing.txt"], "missing.txt: no such prompt file"),
        (["./nowhere", "x", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_generate_names_mistakes(run: Run, arguments: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(janus.generate.main, *arguments)


def test_a_broken_picture_is_named(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    with pytest.raises(ValueError, match=r"broken\.jpg: "):
        run(janus.chat.main, folder, "--image", tmp_path / "broken.jpg", "--ask", "?")


@pytest.mark.parametrize("command", ["generate", "chat", "export", "assemble"])
def test_help_is_quick(command: str) -> None:
    """Neither torch nor transformers is imported to print the help."""
    code = f"import sys; sys.argv = ['x', '--help']\ntry:\n    import janus.{command} as c; c.main()\n"
    code += "except SystemExit: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "usage" in done.stdout
