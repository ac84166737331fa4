"""Captioners that load a model: answers against the model's own, one picture at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from janus.model.checkpoints.model_folder import load_janus, save_janus
from janus.model.inference.answering import answer
from pipelines.build import build
from pipelines.captioners import Answer, Asked, load_engine
from pipelines.signals import Device
from schemas.sample import IMAGE_MARK, Message
from schemas.spec import Operations, Sampling
from tests.model.toy import toy_janus
from tests.model.toy_llava import write_llava
from tests.pipelines.world import folder_source, image_folder, picture, spec


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "janus"
    save_janus(folder, *toy_janus())
    return folder


def asked(count: int, prompt: str = "What is it?") -> list[Asked]:
    return [Asked(picture(number).convert("RGB"), prompt, 1000 + number) for number in range(count)]


def answers(name: str, model: Path, pictures: list[Asked], **sampling: Any) -> list[Answer]:
    engine = load_engine(name, {"model": str(model)})
    captioner = engine.module.Captioner(engine.options, Sampling(**sampling), Device("cpu", 4, 1))
    found: dict[int, Answer] = {}
    captioner.describe(pictures, lambda index, said: found.update({index: said}))
    return [found[index] for index in range(len(pictures))]


@pytest.mark.parametrize("name", ["transformers", "janus"])
def test_an_answer_depends_on_its_picture_and_seed_alone(name: str, llava: Path, toy: Path) -> None:
    model = {"transformers": llava, "janus": toy}[name]
    pictures = asked(3)
    plain = answers(name, model, pictures, max_tokens=12)
    assert [answers(name, model, [one], max_tokens=12)[0] for one in reversed(pictures)] == plain[::-1]
    sampled = answers(name, model, pictures, max_tokens=12, temperature=1.0)
    assert answers(name, model, pictures[::-1], max_tokens=12, temperature=1.0) == sampled[::-1]
    assert sampled != plain
    other = [Asked(one.picture, one.prompt, one.seed + 1) for one in pictures]
    assert answers(name, model, other, max_tokens=12, temperature=1.0) != sampled


def test_a_janus_says_what_it_says_elsewhere(toy: Path) -> None:
    model, processor = load_janus(toy)
    pictures = asked(3, "Describe it.")
    ask = [Message(role="user", text=f"{IMAGE_MARK}\nDescribe it.")]
    expected = [answer(model, processor, [ask], [[one.picture]], max_new_tokens=9)[0] for one in pictures]
    found = answers("janus", toy, pictures, max_tokens=9)
    assert [one.text for one in found] == expected
    # A model of random weights does not come to an end: what it says is cut.
    assert all(one.truncated for one in found)


def test_a_transformers_model_says_what_generate_gives(llava: Path) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(llava).eval()
    processor = LlavaProcessor.from_pretrained(llava)
    (one,) = asked(1, "Describe it.")
    inputs = processor(images=one.picture, text="<image_placeholder>Describe it.:", return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    logits = []
    ids = inputs["input_ids"]
    with torch.inference_mode():  # greedily, without a cache
        for _ in range(7):
            mask = torch.ones_like(ids)
            step = model(input_ids=ids, attention_mask=mask, pixel_values=inputs["pixel_values"]).logits[0, -1]
            logits.append(int(step.argmax()))
            ids = torch.cat([ids, step.argmax().view(1, 1)], dim=1)
    assert ids.shape[1] == length + 7
    (found,) = answers("transformers", llava, [one], max_tokens=7)
    assert found.text == processor.tokenizer.decode(logits, skip_special_tokens=True)
    assert found.truncated == (processor.tokenizer.eos_token_id not in logits)


@pytest.mark.slow
def test_a_corpus_is_recaptioned_by_a_janus(tmp_path: Path, model: Path, toy: Path) -> None:
    """Random weights say nothing that ends: every row is accounted for, with its reason."""
    folder = image_folder(tmp_path / "photos", [1, 2, 3])
    recaption = {"engine": "janus", "options": {"model": str(toy)}, "sampling": {"max_tokens": 4}}
    source = folder_source(folder, recaption=1.0, allow_empty=True)
    given = spec(model, [source], recaption=recaption, max_failed_share=1.0)
    funnel = build(given, tmp_path / "corpus", Operations()).funnel["photos"]
    assert funnel.pop("rows") == 3
    assert funnel.pop("kept") == 0
    assert sum(funnel.values()) == 3
    assert {*funnel} <= {"recaption_truncated", "recaption_empty", "recaption_repeated"}


def test_what_is_no_model_is_one_line(tmp_path: Path, model: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="not a model that transformers opens as image-text-to-text") as error:
        answers("transformers", tmp_path, asked(1))
    assert "\n" not in str(error.value)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"recaption\.options\.model: .*no \.safetensors file"):
        print(load_engine("transformers", {"model": str(tmp_path)}).identity)
