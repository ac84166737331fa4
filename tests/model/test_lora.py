"""Adapters: nothing changes at the start, gradients on every path, merged equals unmerged, peft reads and agrees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from janus.model.checkpoints.adapter import merge_adapter, read_adapter, write_adapter
from janus.model.checkpoints.model_folder import load_janus, save_janus
from janus.model.lora import Adapter, LoraLinear, adaptable, add_adapters, is_adapter, merge_tensors, row_norms
from janus.model.network import MODULES, Janus
from tests.model.packs import generation, pack, text, understanding
from tests.model.toy import toy_janus

PARTS = ("llm", "understanding_adaptor", "generation_adaptor", "image_head", "understanding_encoder", "text_head")


def adapted(adapter: Adapter, *, trained: bool = True) -> Janus:
    """The toy with adapters everywhere, as after some training: B no longer zero, lengths no longer those of W."""
    model, _ = toy_janus()
    model.requires_grad_(False)
    add_adapters(model, adaptable(model, [MODULES[part] for part in PARTS]), adapter, seed=3)
    if trained:
        generator = torch.Generator().manual_seed(5)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B.weight"):
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
            elif name.endswith("lora_magnitude_vector"):
                parameter.data.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def outputs(model: Janus) -> dict[str, torch.Tensor]:
    """Text logits with a picture, and code logits, of fixed inputs."""
    ids = torch.randint(0, 250, (2, 24), generator=torch.Generator().manual_seed(1))
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    codes = torch.arange(32).view(2, 16) * 3
    with torch.no_grad():
        words = model.get_input_embeddings()(ids)
        pictures = model.image_features(pixels)
        drawn = model.prepare_embeddings_for_image_generation(codes)
        hidden = model.model.language_model(
            inputs_embeds=torch.cat([words, pictures, drawn], dim=1), use_cache=False
        ).last_hidden_state
        return {"text": model.lm_head(hidden), "codes": model.model.generation_head(hidden)}


ADAPTERS = [Adapter(4, 8.0), Adapter(3, 2.0, dora=True)]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["lora", "dora"])
def test_a_new_adapter_changes_nothing(adapter: Adapter) -> None:
    model, _ = toy_janus()
    before = outputs(model)
    after = outputs(adapted(adapter, trained=False))
    for name, logits in before.items():
        torch.testing.assert_close(after[name], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["lora", "dora"])
def test_merged_equals_unmerged(adapter: Adapter) -> None:
    model = adapted(adapter)
    expected, plain = outputs(model), toy_janus()[0]
    untouched = outputs(plain)
    plain.load_state_dict(merge_tensors(model.state_dict(), adapter))
    merged = outputs(plain)
    for name, logits in expected.items():
        assert (merged[name] - logits).abs().max() <= 1e-5 * logits.abs().max().clamp(min=1)
        assert (untouched[name] - logits).abs().max() > 0.05  # the adapter does something


def test_a_layer_is_what_the_papers_say() -> None:
    """Against the formulas, written out in float64."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5)
    x = torch.randn(7, 6)
    for adapter in (Adapter(2, 3.0), Adapter(2, 3.0, dora=True)):
        layer = LoraLinear(nn.Linear(6, 5), adapter, 0)
        layer.weight, layer.bias = base.weight, base.bias
        layer.lora_B.weight.data.normal_()
        weight = base.weight.double() + 1.5 * layer.lora_B.weight.double() @ layer.lora_A.weight.double()
        if adapter.dora:
            layer.lora_magnitude_vector.data.uniform_(0.5, 2)  # type: ignore[union-attr]
            weight = weight / weight.norm(dim=1, keepdim=True) * layer.lora_magnitude_vector.double()[:, None]
        expected = x.double() @ weight.T + base.bias.double()
        torch.testing.assert_close(layer(x), expected.float(), rtol=0, atol=1e-6)
        assert layer.lora_A.weight.abs().max() <= 1 / 6**0.5


