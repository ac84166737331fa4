"""The recipes are the published tables (arXiv 2410.13848 table 1, Janus-Pro report table 2) and refuse nonsense."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from janus.model.network import MODULES
from janus.presets import NAMES as PRESETS
from janus.train.presets import STAGES, recipe
from janus.train.recipe import Lora, ModuleName, Optimizer, Parallel, Recipe

# preset, stage: lr, schedule, weight decay, warm-up, steps, batch, ratio
TABLE = {
    ("janus-1.3b", 1): (1e-3, "cosine", 0.0, 300, 10_000, 256, (1, 0, 1)),
    ("janus-1.3b", 2): (1e-4, "constant", 0.0, 5_000, 180_000, 512, (2, 3, 5)),
    ("janus-1.3b", 3): (2e-5, "constant", 0.1, 0, 24_000, 256, (7, 3, 10)),
    ("janus-pro-1b", 1): (1e-3, "constant", 0.0, 600, 20_000, 256, (1, 0, 3)),
    ("janus-pro-1b", 2): (1e-4, "constant", 0.0, 5_000, 270_000, 512, (2, 3, 5)),
    ("janus-pro-1b", 3): (4e-5, "constant", 0.0, 0, 80_000, 128, (5, 1, 4)),
    ("janus-pro-7b", 1): (1e-3, "constant", 0.0, 600, 20_000, 256, (1, 0, 3)),
    ("janus-pro-7b", 2): (1e-4, "constant", 0.0, 5_000, 270_000, 512, (2, 3, 5)),
    ("janus-pro-7b", 3): (4e-5, "constant", 0.0, 0, 40_000, 128, (5, 1, 4)),
}


@pytest.mark.parametrize(("preset", "stage"), TABLE)
def test_published_presets_are_the_tables(preset: str, stage: int) -> None:
    r = recipe(preset, stage)
    found = (
        r.optimizer.lr,
        r.schedule.shape,
        r.optimizer.weight_decay,
        r.schedule.warmup,
        r.steps,
        r.data.sequences,
        r.data.ratio,
    )
    assert found == TABLE[preset, stage]
    assert (r.optimizer.name, r.optimizer.betas, r.clip) == ("adamw", (0.9, 0.95), 1.0)
    assert (r.data.seq_len, r.data.caption_drop, r.data.short_caption) == (4096, 0.1, 0.25)
    assert (r.preset, r.stage) == (preset, stage)


@pytest.mark.parametrize("preset", PRESETS)
def test_stages_train_what_the_paper_says(preset: str) -> None:
    first, second, third = (set(recipe(preset, stage).train) for stage in STAGES)
    assert first - {"code_embedding"} == {"understanding_adaptor", "generation_adaptor", "image_head"}
    assert ("code_embedding" in first) == (preset in ("mini", "tiny"))
    assert second == set(MODULES) - {"understanding_encoder", "vq"}
    assert third == set(MODULES) - {"vq"}


def test_imagenet_feeds_generation_for_the_first_120k_steps_of_stage_2() -> None:
    r = recipe("janus-1.3b", 2)
    assert r.data.first_group == "imagenet"
    assert round(r.data.first_share * r.steps) == 120_000
    assert recipe("janus-pro-1b", 2).data.first_group == ""


def test_module_names_are_the_networks() -> None:
    assert set(get_args(ModuleName)) == set(MODULES)


@pytest.mark.parametrize(
    ("preset", "stage", "message"), [("janus-2b", 1, "expected one of janus-1.3b"), ("tiny", 4, "expected 1, 2 or 3")]
)
def test_unknown_recipes_are_refused(preset: str, stage: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(preset, stage)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"train": ()}, "--train is empty"),
        ({"train": ("vq",)}, "VQ tokenizer has no gradient"),
        ({"clip": 0.0}, "--clip 0.0"),
        ({"precision": "bf16"}, "--parallel.mode fsdp"),
        ({"parallel": Parallel(mode="fsdp")}, "muon needs whole matrices"),
        ({"train": ("llm",), "lora": Lora(rank=2)}, "--train and --lora.modules both name llm: it trains whole, or"),
        ({"optimizer": Optimizer(lr_scale={"llm": 2.0})}, "--optimizer.lr-scale names llm: not among the trained"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe("tiny", 1), **changes)


def numbers_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number of a recipe: its path of field names, and its value."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from numbers_of(inner, (*path, field.name))
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            yield (*path, field.name), inner


def replaced(value: Any, path: tuple[str, ...], number: Any) -> Any:
    inner = replaced(getattr(value, path[0]), path[1:], number) if path[1:] else number
    return dataclasses.replace(value, **{path[0]: inner})


ZERO_MEANS_NONE = {
    *("optimizer.weight_decay", "schedule.warmup", "schedule.floor", "checkpoint.every", "checkpoint.milestone_every"),
    *("lora.rank", "lora.dropout", "watch.sample_every", "data.first_share", "data.caption_drop", "data.short_caption"),
    "data.hold_out",
}
ANYTHING = {"stage", "data.seed", "data.corpus_stage"}


@pytest.mark.parametrize("path", [path for path, _ in numbers_of(recipe("tiny", 1))], ids=".".join)
def test_every_number_has_its_bounds(path: tuple[str, ...]) -> None:
    start, name = recipe("tiny", 1), ".".join(path)
    if name in ANYTHING:
        return
    value = dict(numbers_of(start))[path]
    wrong = [-1, *([] if name in ZERO_MEANS_NONE else [0]), *([float("nan")] if isinstance(value, float) else [])]
    for number in wrong:
        with pytest.raises(ValueError, match=name.replace("_", "[-_]") + f" {number}: ") as caught:
            replaced(start, path, number)
        assert "\n" not in str(caught.value)
    if name in ZERO_MEANS_NONE:
        replaced(start, path, 0)


def test_betas_and_factors_have_bounds() -> None:
    with pytest.raises(ValueError, match=r"--optimizer.betas \(0.9, 1.0\): expected two numbers in"):
        Optimizer(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match=r"--optimizer.lr-scale llm -1.0: expected at least 0"):
        Optimizer(lr_scale={"llm": -1.0})


def test_learning_rate_factors_name_trained_modules() -> None:
    start = recipe("tiny", 1)
    optimizer = dataclasses.replace(start.optimizer, lr_scale={"llm": 0.5})
    with pytest.raises(ValueError, match="lr-scale names llm"):
        dataclasses.replace(start, optimizer=optimizer)


def test_identity_leaves_out_what_only_changes_speed() -> None:
    start = recipe("janus-1.3b", 3)
    data = dataclasses.replace(start.data, micro_batch=1, prefetch=7)
    faster = dataclasses.replace(start, parallel=Parallel(compile=True), data=data)
    assert faster.identity() == start.identity()
    named = {field.name for field in dataclasses.fields(Recipe)}
    # Its schedule is constant: it may be lengthened.
    assert named - set(start.identity()) == {"parallel", "checkpoint", "watch", "output", "steps", "lora"}
    assert "steps" in recipe("janus-1.3b", 1).identity()
    adapted = dataclasses.replace(start, train=(), lora=Lora(rank=4))
    assert adapted.identity()["lora"]["rank"] == 4
    assert dataclasses.replace(start, clip=2.0).identity() != start.identity()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"lrr": 1.0}}, "run.toml.optimizer.lrr: no such field; did you mean lr?"),
        ({"optimizer": {"lr": "fast"}}, "run.toml.optimizer.lr: Input should be a valid number, found 'fast'"),
        ({"optimizer": 3}, "run.toml.optimizer: expected a table of fields, found 3"),
        ({"data": {"ratio": [1, 2]}}, "run.toml.data.ratio: Field required, found [1, 2]"),
        ({"steps": 1.5}, "run.toml.steps: Input should be a valid integer, found 1.5"),
        ({"train": ["llms"]}, "run.toml.train: Input should be 'understanding_encoder'"),
        ({"optimizer": {"lr": -1.0}}, "run.toml.optimizer: --optimizer.lr -1.0: expected a positive number"),
        ({"steps": 0}, "run.toml: --steps 0: expected at least 1"),
    ],
)
def test_wrong_changes_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        recipe("tiny", 1, changes, "run.toml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_changes_lie_over_the_preset() -> None:
    changes = {"train": ["llm"], "clip": float("inf"), "data": {"ratio": [0, 1, 0]}, "optimizer": {"lr": 1}}
    start = recipe("tiny", 1)
    assert recipe("tiny", 1, changes) == dataclasses.replace(
        start,
        train=("llm",),
        clip=float("inf"),
        data=dataclasses.replace(start.data, ratio=(0, 1, 0)),
        optimizer=dataclasses.replace(start.optimizer, lr=1.0),
    )
