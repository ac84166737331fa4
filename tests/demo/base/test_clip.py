"""The open_clip model is an ordinary one, and its image tower is the understanding encoder."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from transformers import JanusVisionModel

from demo.base import clip, data
from janus.model import clip_tower


@pytest.fixture(scope="module")
def fitted() -> open_clip.CLIP:
    steps, batch = clip.STEPS, clip.BATCH
    clip.STEPS, clip.BATCH = 3, 16  # a few steps, so that no weight is at a special value
    try:
        return clip.fit_clip(data.pictures(0, 64), data.captions(0, 64), seed=0, tick=lambda loss: None)
    finally:
        clip.STEPS, clip.BATCH = steps, batch


def test_tower_and_understanding_encoder_give_the_same_features(fitted: open_clip.CLIP) -> None:
    encoder = JanusVisionModel(clip_tower.vision_config()).eval()
    encoder.load_state_dict(clip.understanding_weights(fitted))
    pixels = torch.from_numpy(data.pictures(1, 6)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        theirs = fitted.visual.trunk.forward_features((pixels - mean) / std)
        ours = encoder(pixels * 2 - 1).last_hidden_state
    assert ours.shape == (6, 16, 128)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_open_clip_reads_it_from_disk(fitted: open_clip.CLIP, tmp_path: Path) -> None:
    clip.save_clip(tmp_path, fitted)
    open_clip.add_model_config(tmp_path / clip.CONFIG_FILE)
    name = Path(clip.CONFIG_FILE).stem
    model, _, preprocess = open_clip.create_model_and_transforms(
        name, pretrained=str(tmp_path / clip.WEIGHTS_FILE), weights_only=True
    )
    tokens = open_clip.get_tokenizer(name)(["a red circle and a blue square."])
    assert tokens.shape == (1, 52)
    with torch.no_grad():
        torch.testing.assert_close(model.eval().encode_text(tokens), fitted.encode_text(tokens))
    assert preprocess.transforms[-1].mean == open_clip.OPENAI_DATASET_MEAN


def test_longest_caption_fits_the_context() -> None:
    tokens = open_clip.SimpleTokenizer(context_length=77)(data.captions(0, 600))
    assert int((tokens != 0).sum(1).max()) <= clip.CONFIG["text_cfg"]["context_length"]
