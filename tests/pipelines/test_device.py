"""Where models run: whole float32 and one thread while a batch is encoded, and everything as before afterwards."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import JanusVQVAEConfig

from janus.model.checkpoints.model_folder import load_processor
from janus.model.parts import vq_tokenizer
from pipelines.steps.device import pick_device, reproducible
from pipelines.steps.tokenize import TokenizeStep
from schemas.spec import Limits, Precision, Tokenize


def precisions() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture
def tf32() -> Iterator[tuple[str, str]]:
    """TF32 allowed everywhere, as a caller may have it."""
    before = precisions()
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield precisions()
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def test_float32_is_whole_inside_and_as_before_afterwards(tf32: tuple[str, str]) -> None:
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with reproducible("fp32", "cpu"):
            assert precisions() == ("ieee", "ieee")
            assert torch.get_num_threads() == 1
            assert torch.is_inference_mode_enabled()
        assert precisions() == tf32 == ("tf32", "tf32")
        assert torch.backends.cudnn.allow_tf32, "the older switch still answers"
    assert torch.get_num_threads() == threads


def test_the_last_thread_out_restores_it(tf32: tuple[str, str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with reproducible("fp32", "cpu"):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with reproducible("fp32", "cpu"):
        thread.start()
        assert inside.wait(60)
    assert precisions() == ("ieee", "ieee"), "one is still inside"
    leave.set()
    thread.join()
    assert precisions() == tf32


def encoder(model: Path, device: str, precision: Precision = "fp32") -> TokenizeStep:
    """The step with a small VQ-16 of random weights, and with a codebook as fine as the real one."""
    config = JanusVQVAEConfig(
        embed_dim=8, num_embeddings=16384, latent_channels=64, base_channels=32, channel_multiplier=[1, 2, 2],
        num_res_blocks=1, num_patches=16,
    )  # fmt: skip
    torch.manual_seed(0)
    vq = vq_tokenizer(config).eval()
    torch.nn.init.normal_(vq.quantize.embedding.weight)
    step = TokenizeStep(Path(), str(model), Limits(), Tokenize(vq_precision=precision), device, with_codes=False)
    step.processor = load_processor(model)
    step.device = pick_device(device, cpu_batch=16, cuda_batch=64)
    step.vq = vq.to(step.device.name)
    return step


def test_bf16_is_what_autocast_computes_and_is_off_again_afterwards(model: Path) -> None:
    step = encoder(model, "cpu", "bf16")
    images = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    found = np.stack(step._encode(list(images)))
    assert not torch.is_autocast_enabled("cpu")
    pixels = step.processor.normalize(torch.from_numpy(images))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        latents = step.vq.quant_conv(step.vq.encoder(pixels))
    torch.set_num_threads(before)
    assert latents.dtype == torch.bfloat16
    # The look-up is in float32, whatever the encoder computes in.
    latents = torch.nn.functional.normalize(latents.float().flatten(2).mT, dim=-1)
    codebook = torch.nn.functional.normalize(step.vq.quantize.embedding.weight, dim=-1)
    expected = torch.cdist(latents, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    assert (expected.numpy() == found).mean() > 0.999
    exact = np.stack(encoder(model, "cpu")._encode(list(images)))
    assert 0.5 < (exact == found).mean() < 1, "another precision gives some other codes"


@pytest.mark.gpu
def test_a_gpu_gives_the_codes_of_the_cpu(model: Path, tf32: tuple[str, str]) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8))
    expected, found = (np.concatenate(encoder(model, device)._encode(images)) for device in ("cpu", "cuda"))
    assert len(np.unique(expected)) > 1000, "the pictures use the codebook"
    # A tie within the last bit may still go the other way; TF32 would turn about one code in a hundred.
    assert np.mean(found != expected) < 1e-3
