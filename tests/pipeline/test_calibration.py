"""Errors of model and warp, measured on the user's own input."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mvguide
from mvguide.backbones.base import Backbone, Conditioning
from mvguide.config.input_options import InputConfig
from mvguide.config.parsing import load_settings
from mvguide.diffusion.denoiser import Denoiser
from mvguide.errors import ConfigError, FileError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.inputs.loading import load_inputs
from mvguide.pipeline.calibration import LEVELS, Measured, calibrate, measure
from mvguide.scenes import packaged_scene
from mvguide.views.view import View
from mvguide.views.warps import warp_views

FRAMES = 4
SIZE = (64, 64)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pipe() -> mvguide.MultiViewPipeline:
    return mvguide.MultiViewPipeline.from_pretrained("tiny", device="cpu")


def prepare(pipe: mvguide.MultiViewPipeline, views: list[View], path: Camera) -> mvguide.Context:
    return pipe.prepare(views, path, schedule=mvguide.SigmaSchedule(torch.tensor([10.0, 1.0, 0.0])), size=SIZE)


@pytest.fixture(scope="module")
def context(pipe: mvguide.MultiViewPipeline) -> mvguide.Context:
    view, path = packaged_scene("blocks").load(num_frames=FRAMES)
    return prepare(pipe, [view], path)


def test_what_is_measured(context: mvguide.Context) -> None:
    calls = []

    class Counted:
        """A denoiser that keeps the levels that it is asked at."""

        def __init__(self, inner: Denoiser) -> None:
            self.inner, self.path = inner, inner.path

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            calls.append(float(sigma))
            return self.inner(x, sigma)

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(context.backbone, name)

        def denoiser(self, conditioning: Conditioning) -> Denoiser:
            return Counted(context.backbone.denoiser(conditioning))

    found = measure(replace(context, backbone=Counting()))
    assert calls == [level for level in LEVELS for _ in range(2)]
    assert len(calls) <= 25 / 5
    assert found.model_error.shape == (len(LEVELS), FRAMES)
    assert found.gain.shape == (2, FRAMES)
    later = slice(1, None)
    assert (found.model_error[0, later] > found.model_error[-1, later]).all(), "more noise, more error"
    assert (found.model_error[:, later] < found.sigmas[:, None] ** 2).all(), "better than the noisy latents themselves"
    assert ((found.gain >= 0) & (found.gain <= 1)).all()
    assert (found.gain[-1, later] > found.gain[0, later]).all(), "what little noise leaves standing is believed"
    assert found.warp_error[0] == 0
    assert (found.warp_error[later] > 0).all()
    worse = measure(context, depth_error=0.2)
    assert (worse.warp_error[later] > found.warp_error[later]).all()


def test_the_table(context: mvguide.Context, tmp_path: Path) -> None:
    schedule = mvguide.load_sigmas("sigmas_25")
    found = measure(context)
    table = found.table(schedule)
    table.check(schedule, FRAMES)
    assert (table.weights[:, 0] == 1).all()
    certain = replace(found, warp_error=found.warp_error / 1e4).table(schedule)
    assert (certain.weights[:15] > 0.98).all(), "an exact warp is followed"
    assert certain.weights[:15, 1:].min() > table.weights[:15, 1:].max()
    cache = tmp_path / "below" / "calibration.npz"
    first = calibrate(context, cache=cache)
    assert "calibrated: E_I" in first.source
    broken = replace(context, backbone=NoModel(context.backbone))
    assert torch.equal(calibrate(broken, cache=cache).weights, first.weights), "measured once"
    with pytest.raises(AssertionError, match="the model was asked"):
        calibrate(broken, cache=cache, depth_error=0.1)
    with pytest.raises(AssertionError, match="the model was asked"):
        calibrate(replace(broken, trajectory=replace_first(context.trajectory)), cache=cache)
    cache.write_bytes(b"no archive")
    with pytest.raises(FileError, match="calibration .* remove it"):
        calibrate(context, cache=cache)


class NoModel:
    """A backbone that may be named but not asked."""

    def __init__(self, backbone: Backbone) -> None:
        self.name, self.fingerprint, self.path = backbone.name, backbone.fingerprint, backbone.path

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the model was asked for {name}")


def replace_first(trajectory: Camera) -> Camera:
    intrinsics = trajectory.intrinsics.clone()
    intrinsics[:, 0, 0] *= 1.01
    return replace(trajectory, intrinsics=intrinsics)


def test_two_views_tell_the_error_of_the_warp(pipe: mvguide.MultiViewPipeline) -> None:
    """Where another image can be looked at, nothing is assumed about the depth."""
    scene = load_settings(InputConfig, scene=str(ROOT / "mvguide" / "scenes" / "two_views.yaml"))
    inputs = load_inputs(scene)
    path = inputs.trajectory(scene.trajectory, FRAMES)
    context = prepare(pipe, inputs.views, path)
    good = measure(context).warp_error
    assert torch.equal(good, measure(context, depth_error=0.2).warp_error)
    assert good[0] == good[-1] == 0
    wrong = []
    for view in inputs.views:
        depth = view.require_depth()
        wrong.append(replace(view, depth=replace(depth, values=depth.values * 1.3)))
    assert (measure(prepare(pipe, wrong, path)).warp_error[1:-1] > 1.5 * good[1:-1]).all()


def test_views_beside_each_other_say_little_of_frames_far_away(pipe: mvguide.MultiViewPipeline) -> None:
    """What a warp costs over no distance is not scaled up to the frames between."""
    first, _ = packaged_scene("courtyard").load(num_frames=FRAMES)
    path = first.trajectory("truck", FRAMES, distance=0.1)
    beside = first.trajectory("truck", 2, distance=0.002)[1]
    warps = warp_views([first], stack([beside]))
    image = push_pull_fill(warps.image, warps.visible)[0]
    second = replace(first, image=image, camera=beside, name="beside")
    alone = measure(prepare(pipe, [first], path), depth_error=0.01).warp_error
    both = measure(prepare(pipe, [first, second], path)).warp_error
    assert (both[1:] < 2 * alone[1:]).all()


def test_what_cannot_be_calibrated(pipe: mvguide.MultiViewPipeline, context: mvguide.Context, tmp_path: Path) -> None:
    for amount in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="depth_error is"):
            measure(context, depth_error=amount)
    with pytest.raises(FileError, match="none.npz"):
        Measured.load(tmp_path / "none.npz")


def test_what_a_kept_calibration_depends_on(pipe: mvguide.MultiViewPipeline, tmp_path: Path) -> None:
    """Guidance scale, weights and number format count; the seed, which comes in with the noise on the image, not."""
    view, path = packaged_scene("blocks").load(num_frames=FRAMES)
    schedule = mvguide.SigmaSchedule(torch.tensor([10.0, 1.0, 0.0]))

    def context(seed: int = 0, cfg_max: float = 1.0) -> mvguide.Context:
        options = mvguide.ConditioningOptions(FRAMES, cfg_max=cfg_max)
        generator = torch.Generator().manual_seed(seed)
        return pipe.prepare([view], path, schedule=schedule, size=SIZE, conditioning=options, generator=generator)

    cache = tmp_path / "calibration.npz"
    first = calibrate(context(), cache=cache)
    assert torch.equal(calibrate(context(seed=5), cache=cache).weights, first.weights)
    guided = calibrate(context(cfg_max=6.0), cache=cache)
    fresh = calibrate(context(cfg_max=6.0))
    assert torch.equal(guided.weights, fresh.weights), "measured anew"
    assert not torch.equal(guided.weights, first.weights)
    stored = cache.read_bytes()
    weight = next(pipe.backbone.pipe.unet.parameters())  # type: ignore[attr-defined]
    before = pipe.backbone.fingerprint
    with torch.no_grad():
        weight += 0.01
    try:
        pipe.backbone.__dict__.pop("fingerprint")
        assert pipe.backbone.fingerprint != before
        calibrate(context(cfg_max=6.0), cache=cache)
        assert cache.read_bytes() != stored
    finally:
        with torch.no_grad():
            weight -= 0.01
        pipe.backbone.__dict__.pop("fingerprint")
