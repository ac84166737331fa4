"""The processor: ids from the tokenizer, the same prompts as transformers', fingerprints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import JanusProcessor, PreTrainedTokenizerFast

from janus.model.checkpoints.fingerprint import fingerprints, vq_fingerprint
from janus.model.checkpoints.model_folder import VQ_PREFIX, load_processor
from janus.model.checkpoints.tokenizer import load_tokenizer
from janus.model.parts import vq_tokenizer
from janus.model.processor import Processor
from janus.model.templates import encode_sample
from schemas.sample import Message
from tests.model.toy import toy_config

WORDS = ["a red circle next to two blue squares", "how many shapes are there? User Assistant"] * 20


def tokenizer(*, bos: str = "<s>", eos: str = "</s>", extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that puts BOS first, as DeepSeek's does; without an image placeholder, as Janus-1.3B's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = [*extra, bos, eos, "<pad>", "<begin_of_image>", "<end_of_image>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=specials, initial_alphabet=letters, show_progress=False
    )
    backend.train_from_iterator(WORDS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token="<pad>")


def folder_with(path: Path, tokens: PreTrainedTokenizerFast, template: str | None = None) -> Path:
    """A model folder as it might be found: config, tokenizer, VQ weights, and a chat template if given."""
    toy_config(vocab_size=400).save_pretrained(path)
    tokens.chat_template = template
    tokens.save_pretrained(path)
    torch.manual_seed(0)
    vq = vq_tokenizer(toy_config().vq_config)
    save_file({f"{VQ_PREFIX}{name}": tensor for name, tensor in vq.state_dict().items()}, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with(tmp_path_factory.mktemp("janus"), tokenizer())


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return load_processor(folder)


def test_the_sizes_come_from_the_configuration(processor: Processor) -> None:
    sizes = (processor.image_size, processor.understanding_tokens, processor.generation_tokens)
    assert sizes == (64, 16, 16)
    assert processor.style == "janus"


def test_ids_come_from_the_tokenizer_and_the_placeholder_is_added(folder: Path, processor: Processor) -> None:
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    assert "<image_placeholder>" not in {token["content"] for token in vocabulary["added_tokens"]}
    assert processor.image_id == max(processor.tokenizer.get_vocab().values())
    names = {"<s>": processor.bos_id, "</s>": processor.eos_id, "<pad>": processor.pad_id}
    names |= {"<begin_of_image>": processor.boi_id, "<end_of_image>": processor.eoi_id}
    assert names == {name: processor.tokenizer.convert_tokens_to_ids(name) for name in names}


def test_other_ids_in_another_tokenizer(tmp_path: Path, processor: Processor) -> None:
    other = load_processor(folder_with(tmp_path, tokenizer(bos="<begin>", extra=("<one>", "<two>"))))
    assert other.bos_id == processor.bos_id + 2
    assert other.boi_id == processor.boi_id + 2


def test_special_tokens_written_out_in_a_text_stay_text(processor: Processor) -> None:
    for text in ("</s>", "a <image_placeholder> b", "<begin_of_image>"):
        ids = processor.encode(text)
        assert not {processor.eos_id, processor.image_id, processor.boi_id} & set(ids)
        assert processor.decode(ids) == text


def test_saved_and_loaded_it_is_the_same(processor: Processor, tmp_path: Path) -> None:
    toy_config(vocab_size=400).save_pretrained(tmp_path)
    processor.save(tmp_path)
    again = load_processor(tmp_path)
    assert again.tokenizer_identity() == processor.tokenizer_identity()
    assert again.image_identity() == processor.image_identity()
    assert again.tokenizer.image_token == "<image_placeholder>"


@pytest.mark.parametrize("style", ["janus", "janus-pro"])
def test_transformers_builds_the_same_prompts_from_the_saved_folder(style: str, tmp_path: Path) -> None:
    speakers = ("<|User|>", "<|Assistant|>") if style == "janus-pro" else ()
    ours = load_processor(folder_with(tmp_path, tokenizer(extra=speakers)))
    assert ours.style == style
    ours.save(tmp_path)
    assert load_processor(tmp_path).style == style

    theirs = JanusProcessor.from_pretrained(tmp_path)
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nhow many shapes?"}]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "which?"},
        {"role": "assistant", "content": "squares"},
    ]
    text = theirs.apply_chat_template(chat)
    expected = theirs(text=text, images=[Image.new("RGB", (80, 60), (200, 0, 0))])
    messages = [
        Message(role="user", text="<image>\nhow many shapes?"),
        Message(role="assistant", text="two"),
        Message(role="user", text="which?"),
        Message(role="assistant", text="squares"),
    ]
    encoded = encode_sample(ours, task="understanding", template="chat", messages=messages)
    assert encoded.input_ids == expected.input_ids[0].tolist()
    answers = [token for token, label in zip(encoded.input_ids, encoded.loss_mask, strict=True) if label]
    assert ours.tokenizer.decode(answers) == " two</s> squares</s>"
    pixels = torch.from_numpy(ours.understanding_pixels(Image.new("RGB", (80, 60), (200, 0, 0))))
    torch.testing.assert_close(ours.normalize(pixels[None]), expected.pixel_values, rtol=0, atol=0.01)

    prompt = theirs.apply_chat_template([{"role": "user", "content": "a red circle"}], add_generation_prompt=True)
    expected = theirs(text=prompt, generation_mode="image")
    encoded = encode_sample(
        ours, task="generation", template="chat", messages=[Message(role="caption", text="a red circle")]
    )
    assert encoded.input_ids[: encoded.input_ids.index(ours.boi_id) + 1] == expected.input_ids[0].tolist()


def test_the_style_of_a_folder_without_names_in_the_vocabulary_is_in_its_template(tmp_path: Path) -> None:
    template = "{{ '<|User|>: ' }}"
    assert load_processor(folder_with(tmp_path, tokenizer(), template)).style == "janus-pro"


def test_a_language_models_tokenizer_gets_what_it_lacks(tmp_path: Path) -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<eot>"], show_progress=False)
    backend.train_from_iterator(WORDS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eot>").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has no bos_token"):
        Processor.from_config(toy_config(), load_tokenizer(tmp_path), style="janus")
    complete = Processor.from_config(toy_config(), load_tokenizer(tmp_path, add_missing=True), style="janus")
    first = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()
    ids = [complete.bos_id, complete.pad_id, complete.boi_id, complete.eoi_id, complete.image_id]
    assert sorted(ids) == list(range(first, first + 5))
    assert complete.tokenizer.eos_token == "<eot>"


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config.json: not found"):
        load_processor(tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json: not found"):
        load_processor(copy)
    small = shutil.copytree(folder, tmp_path / "small")
    toy_config(vocab_size=300).save_pretrained(small)
    with pytest.raises(ValueError, match="beyond the model's vocabulary of 300"):
        load_processor(small)
    (copy / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"config.json: model_type 'llama' is not a Janus"):
        load_processor(copy)


def test_fingerprints_see_every_part(folder: Path, tmp_path: Path) -> None:
    base = fingerprints(folder, "jpeg")
    assert base == fingerprints(shutil.copytree(folder, tmp_path / "copy"), "jpeg")
    assert (base.image_size, base.understanding_tokens, base.generation_tokens, base.codebook_size) == (64, 16, 16, 128)
    assert fingerprints(folder, "raw").pixels == "raw"

    other = fingerprints(folder_with(tmp_path / "words", tokenizer(extra=("<one>",))), "jpeg")
    assert (other.tokenizer != base.tokenizer, other.vq == base.vq) == (True, True)


def test_vq_fingerprint_is_of_values_not_of_storage() -> None:
    torch.manual_seed(0)
    vq = vq_tokenizer(toy_config().vq_config).bfloat16()
    name = vq_fingerprint(vq)
    assert name == vq_fingerprint(vq.float())
    with torch.no_grad():
        vq.quantize.embedding.weight[3, 2] += 1e-3
    assert name != vq_fingerprint(vq)
