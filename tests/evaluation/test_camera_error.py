"""Alignment recovers a known similarity, errors of paths have known values, and COLMAP's cameras come out right."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvguide.errors import ConfigError, InputError
from mvguide.evaluation import recovery
from mvguide.evaluation.camera_error import align_sim3, path_error
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import orbit, pan, truck
from mvguide.scenes import packaged_scene
from mvguide.views.warps import warp_views


def rotation(seed: int = 0, degrees: float | None = None) -> torch.Tensor:
    found = Rotation.random(random_state=seed)
    if degrees is not None:
        found = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8]))
    return torch.from_numpy(found.as_matrix())


def moved(camera: Camera, scale: float, turn: torch.Tensor, shift: torch.Tensor) -> Camera:
    """The same cameras in another world: x -> scale * turn @ x + shift."""
    matrix = camera.camera_to_world.clone()
    matrix[:, :3, :3] = turn @ matrix[:, :3, :3]
    matrix[:, :3, 3] = scale * camera.center @ turn.T + shift
    return Camera(camera.intrinsics, torch.linalg.inv(matrix), camera.width, camera.height)


@pytest.mark.parametrize("seed", range(4))
def test_a_known_similarity_comes_back_exactly(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    turn, shift, scale = rotation(seed), torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64), 0.1 + seed
    found = align_sim3(points, scale * points @ turn.T + shift)
    assert found.scale == pytest.approx(scale, rel=1e-12)
    torch.testing.assert_close(found.rotation, turn, atol=1e-12, rtol=0)
    torch.testing.assert_close(found(points), scale * points @ turn.T + shift, atol=1e-12, rtol=0)


def test_no_similarity_fits_better() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(12, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    found = align_sim3(x, y)
    best = float(((found(x) - y) ** 2).sum())
    assert float(torch.linalg.det(found.rotation)) == pytest.approx(1), "never a reflection"
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        turn = found.rotation @ rotation(degrees=float(torch.randn((), generator=generator)) * 5)
        scale = found.scale * (1 + 0.05 * float(torch.randn((), generator=generator)))
        shift = found.translation + 0.05 * torch.randn(3, generator=generator, dtype=torch.float64)
        assert float(((scale * x @ turn.T + shift - y) ** 2).sum()) >= best


def test_points_that_cannot_be_aligned() -> None:
    with pytest.raises(InputError, match="coincide"):
        align_sim3(torch.ones(4, 3), torch.rand(4, 3))
    with pytest.raises(InputError, match="N >= 3"):
        align_sim3(torch.ones(2, 3), torch.rand(2, 3))
    with pytest.raises(InputError, match="NaN"):
        align_sim3(torch.full((4, 3), torch.nan), torch.rand(4, 3))


CAMERA = Camera.from_fov(60, 64, 48)


def path() -> Camera:
    return orbit(CAMERA, 6, degrees=20, target_depth=3.0)


def test_the_same_path_in_another_world_has_no_error() -> None:
    truth = path()
    error = path_error(moved(truth, 0.3, rotation(1), torch.tensor([1.0, 2, 3], dtype=torch.float64)), truth)
    assert max(error.ate, error.ate_share, error.rpe_translation, error.rpe_rotation) < 1e-6
    assert path_error(truth, truth).rpe_rotation < 1e-6


def test_one_camera_that_is_off() -> None:
    truth = truck(CAMERA, 6, distance=0.5, target_depth=3.0)  # 0.3 a frame, on a line
    world_to_camera = truth.world_to_camera.clone()
    world_to_camera[3, :3, :3] = rotation(degrees=6.0) @ world_to_camera[3, :3, :3]
    # About its own centre: the centre stays where it was.
    world_to_camera[3, :3, 3] = -world_to_camera[3, :3, :3] @ truth.center[3]
    error = path_error(Camera(truth.intrinsics, world_to_camera, 64, 48), truth)
    assert error.ate < 1e-9
    assert error.rpe_rotation == pytest.approx(math.sqrt(2 * 6**2 / 5), rel=1e-6), "two of five steps are off by 6"


def test_a_path_that_only_turns_has_no_lengths() -> None:
    truth = pan(CAMERA, 6, degrees=20)
    error = path_error(truth, truth)
    assert math.isnan(error.ate)
    assert math.isnan(error.rpe_translation)
    assert error.rpe_rotation < 1e-6


def test_an_estimate_that_stands_still() -> None:
    truth = truck(CAMERA, 6, distance=0.5, target_depth=3.0)
    still = Camera(truth.intrinsics, truth.world_to_camera[:1].expand(6, 4, 4), 64, 48)
    spread = truth.center - truth.center.mean(0)
    assert path_error(still, truth).ate == pytest.approx(float((spread**2).sum(1).mean().sqrt()))


def test_without_pycolmap_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(recovery, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'mvguide\[eval\]'"):
        recovery.recover_cameras(torch.rand(3, 3, 48, 64), path()[:3])


needs_pycolmap = pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed")


@needs_pycolmap
def test_cameras_are_found_again_in_sharp_frames() -> None:
    view, trajectory = packaged_scene("courtyard").load(6)
    frames = warp_views([view], trajectory).image  # 256 x 256, along exactly known cameras
    found = recovery.recover_cameras(frames, trajectory)
    assert found.registered == list(range(6))
    assert found.error is not None
    assert found.error.ate_share < 0.05
    assert found.error.rpe_rotation < 0.5
    assert found.text() == "6 of 6 frames registered"
    mixed = recovery.recover_cameras(frames[[0, 1, 4, 3, 2, 5]], trajectory)
    assert mixed.error is not None
    assert mixed.error.ate_share > 5 * found.error.ate_share, "frames in the wrong order are seen"


@needs_pycolmap
@pytest.mark.parametrize("frames", [torch.full((4, 3, 64, 64), 0.5), torch.rand(4, 3, 64, 64)])
def test_too_little_to_see_is_reported_and_no_error(frames: torch.Tensor) -> None:
    trajectory = orbit(Camera.from_fov(60, 64, 64), 4, degrees=10, target_depth=2.0)
    found = recovery.recover_cameras(frames, trajectory)
    assert found.error is None
    assert found.text() == f"not recovered: {len(found.registered)} of 4 frames registered"
    assert len(found.registered) < recovery.FEWEST
