"""An address where a path is expected is one line, and never a local folder called "s3:"; what takes one says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import janus_forge
from janus import cli
from tests.pipelines.world import picture

S3, FTP = "s3://bucket/x", "ftp://host/x"
TRAIN = "--stage 1 --preset tiny --model m --data d --out o"
LINES = {
    "corpus build": ["corpus build {s3}", "corpus build spec.toml --out {ftp}"],
    "corpus init": ["corpus init {s3} --out spec2.toml", "corpus init o --out {s3}"],
    "corpus export": ["corpus export {ftp} --to parquet --out p", "corpus export o --to parquet --out {s3}"],
    "corpus duplicates": ["corpus duplicates {ftp}", "corpus duplicates o --out {s3}"],
    "corpus verify": ["corpus verify {ftp}"],
    "corpus takedown": ["corpus takedown {ftp} spec.toml", "corpus takedown o {s3}"],
    "corpus inspect": ["corpus inspect {ftp}", "corpus inspect o --html {s3}", "corpus inspect o --spec {s3}"],
    "corpus list": ["corpus list {ftp}"],
    "corpus compare": ["corpus compare {ftp} o", "corpus compare {ftp}@1 {ftp}"],
    "corpus mixture": ["corpus mixture {ftp} --preset tiny"],
    "assemble": [
        f"assemble --out o {option} {{s3}}" for option in ("--out", "--llm", "--vision", "--vq", "--tokenizer")
    ],
    "train": [f"train {TRAIN} {words}" for words in ("--out {s3}", "--model {s3}", "--data {ftp}", "--config {s3}")],
    "evaluate": [
        f"evaluate --benchmarks counting --out o --model m --counting.questions q.jsonl {words}"
        for words in ("--out {s3}", "--data {s3}", "--model {s3}", "--compare {s3}", "--counting.images {s3}")
    ],
    "generate": ["generate {s3} x", "generate m x --out {s3}", "generate m --prompts {s3}"],
    "chat": ["chat {s3}", "chat m --image {s3}"],
    "export": [
        "export {s3} --out o", "export m --out {s3}", "export --run {s3} --out o", "export m --adapter {s3} --out o"
    ],
    "demo": ["demo --out {s3}"],
}  # fmt: skip
"""Every option of every command that names a file or folder. `{ftp}` where s3:// is taken."""


def test_every_command_is_here() -> None:
    assert LINES.keys() == janus_forge.COMMANDS.keys()


@pytest.mark.parametrize("line", [line for lines in LINES.values() for line in lines])
def test_an_address_is_one_line_and_makes_nothing(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.toml").write_text('name = "x"\nstage = 1\n[models]\njanus = "m"\n[[sources]]\nname = "a"\n'
                                        'format = "image_folder"\npath = "p"\ntask = "generation"\n')  # fmt: skip
    (tmp_path / "o").mkdir()
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "q.jsonl").write_text('{"image": "0.png", "text": "how many?", "label": 2}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    before = sorted(tmp_path.rglob("*"))
    try:
        with pytest.raises(cli.USER_ERRORS) as caught:
            janus_forge.run_command(line.format(s3=S3, ftp=FTP).split())
    finally:
        cli._STARTED_AS.clear()
    said = str(caught.value)
    assert "\n" not in said
    assert (S3 if "{s3}" in line else FTP).replace("//", "/") in said.replace("//", "/")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_with_a_colon_stays_a_path(tmp_path: Path) -> None:
    def command(out: Path) -> Path:
        return out

    for path in ("a:b", "C:/x", f"{tmp_path}/x:/y"):
        assert cli.parse(command, prog="x", args=["--out", path]) == Path(path)