def test_names_of_the_model_stay_and_only_adapters_train() -> None:
    plain = toy_janus()[0].state_dict()
    model = adapted(ADAPTERS[1])
    state = model.state_dict()
    assert set(plain) == {name for name in state if not is_adapter(name)}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(state) - set(plain)
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}


def test_a_start_depends_on_seed_and_name_alone() -> None:
    def starts(layers: list[str], seed: int) -> dict[str, torch.Tensor]:
        model, _ = toy_janus()
        add_adapters(model, layers, Adapter(2, 2), seed=seed)
        return {name: tensor for name, tensor in model.state_dict().items() if name.endswith("lora_A.weight")}

    layers = adaptable(toy_janus()[0], [MODULES["llm"]])
    forwards, backwards = starts(layers, 1), starts(layers[::-1], 1)
    assert all(torch.equal(tensor, backwards[name]) for name, tensor in forwards.items())
    name = f"{layers[0]}.lora_A.weight"
    assert torch.equal(starts(layers[:1], 1)[name], forwards[name])
    assert not torch.equal(starts(layers[:1], 2)[name], forwards[name])
    assert len({tensor.sum().item() for tensor in forwards.values()}) == len(forwards)


@pytest.mark.parametrize("task", ["understanding", "text", "generation"])
def test_every_task_gives_gradients_to_its_path(task: str) -> None:
    model = adapted(Adapter(4, 8.0, dora=True)).train()
    document = {"understanding": understanding(5, 1), "text": text(9, 2), "generation": generation(4, 3)}[task]
    model.packed_loss(pack([[document]], 64)).sums.sum().backward()
    silent = {
        "understanding": ("generation_adaptor", "image_head"),
        "text": ("generation_adaptor", "image_head", "understanding_encoder", "understanding_adaptor"),
        "generation": ("understanding_encoder", "understanding_adaptor", "text_head"),
    }[task]
    for part in PARTS:
        gradients = {n: p.grad for n, p in model.get_submodule(MODULES[part]).named_parameters() if p.requires_grad}
        assert gradients
        assert all(gradient is not None for gradient in gradients.values()), (
            part
        )  # zeros where a task has no use for it
        moved = any(bool(gradient.abs().max() > 0) for gradient in gradients.values())
        assert moved == (part not in silent), part


