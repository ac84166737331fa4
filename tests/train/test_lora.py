"""Fine-tuning by adapters: what moves, what is written, resume, both layouts, and what it takes of memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

from janus.export import main as export
from janus.model.checkpoints.adapter import merge_adapter, read_adapter
from janus.model.checkpoints.convert import read_checkpoint, write_deepseek
from janus.model.checkpoints.model_folder import load_janus, open_model, save_janus
from janus.model.config import make_config
from janus.model.lora import LoraLinear, is_adapter
from janus.model.network import Janus
from janus.model.presets import preset_config
from janus.model.processor import Processor
from janus.train.__main__ import read_command
from janus.train.card import training_bytes
from janus.train.optim import module_of
from janus.train.presets import recipe
from janus.train.recipe import Checkpoint, Lora, Optimizer, Parallel, Recipe
from janus.train.record import Inputs
from janus.train.trained import choose_trained, weight_types
from tests.data.make import TOKENS
from tests.train.little import VOCABULARY, little_recipe, little_tokenizer, write_corpus
from tests.train.ranks import run_ranks
from tests.train.test_resume import as_if_killed, curve, train_quietly, weights

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

STEPS, SAVED = 6, 3
MODULES_BY_ADAPTER = ("llm", "understanding_adaptor", "generation_adaptor", "image_head", "understanding_encoder")


def lora_recipe(*, steps: int = STEPS, train: tuple = (), **lora: object) -> Recipe:
    """Stage 3 by adapters on every path, saved after half of its steps."""
    start = little_recipe(3, steps=steps, checkpoint=Checkpoint(every=SAVED, keep=9))
    adapters = Lora(**{"rank": 4, "alpha": 8.0, "modules": MODULES_BY_ADAPTER, **lora})  # type: ignore[arg-type]
    return replace(start, train=train, lora=adapters, optimizer=Optimizer("adamw", lr=5e-3))


def write_plain_model(folder: Path) -> Path:
    """As `write_model`, but a plain Janus with VQ-16, which either layout holds."""
    config = make_config(
        text=LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=TOKENS.bos, eos_token_id=TOKENS.eos,
            pad_token_id=TOKENS.pad,
        ),
        vision=JanusVisionConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=16, mlp_ratio=2.0, image_size=32, patch_size=16
        ),
        vq=JanusVQVAEConfig(
            num_embeddings=32, embed_dim=4, base_channels=32, latent_channels=32, num_res_blocks=1, num_patches=2
        ),
        image_token_id=TOKENS.image,
    )  # fmt: skip
    torch.manual_seed(0)
    save_janus(folder, Janus(config).float(), Processor.from_config(config, little_tokenizer(), style="janus"))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> Callable[[Recipe], Path]:
    """Run folder of an unbroken run of a recipe; made at the first call."""
    made: dict[str, Path] = {}

    def get(recipe: Recipe) -> Path:
        key = repr(recipe)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("run") / "run"
            assert train_quietly(recipe, Inputs(model, corpus, made[key]))
        return made[key]

    return get


def test_only_adapters_and_modules_asked_for_move(
    finished: Callable[[Recipe], Path], model: Path, tmp_path: Path
) -> None:
    out = finished(lora_recipe(train=("code_embedding",)))
    before, after = open_model(model).tensors(), open_model(out / "model").tensors()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    found = read_adapter(out / "adapter")
    adapted = {f"{name.rsplit('.lora_', 1)[0]}.weight" for name in found.tensors if is_adapter(name)}
    assert moved == adapted | {"model.generation_embeddings.weight"}
    assert {module_of(name) for name in adapted} == set(MODULES_BY_ADAPTER)
    merged = merge_adapter(before, found.adapter, found.tensors, where="")
    assert all(torch.equal(merged[name], after[name]) for name in before)
    losses = [line["loss"] for line in curve(out)]
    assert set(losses[0]) == {"all", "understanding", "text", "generation"}
    assert losses[-1]["all"] < losses[0]["all"]


@pytest.mark.parametrize("lora", [{}, {"dora": True}, {"dropout": 0.3}], ids=["lora", "dora", "dropout"])
def test_a_resumed_run_has_the_same_bits(
    finished: Callable[[Recipe], Path], model: Path, corpus: Path, tmp_path: Path, lora: dict
) -> None:
    recipe = lora_recipe(train=("code_embedding",), **lora)
    calm = finished(recipe)
    out = as_if_killed(calm, tmp_path / "run")
    assert train_quietly(recipe, Inputs(model, corpus, out))
    assert curve(out) == curve(calm)
    expected, found = weights(calm), weights(out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_dropout_does_something(finished: Callable[[Recipe], Path]) -> None:
    assert curve(finished(lora_recipe(dropout=0.3)))[1]["loss"] != curve(finished(lora_recipe()))[1]["loss"]


def test_a_checkpoint_is_exported_merged_or_beside_its_adapter(
    finished: Callable[[Recipe], Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = finished(lora_recipe(train=("code_embedding",)))

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments), "--dtype", "as-stored"])
        export()

    run("--run", out, "--out", tmp_path / "merged")
    run("--run", out, "--out", tmp_path / "apart", "--lora.no-merge")
    run("--run", out, "--step", SAVED, "--out", tmp_path / "half")
    run(tmp_path / "apart", "--adapter", tmp_path / "apart" / "adapter", "--out", tmp_path / "joined")
    start, end = open_model(model).tensors(), open_model(out / "model").tensors()
    found = {name: open_model(tmp_path / name).tensors() for name in ("merged", "apart", "half", "joined")}
    for name, tensor in end.items():
        assert torch.equal(found["merged"][name], tensor), name
        assert torch.equal(found["joined"][name], tensor), name
        assert torch.equal(found["apart"][name], start[name]), name
    assert any(not torch.equal(found["half"][name], tensor) for name, tensor in end.items())
    with pytest.raises(ValueError, match=r"--adapter .* is for a model folder"):
        run("--run", out, "--adapter", out / "adapter", "--out", tmp_path / "x")


@torch.no_grad()
def test_either_layout_is_fine_tuned_as_it_is_and_exported_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tasks, one command each; the same run to the last bit, and the same logits from each export."""
    hf, deepseek = write_plain_model(tmp_path / "hf"), tmp_path / "deepseek"
    write_deepseek(read_checkpoint(hf), deepseek)
    assert open_model(deepseek).layout == "deepseek"
    write_corpus(tmp_path / "corpus", hf)
    with torch.enable_grad():
        for start in (hf, deepseek):
            inputs = Inputs(start, tmp_path / "corpus", tmp_path / f"run-{start.name}")
            assert train_quietly(lora_recipe(), inputs)
    runs = [tmp_path / "run-hf", tmp_path / "run-deepseek"]
    assert curve(runs[0]) == curve(runs[1])
    ids = torch.arange(6, 30)[None]
    logits = []
    for run in runs:
        for layout in ("hf", "deepseek"):
            out = tmp_path / f"{run.name}-{layout}"
            arguments = ["export", str(run / "model"), "--to", layout, "--out", str(out)]
            monkeypatch.setattr(sys, "argv", arguments)
            export()
            assert open_model(out).layout == layout
            janus, _ = load_janus(out)
            codes = janus.prepare_embeddings_for_image_generation(torch.arange(4)[None])
            logits.append(
                torch.cat([janus(input_ids=ids).logits.flatten(), janus.model.generation_head(codes).flatten()])
            )
    assert all(torch.equal(logits[0], other) for other in logits[1:])


