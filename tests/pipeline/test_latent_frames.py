"""Frames that share a latent frame: masks, pins, distances and tables of a model that packs time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mvguide.backbones.base import ConditioningOptions
from mvguide.diffusion.path import FlowMatching, LinearVP, NoisePath, VarianceExploding
from mvguide.diffusion.schedule import SigmaSchedule, flow_sigmas
from mvguide.geometry.camera import Camera
from mvguide.pipeline.calibration import Measured, calibrate, measure
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.scenes import packaged_scene
from mvguide.views.view import View
from tests.backbones.tiny_families import make_backbone

FRAMES, SIZE = 9, (64, 32)


@pytest.fixture(scope="module")
def scene() -> tuple[View, Camera]:
    return packaged_scene("marbles").load(FRAMES)


def test_masks_pins_and_distances_are_of_latent_frames(
    tiny_pipeline: Callable[[str], Any], scene: tuple[View, Camera]
) -> None:
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline("wan21")))
    view, path = scene
    context = pipe.prepare([view], path, schedule=4, size=SIZE)
    warps = context.warps
    assert (context.num_frames, context.latent_frames) == (FRAMES, 3)
    targets = context.targets()
    assert tuple(targets.latents.shape) == (3, 16, 4, 8)
    shares = warps.visible.unfold(2, 8, 8).unfold(3, 8, 8).mean((-2, -1))
    torch.testing.assert_close(targets.visible[1], shares[1:5].mean(0), msg="the mean over the four frames")
    torch.testing.assert_close(context.distances[2], warps.distances[5:9].mean())
    assert warps.pinned.tolist() == [True] + [False] * 8
    assert context.pinned.tolist() == [True, False, False]
    assert context.search_table().weights.shape == (4, 3)


def measured() -> Measured:
    columns = torch.ones(2, 3, dtype=torch.float64)
    error = torch.tensor([[0.3], [0.02]]) * columns
    gain = torch.tensor([[0.6], [0.9]]) * columns
    warp = torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64)
    sigmas = torch.tensor([0.7, 0.15], dtype=torch.float64)
    return Measured(sigmas, error, gain, torch.ones(3, dtype=torch.float64), warp, warp)


@pytest.mark.parametrize("kind", ["wan21", "wan21_euler", "cogvideox", "ltx", "hunyuan_replace", "hunyuan15"])
def test_a_calibrated_table_starts_from_noise_alone(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    backbone = make_backbone(tiny_pipeline(kind))
    schedule = backbone.schedule(40)
    assert float(backbone.path.alpha(schedule.sigmas[0])) < 1e-3
    weights = measured().table(schedule, backbone.path).weights
    assert weights.shape == (40, 3)
    assert bool(torch.isfinite(weights).all())
    assert float(weights[0, 1:].min()) > 0.8, "a model that sees noise alone is worth little"
    assert torch.equal(weights.argmin(dim=0)[1:], torch.full((2,), 39)), "it is worth most at the end"
    assert float(weights[0, 2] - weights[-1, 2]) > 0.05


def test_frames_that_cannot_be_measured_have_a_finite_column(
    tiny_pipeline: Callable[[str], Any], scene: tuple[View, Camera]
) -> None:
    """Far along the path no cell is seen whole in all four frames of a latent frame; all that is guided counts."""
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline("wan21")))
    view, path = scene
    found = measure(pipe.prepare([view], path, schedule=4, size=SIZE))
    assert bool((found.model_error[:, 1:] > 0).all())
    assert bool((found.warp_error[1:] > 1e-9).all())


@pytest.mark.parametrize("path", [FlowMatching(), LinearVP()])
def test_the_same_errors_give_the_same_table_on_every_path(path: NoisePath) -> None:
    """X / alpha is on the VE path, and Euler's step is the same there."""
    sigmas = flow_sigmas(12).clamp(max=0.98)
    on_path = SigmaSchedule(sigmas)
    on_ve = SigmaSchedule(path.noise_to_signal(on_path.sigmas))
    found, expected = measured().table(on_path, path), measured().table(on_ve, VarianceExploding())
    torch.testing.assert_close(found.weights, expected.weights)
    assert torch.equal(found.sigmas, on_path.levels), "rows are looked up by the path's own sigma"


@pytest.mark.parametrize("ratio", [0.15, 0.7, 3.0])
@pytest.mark.parametrize("path", [FlowMatching(), LinearVP(), VarianceExploding()])
def test_levels_are_noise_to_signal(path: NoisePath, ratio: float) -> None:
    level = torch.tensor(ratio, dtype=torch.float64)
    torch.testing.assert_close(path.noise_to_signal(path.at_noise_to_signal(level)), level)


def test_a_model_that_takes_the_warp_natively(tiny_pipeline: Callable[[str], Any], scene: tuple[View, Camera]) -> None:
    """WanVACE: the warped video as its own condition, the guidance, both: four unlike videos."""
    pipe = MultiViewPipeline(make_backbone(tiny_pipeline("wan_vace")))
    view, path = scene
    videos = []
    for native in (False, True):
        options = ConditioningOptions(FRAMES, warp_condition=native)
        context = pipe.prepare([view], path, schedule=3, size=SIZE, conditioning=options)
        videos += [pipe.sample(context, None, guidance="none").frames, pipe.sample(context, calibrate(context)).frames]
    assert all(video.shape == (FRAMES, 3, 32, 64) for video in videos)
    differences = [float((a - b).abs().max()) for i, a in enumerate(videos) for b in videos[i + 1 :]]
    assert min(differences) > 1e-4
