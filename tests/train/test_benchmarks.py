"""The training benchmarks run, and both of their sides compute the same loss."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from transformers import JanusForConditionalGeneration

from benchmarks import train_cpu, train_gpu
from benchmarks.training import (
    Measured,
    Text,
    forward_passes,
    make_step,
    pack,
    padded,
    plain_config,
    run_hugging_face,
    run_ours,
)
from janus.data.pack import pack_stream
from janus.model.network import Janus
from janus.model.presets import PRESETS
from janus.train.presets import recipe
from janus.train.recipe import Optimizer
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE


def test_both_sides_have_the_same_loss() -> None:
    """Packed by us; padded and through the forward of transformers."""
    config = plain_config("tiny")
    torch.manual_seed(0)
    janus = Janus(config).float()
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


@pytest.mark.parametrize("preset", ["tiny", "janus-pro-7b"])
def test_benchmarks_have_the_presets_shapes(preset: str) -> None:
    config = plain_config(preset)
    for part, shape in ((config.text_config, PRESETS[preset].text), (config.vision_config, PRESETS[preset].vision)):
        assert {name: getattr(part, name) for name in shape} == shape


def test_our_side_learns_and_counts() -> None:
    config = plain_config("tiny")
    tiny = recipe("tiny", 2)
    settings = replace(
        tiny,
        optimizer=Optimizer(lr=1e-3),
        data=replace(tiny.data, ratio=(2, 3, 5), seq_len=128, micro_batch=1),
    )
    words = {**train_cpu.WORDS, "generation": Text(3, 9)}
    step = make_step(config, (2, 3, 5), words, 400, seed=0)
    torch.manual_seed(0)
    measured = run_ours(Janus(config).float(), [step] * 4, settings, ALONE, warm_up=1)
    assert measured.losses == sorted(measured.losses, reverse=True)
    assert len(measured.seconds) == 3
    assert measured.tokens == sum(len(document.ids) for document in step)
    llm = 4 * (4 * 128**2 + 3 * 128 * 384)  # weights of the matrices: each costs 6 FLOPs per token
    assert measured.flops > 6 * llm * measured.tokens


def test_forward_passes_hold_each_document_once() -> None:
    """What `Trainer` takes at a time: as many passes in every step, none beyond the limit."""
    config = plain_config("tiny")
    steps = [make_step(config, (2, 3, 0), train_cpu.WORDS, tokens, seed=0) for tokens in (300, 900, 1500)]
    passes = forward_passes(steps, 4)
    assert [[document for part in step for document in part] for step in passes] == steps
    assert {len(step) for step in passes} == {-(-max(map(len, steps)) // 4)}
    assert max(len(part) for step in passes for part in step) == 4
    assert forward_passes(steps, None) == [[step] for step in steps]


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("generation", [True, False])
def test_a_step_of_the_gpu_benchmark_fills_its_packs(stage: int, generation: bool) -> None:
    """A pack more would be a micro-batch more, of padding."""
    options = train_gpu.read([])
    settings = train_gpu.settings_of(options, stage, train_gpu.BEST, generation=generation)
    config = plain_config("janus-1.3b")
    for seed in range(3):
        documents = train_gpu.full_step(config, settings, seed)
        lengths = [len(document.ids) for document in documents]
        assert len(pack_stream(lengths, 4096)) == options.sequences
        assert sum(lengths) > 0.95 * options.sequences * 4096
        assert {document.task for document in documents} == {"understanding", "text", *["generation"] * generation}


def test_the_variants_differ_as_their_names_say() -> None:
    options = train_gpu.read([])
    options.device = "cuda"
    found = [train_gpu.settings_of(options, 2, variant) for variant in train_gpu.VARIANTS]
    assert len({str(settings) for settings in found}) == len(found)
    for variant, settings in zip(train_gpu.VARIANTS, found, strict=True):
        assert (settings.precision == "autocast") == ("autocast" in variant.name)
        assert settings.parallel.compile == ("eager" not in variant.name)
        assert settings.parallel.activation_checkpoint in ("none", *variant.name.split())
        assert settings.data.micro_batch == options.micro_batch * (2 if "x2" in variant.name else 1)
    assert train_gpu.settings_of(options, 2, train_gpu.BEST).parallel.activation_checkpoint == "none"


SMALL = ["--preset=tiny", "--device=cpu", "--seq-len=256", "--sequences=2", "--micro-batch=1", "--steps=1"]


def gpu_benchmark(job: dict[str, int]) -> str:
    """What a process of the benchmark prints for one line of its table."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        train_gpu.main([*SMALL, "--child", json.dumps(job)])
    return output.getvalue()


