"""The preset `mini`: a model that a newcomer can make and hand over."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import JanusForConditionalGeneration, JanusVisionModel, JanusVQVAE, LlamaModel

from janus import assemble, export
from janus.model.checkpoints.model_folder import load_janus
from tests.model.toy import toy_tokenizer


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toy_tokenizer().save_pretrained(tmp_path / "tokenizer")
    words = ["--preset", "mini", "--tokenizer", str(tmp_path / "tokenizer"), "--out", str(tmp_path / "mini")]
    monkeypatch.setattr(sys, "argv", ["assemble", *words])
    assemble.main()
    return tmp_path / "mini"


def exported(folder: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    out = folder.parent / f"{folder.name}-{layout}"
    monkeypatch.setattr(sys, "argv", ["export", str(folder), "--to", layout, "--out", str(out)])
    export.main()
    return out


def test_it_opens_in_plain_transformers_and_computes_the_same(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(mini, "hf", monkeypatch)
    plain, loading = JanusForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    body = plain.model
    assert (type(plain), type(body.vision_model)) == (JanusForConditionalGeneration, JanusVisionModel)
    assert (type(body.vqmodel), type(body.language_model)) == (JanusVQVAE, LlamaModel)
    assert plain.num_parameters() < 5_000_000

    ours, processor = load_janus(mini)
    size, tokens = processor.image_size, processor.understanding_tokens
    ids = torch.tensor([[processor.bos_id, *[processor.image_id] * tokens, 104, 105]])
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected, found = (
            model.eval()(input_ids=ids, pixel_values=pixels, use_cache=False).logits for model in (ours, plain)
        )
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        codes = body.vqmodel.encode(pixels).image_tokens
        assert codes.numel() == processor.generation_tokens
        picture = body.vqmodel.decode(codes.reshape(1, -1))
        assert picture.numel() == 3 * size * size


def test_it_goes_to_the_layout_of_deepseek_and_back(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = exported(mini, "deepseek", monkeypatch)
    back = exported(theirs, "hf", monkeypatch)
    before, after = (load_file(folder / "model.safetensors") for folder in (mini, back))
    assert before.keys() == after.keys()
    # What comes from DeepSeek's layout has its codebook's rows at unit norm; theirs decides by direction alone.
    codebook = "model.vqmodel.quantize.embedding.weight"
    torch.testing.assert_close(after.pop(codebook), F.normalize(before.pop(codebook), dim=-1))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