def test_dropout_acts_in_training_only() -> None:
    base = nn.Linear(64, 8)
    layer = LoraLinear(base, Adapter(4, 4, dropout=0.5), 0)
    layer.lora_B.weight.data.normal_()
    x = torch.randn(3, 64)
    assert not torch.equal(layer(x), layer(x))
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["lora", "dora"])
def test_a_folder_comes_back_and_merges(adapter: Adapter, tmp_path: Path) -> None:
    model = adapted(adapter)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    bias = model.model.aligner.fc1.bias.detach() + 1
    write_adapter(tmp_path / "a", adapter, trained | {"model.aligner.fc1.bias": bias}, whole=[], base="toy")
    found = read_adapter(tmp_path / "a")
    assert found.adapter == adapter
    assert found.tensors.keys() == trained.keys() | {"model.aligner.fc1.bias"}
    plain = toy_janus()[0].state_dict()
    merged = merge_adapter(plain, found.adapter, found.tensors, where="a")
    expected = merge_tensors(model.state_dict(), adapter)
    assert merged.keys() == plain.keys()
    for name, tensor in expected.items():
        assert torch.equal(merged[name], bias if name == "model.aligner.fc1.bias" else tensor), name
    half = merge_adapter({n: t.bfloat16() for n, t in plain.items()}, found.adapter, found.tensors, where="a")
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"r": 0}, "r is 0, expected a positive number"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"use_rslora": True}, "use_rslora is True, which janus cannot merge"),
        ({"r": 5}, r"lora_A.weight has shape \(4, 64\), expected \(5, 64\)"),
    ],
)
def test_another_adapter_is_one_line(tmp_path: Path, change: dict, message: str) -> None:
    model = adapted(ADAPTERS[0])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and "q_proj" in name}
    write_adapter(tmp_path / "a", ADAPTERS[0], trained, whole=[], base="toy")
    (tmp_path / "a" / "SHA256SUMS").unlink()
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    def read() -> None:
        found = read_adapter(tmp_path / "a")
        merge_adapter(toy_janus()[0].state_dict(), found.adapter, found.tensors, where="a")

    with pytest.raises(ValueError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_model_is_one_line() -> None:
    with pytest.raises(ValueError, match="is on a part that the model does not have"):
        merge_adapter({}, Adapter(2, 2), {"x.lora_A.weight": torch.zeros(2, 3)}, where="a")


@pytest.mark.integration
@pytest.mark.parametrize("adapter", ADAPTERS, ids=["lora", "dora"])
def test_peft_opens_the_adapter_on_the_exported_model_and_computes_the_same(adapter: Adapter, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import JanusForConditionalGeneration

    model = adapted(adapter)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    embedding = "model.generation_embeddings.weight"
    trained[embedding] = model.state_dict()[embedding] * 1.5
    with torch.no_grad():
        model.get_parameter(embedding).copy_(trained[embedding])
    plain, processor = toy_janus()
    save_janus(tmp_path / "model", plain, processor)
    write_adapter(tmp_path / "a", adapter, trained, whole=["model.generation_embeddings"], base="toy")

    theirs = peft.PeftModel.from_pretrained(
        JanusForConditionalGeneration.from_pretrained(tmp_path / "model"), tmp_path / "a"
    )
    saved = {name for name, _ in theirs.named_parameters() if "lora_" in name}
    assert len(saved) == sum(map(is_adapter, trained))
    inner = theirs.base_model.model
    expected = outputs(model)
    inner.image_features = lambda pixels: inner.model.get_image_features(pixels).pooler_output
    for name, logits in outputs(inner).items():
        torch.testing.assert_close(logits, expected[name], rtol=0, atol=5e-5)
    del inner.image_features
    # And what peft saves, we merge to what peft merges.
    theirs.save_pretrained(tmp_path / "b")
    found = read_adapter(tmp_path / "b")
    merged = merge_adapter(plain.state_dict(), found.adapter, found.tensors, where="b")
    for name, tensor in theirs.merge_and_unload().state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.integration
def test_4_bit_weights_stay_near_and_give_gradients() -> None:
    pytest.importorskip("bitsandbytes")
    from janus.model.quantized import QuantizedLoraLinear

    torch.manual_seed(0)
    base = nn.Linear(128, 64)
    weight = base.weight.detach().clone()
    for adapter in (Adapter(4, 8.0), Adapter(4, 8.0, dora=True)):
        base.weight = nn.Parameter(weight.clone())
        layer = QuantizedLoraLinear(base, adapter, 0)
        assert (layer.weight.dtype, layer.weight.numel()) == (torch.uint8, 64 * 128 // 2)
        assert F.cosine_similarity(layer.plain_weight().flatten(), weight.flatten(), dim=0) > 0.99
        layer.lora_B.weight.data.normal_()
        x = torch.randn(3, 128, requires_grad=True)
        whole = layer.plain_weight() + layer.lora_B.weight @ layer.lora_A.weight * 2
        if adapter.dora:
            whole = whole * (layer.lora_magnitude_vector / row_norms(whole))[:, None]  # type: ignore[operator]
        torch.testing.assert_close(layer(x), F.linear(x, whole, base.bias), rtol=0, atol=1e-4)
        layer(x).sum().backward()
        assert x.grad is not None
        assert {n for n, p in layer.named_parameters() if p.grad is not None} >= {"lora_A.weight", "lora_B.weight"}
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16


def test_what_reads_a_folder_does_not_take_an_adapter_for_a_model(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", ADAPTERS[0], {}, whole=[], base="toy")
    with pytest.raises(FileNotFoundError, match=r"config.json: not found"):
        load_janus(tmp_path / "a")