@pytest.mark.parametrize("variant", [train_gpu.VARIANTS[0], train_gpu.BEST])
def test_the_gpu_benchmark_measures_on_a_cpu(variant: train_gpu.Variant) -> None:
    (output,) = run_ranks(1, gpu_benchmark, {"stage": 3, "variant": train_gpu.VARIANTS.index(variant)})
    measured = Measured(**json.loads(output.splitlines()[-1]))
    assert len(measured.seconds) == 1
    assert measured.flops > 0
    assert 0.85 * 2 * 256 < measured.tokens <= 2 * 256


def test_what_the_gpu_benchmark_cannot_do_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            train_gpu.main(["--device", "cuda"])
        assert "error: --device cuda: torch sees no CUDA device here" in capsys.readouterr().err
    if find_spec("accelerate") is None:
        with pytest.raises(SystemExit):
            train_gpu.main(["--hugging-face"])
        assert "pip install -r benchmarks/requirements-train.txt" in capsys.readouterr().err


@pytest.mark.slow
def test_a_line_that_fails_leaves_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--preset", "janus-0b"]
    found = train_gpu.measure_apart(arguments, 2, train_gpu.BEST)
    assert isinstance(found, str)
    assert "preset 'janus-0b': expected one of" in found
    assert "Traceback" in capfd.readouterr().err
    assert train_gpu.line(2, "name", found, None, "") == f"| 2 | name | {found} | | | |"


@pytest.mark.slow
def test_gpu_benchmark_compares_its_best_with_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    """The best variant, at the same documents per optimiser step, which `Trainer` reaches in two passes."""
    pytest.importorskip("accelerate", reason="needs benchmarks/requirements-train.txt")
    train_gpu.main([*SMALL, "--sequences=8", "--stages", "2", "--hugging-face"])
    output = capsys.readouterr().out
    for name in (train_gpu.BEST.name, "`Trainer`, bf16 autocast, 16 documents", f"janus.train, {train_gpu.BEST.name}"):
        assert re.search(rf"\| 2 \| .*{re.escape(name)}.* \| [\d,]+ \|", output), output
    (theirs, ours) = re.findall(r"([\d.]+) documents a step, first loss ([\d.]+)", output)
    assert theirs[0] == ours[0]
    assert 16 < float(theirs[0]) <= 32
    assert float(theirs[1]) == pytest.approx(float(ours[1]), rel=5e-3)  # bf16


@pytest.mark.slow
def test_cpu_benchmark_compares_with_trainer(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="needs benchmarks/requirements-train.txt")
    train_cpu.main(["--steps", "2", "--rounds", "1", "--threads", "1", "--tokens", "1024"])
    output = capfd.readouterr().out
    first = re.findall(r"loss ([\d.]+) ->", output)
    assert float(first[0]) == pytest.approx(float(first[1]), abs=2e-4), output
    assert "ratio" in output


@pytest.mark.slow
def test_trainer_accumulates_to_the_same_step() -> None:
    """Three documents at a time, all at once, or packed by us: the same losses, step after step."""
    pytest.importorskip("accelerate", reason="needs benchmarks/requirements-train.txt")
    config = plain_config("tiny")
    torch.manual_seed(0)
    start = Janus(config).float()
    tiny = recipe("tiny", 2)
    settings = replace(tiny, optimizer=Optimizer(lr=1e-3), data=replace(tiny.data, seq_len=256, micro_batch=2))
    steps = [make_step(config, (2, 3, 0), train_cpu.WORDS, 500, seed) for seed in range(4)]

    def trainers(rows: int | None) -> list[float]:
        theirs = JanusForConditionalGeneration(plain_config("tiny"))
        theirs.load_state_dict(start.state_dict())
        return run_hugging_face(theirs, steps, settings, ALONE.device, warm_up=0, rows=rows).losses

    ours = run_ours(copy.deepcopy(start), steps, settings, ALONE, warm_up=0).losses
    assert trainers(None) == pytest.approx(ours, rel=1e-4)
    assert trainers(3) == pytest.approx(ours, rel=1e-4)
