"""What is set for a GPU, and how long ranks wait for one another."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from janus.train.world import STEADY_TIMEOUT, hang_note, join_world, set_defaults
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the allocator is told; the environment has nothing of it, and is as it was afterwards."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_FR_DUMP_TEMP_FILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_ON_TIMEOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    told: list[str] = []
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    return told


def test_a_gpu_gets_segments_that_grow_and_a_flight_recorder(settings: list[str], tmp_path: Path) -> None:
    set_defaults(tmp_path)
    assert settings == ["expandable_segments:True"]
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == f"{tmp_path}/nccl-trace-rank-"
    assert os.environ["TORCH_FR_DUMP_ON_TIMEOUT"] == "1"
    assert int(os.environ["TORCH_FR_BUFFER_SIZE"]) > 0


def test_what_the_environment_says_stays(settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "0")
    set_defaults(tmp_path)
    assert settings == []
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "0"


def test_the_allocator_takes_the_setting() -> None:
    torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
    assert "expandable_segments:True" in torch._C._accelerator_getAllocatorSettings()


def test_a_hang_is_explained_where_there_can_be_one(tmp_path: Path) -> None:
    assert hang_note(ALONE, tmp_path) == hang_note(replace(ALONE, size=2), tmp_path) == ""
    note = hang_note(replace(ALONE, size=2, device=torch.device("cuda", 0)), tmp_path)
    assert "within 10 minutes" in note
    assert f"`torchfrtrace {tmp_path} --prefix nccl-trace-rank-`" in note


def timeouts() -> list[timedelta]:
    """Of the groups of all ranks, another of the model, and the host's. Without groups, nothing."""
    ALONE.expect_steady_steps()
    with join_world("cpu", process_groups=True) as world:
        groups = dist.group.WORLD, dist.new_group([0]), world.host_group
        world.expect_steady_steps(None, groups[1])
        return [group._get_backend(world.device).options._timeout for group in groups]


def test_after_the_first_step_nobody_waits_for_half_an_hour() -> None:
    assert run_ranks(1, timeouts) == [[STEADY_TIMEOUT, STEADY_TIMEOUT, timedelta(minutes=30)]]
