"""The commands of README's "A model to hand over", as a newcomer types them, on a folder of JPEGs with captions."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY


def commands() -> list[str]:
    """The lines of the block under the heading, continued lines joined."""
    section = (REPOSITORY / "README.md").read_text().split("## A model to hand over\n")[1]
    block = section.split("```\n")[1]
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.slow
def test_a_folder_of_photos_becomes_a_model_that_opens_in_transformers(tmp_path: Path) -> None:
    from demo.base.build import tokenizer_texts
    from demo.base.data import captions, pictures
    from demo.base.tokenizer import fit_tokenizer

    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "examples").symlink_to(REPOSITORY / "examples")
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, (picture, caption) in enumerate(zip(pictures(0, 40), captions(0, 40), strict=True)):
        image = Image.fromarray(picture).resize((256, 256), Image.Resampling.NEAREST)
        image.save(photos / f"{index:02}.jpg", quality=95)
        (photos / f"{index:02}.txt").write_text(caption)
    fit_tokenizer(tokenizer_texts(0)).save_pretrained(checkout / "runs/demo/base/janus")

    environment = {**os.environ, "HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": ""}
    shown = ""
    for line in commands():
        program, *words = shlex.split(line)
        start = [sys.executable, str(REPOSITORY / "janus_forge.py")] if program == "janus-forge" else [sys.executable]
        assert program in ("janus-forge", "python")
        done = subprocess.run([*start, *words], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, line
        shown += done.stdout
    assert "JanusForConditionalGeneration" in shown
    assert json.loads((checkout / "models/mini-deepseek/config.json").read_text())["model_type"] == "multi_modality"