@pytest.mark.slow
def test_sharded_and_whole_runs_agree(model: Path, corpus: Path, tmp_path: Path) -> None:
    """FSDP keeps pieces of bf16 frozen weights beside fp32 adapters; a resumed run has the same bits."""
    whole = lora_recipe(train=("code_embedding",))
    whole = replace(whole, data=replace(whole.data, micro_batch=1))
    sharded = replace(whole, parallel=Parallel(mode="fsdp"))
    for name, wanted in (("whole", whole), ("sharded", sharded)):
        assert all(run_ranks(2, train_quietly, wanted, Inputs(model, corpus, tmp_path / name)))
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "sharded")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)
    half = replace(sharded, precision="bf16")
    assert all(run_ranks(2, train_quietly, half, Inputs(model, corpus, tmp_path / "half")))
    out = as_if_killed(tmp_path / "half", tmp_path / "again")
    assert all(run_ranks(2, train_quietly, half, Inputs(model, corpus, out)))
    before, after = weights(tmp_path / "half"), weights(out)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert curve(out) == curve(tmp_path / "half")


@pytest.mark.integration
@pytest.mark.parametrize("change", ["4bit", "adamw8bit"])
def test_quantised_runs_train_and_resume(
    finished: Callable[[Recipe], Path], model: Path, corpus: Path, tmp_path: Path, change: str
) -> None:
    """Frozen weights in 4 bits, or AdamW's averages in 8 (of tensors with 4,096 values and more)."""
    pytest.importorskip("bitsandbytes")
    recipe = lora_recipe(quantize="4bit") if change == "4bit" else lora_recipe(rank=80, train=("text_head",))
    if change == "adamw8bit":
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, name="adamw8bit"))
    calm = finished(recipe)
    losses = [line["loss"]["all"] for line in curve(calm)]
    assert losses[-1] < losses[0]
    out = as_if_killed(calm, tmp_path / "run")
    assert train_quietly(recipe, Inputs(model, corpus, out))
    assert curve(out) == curve(calm)
    expected, found = weights(calm), weights(out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_what_is_not_installed_is_one_line(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.delitem(sys.modules, "janus.model.quantized", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'janus-forge\[quantized\]'") as caught:
        train_quietly(lora_recipe(quantize="4bit"), Inputs(model, corpus, tmp_path / "run"))
    assert "\n" not in str(caught.value)


def test_the_command_line_trains_nothing_whole_beside_adapters() -> None:
    words = "--model m --data d --out o --stage 3 --preset janus-pro-1b"
    assert "llm" in read_command(words.split()).recipe.train
    adapted = read_command([*words.split(), "--lora.rank", "16"]).recipe
    assert (adapted.train, adapted.lora.rank) == ((), 16)
    assert adapted.adapted == ("llm", "understanding_adaptor", "generation_adaptor", "image_head")
    more = "--lora.rank 8 --lora.modules llm text_head --train image_head --lora.dora"
    chosen = read_command([*words.split(), *more.split()]).recipe
    assert (chosen.train, chosen.adapted, chosen.lora.dora) == (("image_head",), ("llm", "text_head"), True)


def test_a_7b_with_adapters_fits_the_stated_memory() -> None:
    """On the meta device, against the arithmetic: 2 bytes a frozen weight, 16 an adapter's, 4 the VQ tokenizer's."""
    recipe_7b = recipe("janus-pro-7b", 3, {"lora": {"rank": 16}})
    with torch.device("meta"):
        janus = Janus(preset_config("janus-pro-7b", image_token_id=100_594))
        plain = {name: p.numel() for name, p in janus.named_parameters()}
        types = weight_types(recipe_7b)
        assert callable(types)
        for name, parameter in janus.named_parameters():
            if module_of(name) != "vq":
                parameter.data = parameter.data.to(types(name))
        trained = choose_trained(janus, recipe_7b.train, recipe_7b.lora, seed=0)
    layers = [layer for layer in janus.modules() if isinstance(layer, LoraLinear)]
    # Per LLM layer: q, k, v and o (4096 to 4096), gate and up (to 11008), down (from 11008).
    llm = 30 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    rest = 16 * sum(layer.in_features + layer.out_features for layer in layers) - llm
    adapters = sum(parameter.numel() for parameter in trained.values())
    assert adapters == llm + rest
    assert llm == 37_478_400
    assert len(layers) == 30 * 7 + 2 + 2 + 2
    vq = sum(size for name, size in plain.items() if module_of(name) == "vq")
    expected = 2 * (sum(plain.values()) - vq) + 4 * vq + 16 * adapters
    assert training_bytes(janus, recipe_7b) == expected
    assert expected / 2**30 == pytest.approx(14.5, abs=0.05)  # docs/finetune.md
