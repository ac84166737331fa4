"""Every file of a model folder, damaged in every way, under every command that reads it: one line that names it."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import janus.assemble
import janus.chat
import janus.export
import janus.generate
from janus.cli import USER_ERRORS
from janus.model.checkpoints.convert import read_checkpoint, write_deepseek
from janus.model.checkpoints.fingerprint import fingerprints
from janus.model.checkpoints.model_folder import load_janus, load_vq, save_janus
from tests.model.toy import toy_janus


def flips(content: bytes, count: int, *, weights: bool) -> Iterator[bytes]:
    """One bit each: in the header of weights, anywhere in others."""
    end = 8 + int.from_bytes(content[:8], "little") if weights else len(content)
    chance = random.Random(len(content))
    for _ in range(count):
        place = chance.randrange(min(end, len(content)))
        yield content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def damages(file: Path, flipped: int) -> Iterator[tuple[str, bytes | None]]:
    """What a file may become, by name; None is deleted."""
    content = file.read_bytes()
    yield "deleted", None
    yield "empty", b""
    yield "cut", content[: len(content) // 2]
    yield "cut by one byte", content[:-1]
    yield "zeros", bytes(100)
    if file.suffix in (".json", ".jinja"):
        yield "garbage", b'{"a": \xff'
        for other in (b"[]", b"{}", b"null", b"[" * 100_000, b'{"model_type": 3, "weight_map": 3, "vq_config": []}'):
            yield f"other JSON {other[:20]!r}", other
        yield from (("flip", other) for other in flips(content, flipped, weights=False))
    elif file.suffix == ".safetensors":
        yield from (("flip", other) for other in flips(content, flipped, weights=True))
    else:
        chance = random.Random(0)
        places = [
            chance.randrange(len(content) - 3000, len(content)) for _ in range(flipped)
        ]  # the archive's directory
        yield from (("flip", content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]) for at in places)


def main_of(command: Callable[[], None], *arguments: object) -> None:
    sys.argv = ["command", *map(str, arguments)]
    command()


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "export": lambda folder, out: main_of(janus.export.main, folder, "--to", "hf", "--out", out),
    "generate": lambda folder, out: main_of(janus.generate.main, folder, "x", "--cfg-scale", 1, "--out", out),
    "chat": lambda folder, out: main_of(janus.chat.main, folder, "--ask", "x", "--max-new-tokens", 1),
    "assemble": lambda folder, out: main_of(
        janus.assemble.main, "--preset", "tiny", "--vq", folder, "--tokenizer", folder, "--out", out
    ),
    "build": lambda folder, out: fingerprints(folder, "jpeg"),
    "tokenize": lambda folder, out: load_vq(folder),
    "train": lambda folder, out: load_janus(folder, dtype=torch.bfloat16),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three kinds of folder there are, as from elsewhere: without SHA256SUMS (tests/test_flips.py has those)."""
    base = tmp_path_factory.mktemp("models")
    save_janus(base / "hf", *toy_janus())
    write_deepseek(read_checkpoint(base / "hf"), base / "deepseek")
    shutil.copytree(base / "hf", base / "sharded")
    extras = {"gen_vision_model.quantize.codebook_used": torch.zeros(4)}
    save_file(extras, base / "hf" / "deepseek_extras.safetensors")
    for name, suffix in (("sharded", ".safetensors"), ("deepseek", ".bin")):
        file = base / name / "model.safetensors"
        tensors = load_file(file)
        file.unlink()
        stem = "model" if suffix == ".safetensors" else "pytorch_model"
        weight_map = {}
        for number in (1, 2):
            part = {key: tensors[key] for key in sorted(tensors)[number - 1 :: 2]}
            shard = f"{stem}-{number:05}-of-00002{suffix}"
            torch.save(part, base / name / shard) if suffix == ".bin" else save_file(part, base / name / shard)
            weight_map |= dict.fromkeys(part, shard)
        (base / name / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for sums in base.glob("*/SHA256SUMS"):
        sums.unlink()
    return {name: base / name for name in ("hf", "sharded", "deepseek")}


def outcome(command: str, folder: Path, out: Path) -> str | None:
    """What a command says is wrong; None if nothing is. Anything but a user error fails the test."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        COMMANDS[command](folder, out)
    except USER_ERRORS as error:
        assert not out.exists()
        return str(error)
    return None


def check(command: str, original: Path, tmp_path: Path, *, flipped: int) -> None:
    folder = tmp_path / "model"
    shutil.copytree(original, folder)
    assert outcome(command, folder, tmp_path / "out") is None
    read = set()
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for damage, content in damages(file, flipped):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
            said = outcome(command, folder, tmp_path / "out")
            if said is None:
                continue
            read.add(file.name)
            assert "\n" not in said.strip(), (file.name, damage, said)
            assert len(said.replace(str(tmp_path), "")) < 600, (file.name, damage, said)
            # A file of weights that is gone is missed in the folder, a flip in one file may only show in another.
            named = file.name in said or (damage == "deleted" and str(folder) in said) or damage == "flip"
            assert named, (file.name, damage, said)
            assert str(folder) in said, (file.name, damage, said)
        file.write_bytes(whole)
    assert outcome(command, folder, tmp_path / "out") is None
    assert "config.json" in read
    assert any("model" in name for name in read)  # some file of weights


@pytest.mark.parametrize("kind", ["sharded", "deepseek"])
def test_a_damaged_file_is_one_line(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """`build` reads configuration, tokenizer and the VQ tokenizer's weights."""
    monkeypatch.setattr(sys, "argv", [])
    check("build", folders[kind], tmp_path, flipped=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hf", "sharded", "deepseek"])
@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_damaged_file_is_one_line_in_every_command(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, command: str
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    check(command, folders[kind], tmp_path, flipped=8)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": {"lm_head.weight": "../hf/model.safetensors"}}, "is no file of this folder"),
        ({"weight_map": {"lm_head.weight": "/etc/passwd"}}, "is no file of this folder"),
        ({"weight_map": {"lm_head.weight": ".."}}, "is no file of weights"),
        ({"weight_map": {"lm_head.weight": ["a"]}}, "is no file of this folder"),
        ({"weight_map": {"lm_head.weight": "config.json"}}, "is no file of weights"),
        ({"weight_map": {"lm_head.weight": "model-7.safetensors"}}, "model-7.safetensors: not found, but .* names it"),
        ({"weight_map": {"model.x": "model-00001-of-00002.safetensors"}}, "lacks model.x, which .* says it holds"),
    ],
)
def test_an_index_leads_nowhere_else(
    folders: dict[str, Path], tmp_path: Path, index: dict[str, object], message: str
) -> None:
    folder = shutil.copytree(folders["sharded"], tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_janus(folder)


def test_weights_of_another_kind_of_number_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """One flipped bit in a header turns F32 into I32 or U32: the same bytes, read as other numbers."""
    folder = shutil.copytree(folders["hf"], tmp_path / "model")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    place = content.index(b'"dtype":"F32"') + len('"dtype":"')
    file.write_bytes(content[:place] + b"I" + content[place + 1 :])
    with pytest.raises(ValueError, match=r"model.safetensors: .* holds int32"):
        load_janus(folder)
