"""FID against torch-fidelity's own numbers. It is not in the environment of `make setup`, so that `tests` stays ours:

.venv/bin/uv pip install --no-deps --target FOLDER torch-fidelity
PYTHONPATH=FOLDER .venv/bin/python -m pytest -m integration tests/evaluate/test_fid.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop

from janus.evaluate import fid
from janus.evaluate.fid import Inception, Moments, inception_name
from janus.evaluate.results import read_results
from tests.evaluate.sets import noise, run, save, write_sets

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in torch-fidelity's layout, large enough for features to differ between pictures."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Bare(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            pass

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    model = Bare("bare", ["2048"], feature_extractor_weights_path=nothing)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(model.state_dict(), path)
    return path


def test_the_distance_is_torch_fidelitys_and_that_of_two_gaussians() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    random = np.random.default_rng(1)
    features = [random.standard_normal((50, 8)), random.standard_normal((40, 8)) * 2 + 1]
    sides = []
    for one in features:
        moments = Moments(8)
        moments.add(one)
        sides.append(moments)
    theirs = [fid_features_to_statistics(torch.from_numpy(one)) for one in features]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert fid.fid(*sides) == pytest.approx(expected, rel=1e-9)
    # Independent coordinates: (difference of means)^2 + (difference of standard deviations)^2 of each.
    first, second = Moments(1), Moments(1)
    first.add(np.array([[-1.0], [1.0]]))  # variance 2
    second.add(np.array([[0.0], [4.0]]))  # variance 8
    assert fid.fid(first, second) == pytest.approx(4 + (2**0.5 - 8**0.5) ** 2)


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"conv": Path}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad.pth: damaged, or holds more than tensors"):
        Inception(tmp_path / "bad.pth", "cpu")
    torch.save({"conv": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth: not the weights of torch-fidelity's InceptionV3: "):
        Inception(tmp_path / "other.pth", "cpu")
    with pytest.raises(FileNotFoundError, match="gone: no such file; expected InceptionV3's weights"):
        inception_name(tmp_path / "gone")


def test_fid_is_torch_fidelitys_own_number(world: Path, inception: Path, tmp_path: Path) -> None:
    """All FIDs of both benchmarks, against torch-fidelity on folders of pictures prepared here."""
    drawn = save(tmp_path / "drawn", {f"{index}.png": noise(200 + index, 384, 384) for index in range(6)})
    options = ["--coco30k.inception", inception, "--coco30k.pictures", drawn]
    found = read_results(run(world, "fid-coco", "coco30k", *options, model=False))["benchmarks"]["coco30k"]
    real = world / "data" / "coco" / "val2014"
    expected = reference(inception, tmp_path / "coco", (drawn, "BICUBIC"), (real, "LANCZOS"), 256)
    assert found["scores"]["fid"]["value"] == pytest.approx(expected, rel=1e-4)
    assert found["protocol"].startswith(
        "FID at 256 px (middle square; drawn bicubic, real lanczos) by torch-fidelity 0."
    )

    real = world / "data" / "mjhq30k" / "mjhq30k_imgs"
    names = [path.relative_to(real).with_suffix(".png") for path in sorted(real.rglob("*.jpg"))]
    drawn = save(tmp_path / "mjhq", {str(name): noise(300 + index) for index, name in enumerate(names)})
    options = ["--mjhq30k.inception", inception, "--mjhq30k.pictures", drawn]
    scores = read_results(run(world, "fid-mjhq", "mjhq30k", *options, model=False))["benchmarks"]["mjhq30k"]["scores"]
    assert list(scores) == ["fid", "fid animals", "fid art"]
    for name, below in {"fid": ".", "fid art": "art"}.items():
        sides = ((drawn / below, "BICUBIC"), (real / below, "BICUBIC"))
        expected = reference(inception, tmp_path / name, *sides, 299)
        assert scores[name]["value"] == pytest.approx(expected, rel=1e-4)


def reference(weights: Path, folder: Path, drawn: tuple[Path, str], real: tuple[Path, str], side: int) -> float:
    from torch_fidelity import calculate_metrics

    for number, (pictures, resample) in enumerate((drawn, real)):
        (folder / str(number)).mkdir(parents=True)
        for index, path in enumerate(sorted(path for path in pictures.rglob("*.*") if path.is_file())):
            picture = Image.open(path).convert("RGB")
            small = center_crop(picture, min(picture.size)).resize((side, side), Image.Resampling[resample])
            small.save(folder / str(number) / f"{index}.png")
    found = calculate_metrics(
        input1=str(folder / "0"), input2=str(folder / "1"), fid=True, cuda=False, cache=False, verbose=False,
        feature_extractor_weights_path=str(weights), batch_size=8,
    )  # fmt: skip
    return float(found["frechet_inception_distance"])
