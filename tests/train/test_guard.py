"""A loss that is no number stops the run and names its samples; nothing of it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from janus.model.checkpoints.model_folder import load_janus, save_janus
from janus.model.network import Janus
from janus.packed import TASK_IDS, PackedBatch, TaskLosses
from janus.train.checkpoint import committed
from janus.train.guard import NonFiniteError, check_finite
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.recipe import Checkpoint
from janus.train.record import Inputs
from tests.train.little import little_recipe
from tests.train.steps import QUIET

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

DOCUMENTS = [[("text", b"\x01" * 16), ("generation", b"\x02" * 16)], [("generation", b"\x03" * 16)]]


def test_names_the_task_and_the_samples_of_its_micro_batch() -> None:
    sums = [[0.0, 1.0, 1.0], [0.0, 0.0, float("inf")]]
    with pytest.raises(NonFiniteError, match=f"step 7: the generation loss is inf.*samples {'03' * 16}$"):
        check_finite(7, sums, {"all": float("nan")}, DOCUMENTS)


def test_names_the_module_whose_gradient_is_bad() -> None:
    norms = {"all": float("nan"), "llm": float("nan"), "image_head": 1.0}
    with pytest.raises(NonFiniteError, match=r"step 7: the gradient of llm is not finite.*01010101.*03030303"):
        check_finite(7, [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], norms, DOCUMENTS)


def test_finite_numbers_pass() -> None:
    check_finite(7, [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], {"all": 1.0}, DOCUMENTS)


def test_a_run_stops_at_the_bad_step(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text loss of the third step is made infinite, as an overflow would."""
    packed_loss, batches = Janus.packed_loss, []

    def overflowing(self: Janus, batch: PackedBatch) -> TaskLosses:
        batches.append(batch)
        losses = packed_loss(self, batch)
        factor = torch.ones(len(TASK_IDS))
        factor[TASK_IDS["text"]] = float("inf") if len(batches) == 3 else 1.0
        return TaskLosses(losses.sums * factor, losses.counts)

    monkeypatch.setattr(Janus, "packed_loss", overflowing)
    recipe: Any = little_recipe(2, steps=9, checkpoint=Checkpoint(every=1))
    with pytest.raises(NonFiniteError, match="step 3: the text loss is inf") as caught:
        train(recipe, Inputs(model, corpus, tmp_path), Console(quiet=True), device="cpu")
    for uid, task in zip(batches[2].uids, batches[2].tasks, strict=True):
        assert (uid.hex() in str(caught.value)) == (task == "text")
    assert committed(tmp_path / "checkpoints")[-1][0] <= 2
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_weights_that_are_no_numbers_are_blamed_not_samples(model: Path, corpus: Path, tmp_path: Path) -> None:
    janus, processor = load_janus(model)
    with torch.no_grad():
        janus.model.language_model.layers[1].mlp.up_proj.weight[3, :2] = float("nan")
    save_janus(tmp_path / "model", janus, processor)
    said = r"^\S+/model: 2 of the 2,048 numbers of model.language_model.layers.1.mlp.up_proj.weight are not finite"
    with pytest.raises(ValueError, match=said) as caught:
        train(little_recipe(2), Inputs(tmp_path / "model", corpus, tmp_path / "run"), QUIET, device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
