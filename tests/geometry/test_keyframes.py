"""Key cameras at their frames, and recorded paths resampled or moved to another start."""

import pytest
import torch

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import interpolate_cameras, key_frames, resample_trajectory, start_at
from mvguide.geometry.trajectory import orbit, truck

CAMERA = Camera.from_fov(60, 64, 48)


def test_resampling_keeps_the_ends_and_the_path() -> None:
    path = orbit(CAMERA, 9, degrees=20, target_depth=2.0)
    for count in (2, 5, 9, 17, 30):
        again = resample_trajectory(path, count)
        assert len(again) == count
        assert torch.equal(again.world_to_camera[0], path.world_to_camera[0])
        assert torch.equal(again.world_to_camera[-1], path.world_to_camera[-1])
    finer = resample_trajectory(path, 17)
    torch.testing.assert_close(finer.world_to_camera[::2], path.world_to_camera)
    angles = orbit(CAMERA, 17, degrees=20, target_depth=2.0)
    torch.testing.assert_close(finer.world_to_camera[:, :3, :3], angles.world_to_camera[:, :3, :3])
    assert torch.equal(resample_trajectory(path, 9).world_to_camera, path.world_to_camera)


def test_a_path_starts_where_it_is_told_to() -> None:
    path = orbit(CAMERA, 5, degrees=20, target_depth=2.0)
    elsewhere = truck(CAMERA, 2, distance=3.0, target_depth=2.0)[1]
    moved = start_at(path, elsewhere)
    assert torch.equal(moved.world_to_camera[0], elsewhere.world_to_camera)
    expected = orbit(elsewhere, 5, degrees=20, target_depth=2.0)
    torch.testing.assert_close(moved.world_to_camera, expected.world_to_camera)


def test_what_cannot_be_used_is_refused() -> None:
    path = orbit(CAMERA, 5, degrees=20, target_depth=2.0)
    with pytest.raises(InputError, match="num_frames is 1"):
        resample_trajectory(path, 1)
    with pytest.raises(InputError, match="at least 2 are needed"):
        resample_trajectory(path[:1], 5)
    with pytest.raises(InputError, match="method is 'linear'"):
        resample_trajectory(path, 5, method="linear")
    with pytest.raises(InputError, match="resize its cameras first"):
        start_at(path.resize(32, 24), CAMERA)


def test_each_key_camera_is_at_its_frame() -> None:
    keys = truck(Camera.from_fov(60, 64, 48), 5, distance=0.4, target_depth=2.0)
    keys = stack([keys[k] for k in (0, 3, 1, 4, 2)])
    path = interpolate_cameras(keys, 8)
    frames = key_frames(5, 8)
    assert frames == [0, 2, 4, 5, 7]
    for key, frame in enumerate(frames):
        assert (path.world_to_camera[frame] == keys.world_to_camera[key]).all()
