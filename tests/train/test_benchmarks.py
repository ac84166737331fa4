"""The training benchmarks run, and both of their sides compute the same loss."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace

import pytest
import torch
from transformers import JanusForConditionalGeneration

from benchmarks import train_cpu, train_gpu
from benchmarks.training import Text, make_step, pack, padded, run_ours
from janus.model.parts import build
from janus.train.presets import recipe
from janus.train.recipe import Optimizer
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE


def test_both_sides_have_the_same_loss() -> None:
    """Packed by us; padded and through the forward of transformers."""
    config = train_cpu.tiny_config()
    torch.manual_seed(0)
    janus = build(config).float()
    theirs = JanusForConditionalGeneration(config)
    theirs.load_state_dict(janus.state_dict())
    documents = make_step(config, (2, 3, 0), train_cpu.WORDS, 400, seed=0)
    assert {document.task for document in documents} == {"understanding", "text"}
    (batch,) = pack(documents, config, 256, 2)
    with torch.no_grad():
        losses = janus.packed_loss(batch)
        expected = theirs(**padded(documents)).loss
    assert int(losses.counts.sum()) == sum(int(document.labels.sum()) for document in documents)
    assert float(losses.sums.sum() / losses.counts.sum()) == pytest.approx(float(expected), rel=1e-5)


def test_our_side_learns_and_counts() -> None:
    config = train_cpu.tiny_config()
    tiny = recipe("tiny", 2)
    settings = replace(
        tiny,
        optimizer=Optimizer(lr=1e-3),
        data=replace(tiny.data, ratio=(2, 3, 5), seq_len=128, micro_batch=1),
    )
    words = {**train_cpu.WORDS, "generation": Text(3, 9)}
    step = make_step(config, (2, 3, 5), words, 400, seed=0)
    torch.manual_seed(0)
    measured = run_ours(build(config).float(), [step] * 4, settings, ALONE, warm_up=1)
    assert measured.losses == sorted(measured.losses, reverse=True)
    assert len(measured.seconds) == 3
    assert measured.tokens == sum(len(document.ids) for document in step)
    assert measured.flops > 6 * 1.7e6 * measured.tokens


def gpu_benchmark(arguments: list[str]) -> str:
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        train_gpu.main(arguments)
    return output.getvalue()


@pytest.mark.parametrize("stage", ["2", pytest.param("3", marks=pytest.mark.slow)])
def test_gpu_benchmark_runs_on_a_cpu(stage: str) -> None:
    words = "--preset tiny --device cpu --seq-len 256 --sequences 2 --micro-batch 1 --steps 1"
    (output,) = run_ranks(1, gpu_benchmark, [*words.split(), "--stage", stage])
    assert re.search(r"compiled layers +[\d,]+ tok/s", output), output


@pytest.mark.slow
def test_cpu_benchmark_compares_with_trainer(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="needs benchmarks/requirements-train.txt")
    train_cpu.main(["--steps", "2", "--rounds", "1", "--threads", "1", "--tokens", "1024"])
    output = capfd.readouterr().out
    first = re.findall(r"loss ([\d.]+) ->", output)
    assert float(first[0]) == pytest.approx(float(first[1]), abs=2e-4), output
    assert "ratio" in output
