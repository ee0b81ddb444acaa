"""Camera paths from cameras: through key cameras, resampled to another number of frames, moved to another start."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.interpolate import CubicSpline, interp1d
from scipy.spatial.transform import Rotation, RotationSpline, Slerp

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.trajectory import check_frames

_FOCAL = [3, 7]  # places of fx and fy in a row of centre (3) and the two upper rows of K (6)


def interpolate_cameras(cameras: Sequence[Camera] | Camera, num_frames: int, *, method: str = "slerp") -> Camera:
    """Lay a path through key cameras, evenly spread over the frames; each key is hit exactly at its frame.

    Key k of K lies at frame round(k (F - 1) / (K - 1)), see :func:`key_frames`. The logarithm of the focal lengths and
    the principal point are interpolated as the centres are.

    Args:
        cameras: K >= 2 of one size, as a sequence or a batch.
        num_frames: F >= K.
        method: "slerp": centres on straight lines, rotations on great arcs; "cubic": a natural cubic spline of the
            centres and the rotation spline of scipy, smooth in velocity and acceleration.

    Returns:
        F cameras.

    Raises:
        InputError: fewer than two keys, fewer frames than keys, keys of unlike sizes, or another method.
    """
    keys = _keys(cameras)
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < len(keys):
        raise InputError(f"num_frames is {num_frames!r} for {len(keys)} key cameras; each needs a frame of its own")
    check_frames(num_frames)
    times = np.asarray(key_frames(len(keys), num_frames), dtype=np.float64)
    return _interpolate(keys, times, np.arange(num_frames, dtype=np.float64), method)


def key_frames(num_keys: int, num_frames: int) -> list[int]:
    """Frame of each key of a path that :func:`interpolate_cameras` makes: round(k (F - 1) / (K - 1))."""
    return [int(time) for time in np.round(np.linspace(0, num_frames - 1, num_keys))]


def resample_trajectory(cameras: Sequence[Camera] | Camera, num_frames: int, *, method: str = "slerp") -> Camera:
    """Bring a recorded path to another number of frames, more or fewer; its ends are kept.

    Args:
        cameras: K >= 2 of one size, as a sequence or a batch.
        num_frames: F >= 2; frame k lies at k (K - 1) / (F - 1) of the K cameras.
        method: as for `interpolate_cameras`.

    Returns:
        F cameras.

    Raises:
        InputError: fewer than two cameras or frames, cameras of unlike sizes, or another method.
    """
    keys = _keys(cameras)
    check_frames(num_frames)
    count = len(keys)
    return _interpolate(keys, np.arange(count, dtype=np.float64), np.linspace(0, count - 1, num_frames), method)


def start_at(trajectory: Camera, camera: Camera) -> Camera:
    """Make the same motion from another start: frame k becomes T_k T_0^-1 T, with world_to_camera matrices T.

    The first frame is exactly `camera`; lengths and intrinsics stay the path's own, but for the first frame's.

    Raises:
        InputError: unlike image sizes.
    """
    if (trajectory.width, trajectory.height) != (camera.width, camera.height):
        raise InputError(
            f"the path has images of {trajectory.width} x {trajectory.height}, but it should start at one of "
            f"{camera.width} x {camera.height}; resize its cameras first"
        )
    moved = trajectory.world_to_camera @ trajectory[0].camera_to_world @ camera.world_to_camera
    intrinsics = trajectory.intrinsics.clone()
    moved[0], intrinsics[0] = camera.world_to_camera, camera.intrinsics
    return replace(trajectory, world_to_camera=moved, intrinsics=intrinsics)


def _keys(cameras: Sequence[Camera] | Camera) -> Camera:
    """At least two cameras as one checked batch."""
    keys = cameras if isinstance(cameras, Camera) else stack(cameras)
    if len(keys.batch_shape) != 1 or len(keys) < 2:
        raise InputError(f"a camera path was given {list(keys.batch_shape)} cameras; at least 2 are needed")
    return keys.check()


def _interpolate(keys: Camera, times: np.ndarray, frames: np.ndarray, method: str) -> Camera:
    """Cameras at `frames` [F] between keys at `times` [K]; a frame at a key's time is that key, exactly."""
    rotations = Rotation.from_matrix(keys.world_to_camera[:, :3, :3].detach().double().cpu().numpy())
    intrinsics = keys.intrinsics.detach().double().cpu().numpy()
    centers = keys.center.detach().double().cpu().numpy()
    values = np.concatenate([centers, intrinsics[:, :2].reshape(-1, 6)], axis=1)
    values[:, _FOCAL] = np.log(values[:, _FOCAL])
    if method == "cubic":
        turned, moved = RotationSpline(times, rotations)(frames), CubicSpline(times, values, bc_type="natural")(frames)
    elif method == "slerp":
        turned, moved = Slerp(times, rotations)(frames), interp1d(times, values, axis=0)(frames)
    else:
        raise InputError(f"method is {method!r}; it must be 'slerp' or 'cubic'")
    moved[:, _FOCAL] = np.exp(moved[:, _FOCAL])
    matrix = np.tile(np.eye(4), (len(frames), 1, 1))
    matrix[:, :3, :3] = turned.as_matrix()
    matrix[:, :3, 3:] = -matrix[:, :3, :3] @ moved[:, :3, None]
    lens = np.tile(np.eye(3), (len(frames), 1, 1))
    lens[:, :2] = moved[:, 3:].reshape(-1, 2, 3)
    world_to_camera = torch.from_numpy(matrix).to(keys.world_to_camera)
    between = torch.from_numpy(lens).to(keys.intrinsics)
    for place, key in zip(*np.nonzero(frames[:, None] == times[None, :]), strict=True):
        world_to_camera[place], between[place] = keys.world_to_camera[key], keys.intrinsics[key]
    return replace(keys, intrinsics=between, world_to_camera=world_to_camera)
