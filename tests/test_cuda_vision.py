"""What chapter 8 is made of on a CUDA device, against the CPU; run by `pytest -m cuda`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_videos
import test_cuda
import torch

from data_prep import faces
from duetlib.evidence.vision_experiments import SMALL, control, mean_layers
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.swa import StableWeightAdapter
from duetlib.vision.augmentation import shaken
from duetlib.vision.conv import conv_1x1, conv_grouped, conv_loop
from duetlib.vision.factored import apply, built, factors
from duetlib.vision.fused_swa import blended
from duetlib.vision.network import METHODS, build
from duetlib.vision.training import VisionConfig, VisionTrainer, cut, evaluate, predict

pytestmark = pytest.mark.cuda
exact_products = test_cuda.exact_products  # for this file too
LITTLE = {"rank": 2, "latent": 4}
VIDEOS = small_videos.videos(20)


def little(method: str) -> Any:
    torch.manual_seed(0)
    return build(SMALL, method, **(LITTLE if method.startswith("duet") else {}))


@pytest.mark.parametrize("convolution", [conv_loop, conv_grouped, conv_1x1])
def test_a_kernel_for_each_device(convolution: Any) -> None:
    torch.manual_seed(0)
    x, kernel = torch.randn(3, 2, 4, 5, 5), torch.randn(3, 6, 4, 1, 1)
    test_cuda.assert_same_on_both(convolution, x, kernel)


def test_generated_layers_in_factors() -> None:
    torch.manual_seed(0)
    several = [TwoLayerGenerator(6, 5, 4, 3, 0.1) for _ in range(3)]
    x, e = torch.randn(2, 7, 6), torch.randn(2, 4)
    for generator in (several[0], StableWeightAdapter(several)):
        test_cuda.assert_same_on_both(lambda g, e: built([factors(g, e)]), generator, e)
        test_cuda.assert_same_on_both(lambda g, e, x: apply(x, factors(g, e)), generator, e, x)
    test_cuda.assert_same_on_both(blended, StableWeightAdapter(several))


@pytest.mark.parametrize("method", METHODS)
def test_a_network_forward_and_backward(method: str) -> None:
    frames = cut(VIDEOS, 0).test.frames[:4]
    test_cuda.assert_same_on_both(
        lambda model, frames: model.eval()(frames), little(method), frames, atol=1e-3
    )


@pytest.mark.parametrize("method", ["base", "duet"])
def test_an_epoch_goes_on_where_it_stopped(method: str, tmp_path: Path) -> None:
    split = cut(VIDEOS, 0, test_cuda.DEVICE)
    config = VisionConfig(videos=10, epochs=2)
    trainer, again = (
        VisionTrainer(little(method).to(test_cuda.DEVICE), split, config) for _ in range(2)
    )
    trainer.run_epoch()
    trainer.save(tmp_path / "run.safetensors")
    again.load(tmp_path / "run.safetensors")
    trainer.run_epoch()
    again.run_epoch()
    assert {v.device.type for v in again.model.state_dict().values()} == {test_cuda.DEVICE}
    losses = [each.result.history[1]["loss"] for each in (trainer, again)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)  # sums on a GPU come in no fixed order


def test_the_same_is_said_there() -> None:
    model = little("duet")
    here, there = cut(VIDEOS, 0), cut(VIDEOS, 0, test_cuda.DEVICE)
    logits = predict(model, here.test)
    moved = model.to(test_cuda.DEVICE)
    torch.testing.assert_close(predict(moved, there.test).cpu(), logits, rtol=1e-3, atol=1e-3)
    for method in ("shuffled", "constant"):
        metrics = evaluate(moved, there.test, control(method, moved, there, 0)).metrics
        assert 0 <= metrics["accuracy"] <= 1
    assert {layer.A.device.type for layer in mean_layers(moved, there.valid)} == {test_cuda.DEVICE}  # type: ignore[union-attr]


def test_faces_are_drawn_and_shaken_there() -> None:
    takes = faces.shoot(faces.draw_people(2), {"happiness": 2})
    times = np.linspace(0, 1, 3)[None].repeat(2, axis=0)
    here = faces.film(takes, times, 32)
    there = faces.film(takes, times, 32, device=test_cuda.DEVICE)
    assert there.device.type == test_cuda.DEVICE
    assert (there.cpu().int() - here.int()).abs().max() <= 1  # rounded to the grey beside it
    assert shaken(there).device.type == test_cuda.DEVICE
