"""The fitted tokenizer keeps what pictures show, for scenes and colour-shape pairs it never saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from demo.base import data
from demo.base.vq import fit_vq
from demo.world.draw import draw
from demo.world.reader import read_scene
from demo.world.scene import make_scene
from janus.model.patch_vq import PatchVQ
from janus.model.presets import preset_config
from janus.model.vq import decode_codes, encode_codes


@pytest.fixture(scope="module")
def fitted() -> PatchVQ:
    config = preset_config("tiny", image_token_id=0).vq_config
    return fit_vq(data.pictures(0, 1500), config, seed=0)


def _pixels(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize("split", ["heldout", "novel"])
def test_the_reader_reads_reconstructions(fitted: PatchVQ, split: str) -> None:
    scenes = [make_scene(5, split, index) for index in range(150)]  # type: ignore[arg-type]
    shown = decode_codes(fitted, encode_codes(fitted, _pixels([draw(scene) for scene in scenes])))
    pictures = ((shown.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    right = 0
    for scene, picture in zip(scenes, pictures, strict=True):
        seen = [(s.color, s.shape, s.cell) for s in read_scene(picture)]
        right += seen == [(o.color, o.shape, o.cell) for o in scene.objects]
    assert right >= 0.97 * len(scenes)


def test_codes_are_the_nearest_directions(fitted: PatchVQ) -> None:
    """By the official rule, written out: both sides normalised, least squared distance."""
    pixels = _pixels([draw(make_scene(5, "train", index)) for index in range(8)])
    patches = F.unfold(pixels, 16, stride=16).transpose(1, 2)  # [N, n, 3 * 16 * 16]
    latents = F.normalize(patches @ fitted.encoder.weight.T + fitted.encoder.bias, dim=-1)
    codebook = F.normalize(fitted.quantize.embedding.weight, dim=-1)
    distances = (latents[:, :, None] - codebook).square().sum(-1)
    assert torch.equal(distances.argmin(-1), encode_codes(fitted, pixels))


def test_a_code_paints_its_patch_in_its_place(fitted: PatchVQ) -> None:
    codes = torch.arange(16)[None]
    picture = fitted.decode(codes)[0]
    for place in range(16):
        row, column = divmod(place, 4)
        patch = picture[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        assert torch.equal(patch.flatten(), fitted.decoder.weight[place])


def test_another_number_of_codes_is_refused(fitted: PatchVQ) -> None:
    with pytest.raises(ValueError, match="expected 16 codes"):
        fitted.decode(torch.zeros(1, 9, dtype=torch.long))


def test_the_same_seed_gives_the_same_tokenizer() -> None:
    config = preset_config("tiny", image_token_id=0).vq_config
    pictures = data.pictures(0, 200)
    one, two = (fit_vq(pictures, config, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
