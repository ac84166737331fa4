"""Model folders: what we write opens in plain transformers, unchanged, and what they write opens here."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import JanusForConditionalGeneration, JanusProcessor

from janus.model.checkpoints import model_folder as folder_module
from janus.model.checkpoints.model_folder import load_janus, save_janus
from janus.model.checkpoints.tensors import WeightFiles
from janus.model.inference.sampling import image_prompt, sample_codes
from janus.model.inference.sampling_params import SamplingParams
from janus.model.network import Janus
from janus.model.processor import Processor
from tests.model.toy import BOI, PAD, toy_config, toy_janus

PROMPT = "two blue squares"


@pytest.fixture(scope="module")
def toy() -> tuple[Janus, Processor]:
    return toy_janus()


@pytest.fixture(scope="module")
def saved(toy: tuple[Janus, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "janus"
    save_janus(folder, *toy)
    return folder


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What transformers logs at warning level or warns about during the test."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield records
        records += [str(warning.message) for warning in caught]
    logger.removeHandler(handler)


def test_plain_transformers_opens_our_folder_and_generates_the_same(
    saved: Path, toy: tuple[Janus, Processor], complaints: list[str]
) -> None:
    """No missing or unexpected key, no warning, the same greedy image and the same greedy text."""
    model, loading = JanusForConditionalGeneration.from_pretrained(saved, output_loading_info=True)
    processor = JanusProcessor.from_pretrained(saved)
    text = processor.tokenizer.bos_token + PROMPT
    inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
    codes = model.generate(**inputs, generation_mode="image", do_sample=False)
    assert complaints == []
    assert {key: value for key, value in loading.items() if value} == {}
    ours, our_processor = toy
    assert inputs["input_ids"][0].tolist() == image_prompt(our_processor, PROMPT, "plain")
    expected = sample_codes(
        ours, our_processor, [PROMPT], cfg_scale=5.0, params=SamplingParams(temperature=0), seeds=[0]
    )
    assert torch.equal(codes, expected)
    ids = inputs["input_ids"][:, :-1]
    words = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(model.generate(ids, **words), ours.generate(ids, **words))


def test_what_transformers_saves_comes_back_byte_for_byte(toy: tuple[Janus, Processor], tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = JanusForConditionalGeneration(toy_config())
    theirs.save_pretrained(tmp_path / "theirs")
    toy[1].save(tmp_path / "theirs")
    model, processor = load_janus(tmp_path / "theirs")
    save_janus(tmp_path / "ours", model, processor)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys() == theirs.state_dict().keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name


@torch.no_grad()
def test_a_reloaded_model_computes_the_same(saved: Path, toy: tuple[Janus, Processor]) -> None:
    model, _ = load_janus(saved)
    reference = JanusForConditionalGeneration.from_pretrained(saved)
    assert not model.training
    ids = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(0))
    codes = torch.arange(32).view(2, 16)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    close = {"rtol": 1e-5, "atol": 1e-5}
    for other in (toy[0], reference):
        torch.testing.assert_close(model(input_ids=ids).logits, other(input_ids=ids).logits, **close)
        torch.testing.assert_close(
            model.prepare_embeddings_for_image_generation(codes),
            other.prepare_embeddings_for_image_generation(codes),
            **close,
        )
        hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(model.model.generation_head(hidden), other.model.generation_head(hidden), **close)
        features = other.model.get_image_features(pixels).pooler_output
        torch.testing.assert_close(model.image_features(pixels), features, **close)
        assert torch.equal(
            model.model.vqmodel.encode(pixels).image_tokens, other.model.vqmodel.encode(pixels).image_tokens
        )


def test_transformers_processor_reads_our_files(saved: Path, toy: tuple[Janus, Processor]) -> None:
    """Pixels normalised with mean and standard deviation 0.5 and padded with 127, not with CLIP's numbers."""
    theirs = JanusProcessor.from_pretrained(saved)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    ours = toy[1].normalize(torch.from_numpy(toy[1].understanding_pixels(picture))[None])
    found = theirs.image_processor(picture, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, ours, rtol=0, atol=0.02)
    assert theirs.tokenizer.convert_tokens_to_ids(theirs.tokenizer.boi_token) == BOI
    wide = theirs.image_processor(Image.new("RGB", (64, 32)), return_tensors="pt")["pixel_values"]
    assert abs(wide[0, :, 0, 0].max().item() - (127 / 255 - 0.5) / 0.5) < 1e-3


def test_generation_settings_survive_a_second_save(saved: Path, tmp_path: Path) -> None:
    """transformers drops `generation_kwargs` on reload where the file says it came from a model config."""
    assert json.loads((saved / "generation_config.json").read_text())["_from_model_config"] is False
    JanusForConditionalGeneration.from_pretrained(saved).save_pretrained(tmp_path)
    again = JanusForConditionalGeneration.from_pretrained(tmp_path).generation_config
    assert again.generation_kwargs == {"boi_token_id": BOI}
    assert (again.pad_token_id, again.guidance_scale) == (PAD, 5.0)


def test_the_text_head_is_not_tied_by_anyone(saved: Path) -> None:
    """Trap: the flag defaults to True, and a later tie_weights() would overwrite lm_head."""
    assert json.loads((saved / "config.json").read_text())["tie_word_embeddings"] is False
    model = JanusForConditionalGeneration.from_pretrained(saved)
    before = model.lm_head.weight.clone()
    model.tie_weights()
    assert torch.equal(model.lm_head.weight, before)
    assert not torch.equal(before, model.get_input_embeddings().weight)


def test_half_precision_leaves_the_vq_tokenizer_and_rotary_frequencies_alone(saved: Path) -> None:
    model, _ = load_janus(saved, dtype=torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in model.model.vqmodel.state_dict().values()} == {torch.float32}
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32


def test_sharded_weights_are_read(saved: Path, tmp_path: Path) -> None:
    model = JanusForConditionalGeneration.from_pretrained(saved)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    sharded, single = WeightFiles(tmp_path).read(), WeightFiles(saved).read()
    assert sharded.keys() == single.keys()
    assert all(torch.equal(sharded[name], single[name]) for name in single)


def test_wrong_weights_are_one_line(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "SHA256SUMS").unlink()
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.weight"]
    tensors["model.aligner.fc1.bias"] = torch.zeros(3)
    save_file(tensors | {"model.extra": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 missing \(first: lm_head.weight\); 1 unexpected .* has shape \(3,\)"):
        load_janus(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match="not a readable weights file"):
        load_janus(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights; expected one of model\.safetensors"):
        load_janus(tmp_path)


def test_a_save_that_fails_leaves_the_old_folder(
    toy: tuple[Janus, Processor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    save_janus(target, *toy)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def full_disk(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(folder_module, "write_tensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_janus(target, *toy)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_no_model_is_not_replaced(toy: tuple[Janus, Processor], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a model folder"):
        save_janus(tmp_path, *toy)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
