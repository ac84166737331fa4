"""The corpora of the paper are described so that their sources could be read, were the data there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.sources import SourceError, read_source
from schemas.spec import CorpusSpec, load_spec

CORPORA = Path(__file__).resolve().parents[2] / "flows" / "corpora"


def corpus(stage: int, model: str = "") -> CorpusSpec:
    variables = {"data": "/nowhere", "janus": "/nowhere/janus", "clip": "/nowhere/clip.safetensors"}
    return load_spec(CORPORA / f"{model}stage{stage}.toml", variables)


@pytest.mark.parametrize("model", ["", "pro-"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_options_and_tasks_are_those_of_the_formats(stage: int, model: str) -> None:
    spec = corpus(stage, model)
    assert spec.stage == stage
    for source in spec.sources:
        # Formats, tasks and options are checked before the data is looked for.
        with pytest.raises(SourceError, match=r"/nowhere/.*: no such file or folder"):
            next(read_source(source))


def test_every_task_of_the_stage_is_there() -> None:
    for model in ("", "pro-"):
        tasks = {stage: {source.task for source in corpus(stage, model).sources} for stage in (1, 2, 3)}
        assert tasks[1] == {"understanding", "generation"}
        assert tasks[2] == tasks[3] == {"understanding", "generation", "text"}


def test_imagenet_comes_first_and_generation_is_english() -> None:
    for stage in (1, 2):
        assert [source.name for source in corpus(stage).sources if source.group == "imagenet"] == ["imagenet"]
    for stage in (2, 3):
        for source in corpus(stage).sources:
            if source.task == "generation" and source.group != "imagenet":
                assert source.filters is not None
                assert source.filters["language"]["keep"] == ["en"]


def test_janus_pro_has_imagenet_in_stage_1_only() -> None:
    groups = {stage: {source.group for source in corpus(stage, "pro-").sources} for stage in (1, 2, 3)}
    assert "imagenet" in groups[1]
    assert groups[2] == groups[3] == {""}


def test_pages_keep_their_text_when_they_lose_an_image() -> None:
    for model in ("", "pro-"):
        for source in corpus(2, model).sources:
            pages = source.format in ("interleaved", "wit", "visualhow")
            assert source.missing_image == ("drop_image" if pages else "drop_page"), source.name


def test_stage_3_is_all_chat() -> None:
    assert {source.template for source in corpus(3, "pro-").sources} == {"chat"}
    assert {source.template for source in corpus(3).sources} == {"chat"}
    assert {source.template for source in corpus(1).sources} == {"plain"}
