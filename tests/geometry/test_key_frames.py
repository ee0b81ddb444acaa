"""Frames of a path's keys."""

from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import interpolate_cameras, key_frames
from mvguide.geometry.trajectory import truck


def test_each_key_camera_is_at_its_frame() -> None:
    keys = truck(Camera.from_fov(60, 64, 48), 5, distance=0.4, target_depth=2.0)
    keys = stack([keys[k] for k in (0, 3, 1, 4, 2)])
    path = interpolate_cameras(keys, 8)
    frames = key_frames(5, 8)
    assert frames == [0, 2, 4, 5, 7]
    for key, frame in enumerate(frames):
        assert (path.world_to_camera[frame] == keys.world_to_camera[key]).all()
