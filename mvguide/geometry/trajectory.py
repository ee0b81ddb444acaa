"""Camera paths: batches of F cameras whose first is exactly the camera they start from.

Moves are made in the axes of the starting camera: right = +x, up = -y, forward = +z. Lengths are shares of
target_depth, the depth of the point on the optical axis that the scene turns around; angles are degrees. Progress s
along a path runs from 0 to 1, evenly ("linear") or with a soft start and end ("smooth", 3 s^2 - 2 s^3). All paths
return F cameras of the starting camera's size, and raise InputError for a batch of cameras or a value out of range.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.memory import check_memory

Easing = Literal["linear", "smooth"]

_FRAME_BYTES = 1000  # of a camera while its path is made: a few 4 x 4 matrices in float64


def orbit(
    camera: Camera,
    num_frames: int,
    *,
    target_depth: float,
    degrees: float = 15.0,
    elevation: float = 0.0,
    easing: Easing = "linear",
) -> Camera:
    """Turn around the point at target_depth on the optical axis, about the camera's own up axis, looking at it.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        degrees: angle at the last frame; > 0 moves the camera to the right: the right side of things comes to view.
        elevation: degrees by which the camera has risen at the last frame, in (-90, 90).
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    progress, depth = _progress(camera, num_frames, easing), _depth(target_depth)
    angle = _number("degrees", degrees) * progress
    rise = _number("elevation", elevation, -90, 90) * progress
    turns = Rotation.from_euler("YX", np.stack([-angle, -rise], axis=-1), degrees=True).as_matrix()
    target = np.array([0.0, 0.0, depth])
    return _moved(camera, turns, target - turns @ target)


def ellipse(
    camera: Camera,
    num_frames: int,
    *,
    target_depth: float,
    radius_x: float = 0.1,
    radius_y: float = 0.05,
    turns: float = 1.0,
    look_at: bool = True,
    easing: Easing = "linear",
) -> Camera:
    """Go round an ellipse from its lowest point: right = radius_x sin a, up = radius_y (1 - cos a).

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        radius_x: half of the width of the path, in target_depth.
        radius_y: half of the height of the path, in target_depth.
        turns: whole turns, first to the right if > 0; one whole turn ends where it began.
        look_at: keep the point at target_depth in the middle; otherwise the camera does not turn.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    angle = 2 * math.pi * _number("turns", turns) * _progress(camera, num_frames, easing)
    depth, x, y = _depth(target_depth), _number("radius_x", radius_x), _number("radius_y", radius_y)
    move = depth * np.stack([x * np.sin(angle), y * (np.cos(angle) - 1), np.zeros_like(angle)], axis=-1)
    return _moved(camera, _looking(move, depth) if look_at else None, move)


def spiral(
    camera: Camera,
    num_frames: int,
    *,
    target_depth: float,
    radius: float = 0.1,
    turns: float = 2.0,
    forward: float = 0.0,
    look_at: bool = True,
    easing: Easing = "linear",
) -> Camera:
    """Wind outwards from the start: right = radius s sin(a), up = radius s cos(a), with a = 360 turns s.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        radius: radius at the last frame, in target_depth.
        turns: whole turns around the start.
        forward: length of the move along the optical axis, in target_depth, below 1.
        look_at: keep the point at target_depth in the middle; otherwise the camera does not turn.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    progress, depth = _progress(camera, num_frames, easing), _depth(target_depth)
    angle = 2 * math.pi * _number("turns", turns) * progress
    wide, ahead = _number("radius", radius) * progress, _forward("forward", forward) * progress
    move = depth * np.stack([wide * np.sin(angle), -wide * np.cos(angle), ahead], axis=-1)
    return _moved(camera, _looking(move, depth) if look_at else None, move)


def dolly(
    camera: Camera, num_frames: int, *, target_depth: float, distance: float = 0.2, easing: Easing = "linear"
) -> Camera:
    """Move along the optical axis.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        distance: length of the move, in target_depth; forward if > 0; below 1.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _straight(camera, num_frames, (0, 0, _forward("distance", distance)), target_depth, easing)


def truck(
    camera: Camera, num_frames: int, *, target_depth: float, distance: float = 0.1, easing: Easing = "linear"
) -> Camera:
    """Move sideways without turning.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        distance: length of the move, in target_depth; to the right if > 0.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _straight(camera, num_frames, (_number("distance", distance), 0, 0), target_depth, easing)


def pedestal(
    camera: Camera, num_frames: int, *, target_depth: float, distance: float = 0.1, easing: Easing = "linear"
) -> Camera:
    """Move up or down without turning.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        target_depth: scene units, > 0.
        distance: length of the move, in target_depth; up if > 0.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _straight(camera, num_frames, (0, -_number("distance", distance), 0), target_depth, easing)


def pan(camera: Camera, num_frames: int, *, degrees: float = 10.0, easing: Easing = "linear") -> Camera:
    """Turn about the camera's up axis in place.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        degrees: angle at the last frame; to the right if > 0.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _turned(camera, num_frames, "y", degrees, easing)


def tilt(camera: Camera, num_frames: int, *, degrees: float = 10.0, easing: Easing = "linear") -> Camera:
    """Turn about the camera's x axis in place.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        degrees: angle at the last frame; upwards if > 0.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _turned(camera, num_frames, "x", degrees, easing)


def roll(camera: Camera, num_frames: int, *, degrees: float = 10.0, easing: Easing = "linear") -> Camera:
    """Turn about the optical axis in place.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        degrees: angle at the last frame; clockwise if > 0, which turns the image counter-clockwise.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    return _turned(camera, num_frames, "z", degrees, easing)


def zoom(camera: Camera, num_frames: int, *, factor: float = 1.25, easing: Easing = "linear") -> Camera:
    """Change the focal length at an even rate, f_s = f factor^s; nothing moves.

    Args:
        camera: one camera, the first of the path.
        num_frames: F >= 2.
        factor: focal length at the last frame over that at the first, > 0.
        easing: speed along the path, linear or smooth (slow at both ends).
    """
    progress = _progress(camera, num_frames, easing)
    factors = _number("factor", factor, 0) ** progress
    batch = _moved(camera, None, np.zeros((num_frames, 3)))
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 0, :2] *= torch.from_numpy(factors).to(intrinsics)[:, None]
    intrinsics[:, 1, 1] *= torch.from_numpy(factors).to(intrinsics)
    return replace(batch, intrinsics=intrinsics)


TRAJECTORIES: dict[str, Callable[..., Camera]] = {
    "orbit": orbit,
    "ellipse": ellipse,
    "dolly": dolly,
    "truck": truck,
    "pedestal": pedestal,
    "pan": pan,
    "tilt": tilt,
    "roll": roll,
    "zoom": zoom,
    "spiral": spiral,
}


def make_trajectory(kind: str, camera: Camera, num_frames: int, target_depth: float, **params: Any) -> Camera:
    """Make a trajectory by its name: TRAJECTORIES[kind], given target_depth if it takes one.

    Args:
        kind: one of TRAJECTORIES.
        camera: where the path starts.
        num_frames: F >= 2.
        target_depth: scene units, > 0; not used by a kind that only turns or zooms.
        **params: what the kind takes besides.

    Returns:
        F cameras.

    Raises:
        InputError: an unknown kind, a parameter that the kind does not have, or a value out of its range.
    """
    if kind not in TRAJECTORIES:
        raise InputError(f"trajectory kind is {kind!r}; it must be one of {', '.join(TRAJECTORIES)}")
    known = [name for name in inspect.signature(TRAJECTORIES[kind]).parameters if name not in ("camera", "num_frames")]
    unknown = [name for name in params if name not in known or name == "target_depth"]
    if unknown:
        takes = ", ".join(name for name in known if name != "target_depth")
        raise InputError(f"trajectory {kind} has no parameter {', '.join(unknown)}; it takes {takes}")
    if "target_depth" in known:
        params["target_depth"] = target_depth
    return TRAJECTORIES[kind](camera, num_frames, **params)


def check_frames(num_frames: int) -> None:
    """Refuse a number of frames that makes no video, or whose cameras alone would not fit into memory.

    Raises:
        InputError: not a whole number of at least 2, or too many.
    """
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 2:
        raise InputError(f"num_frames is {num_frames!r}; a trajectory needs a whole number of frames, at least 2")
    check_memory(_FRAME_BYTES * num_frames, f"a path of {num_frames} frames", "ask for fewer with num_frames")


def _number(name: str, value: float, above: float = -math.inf, below: float = math.inf) -> float:
    """Value as a finite float strictly between two bounds."""
    number = float(value)
    if not (math.isfinite(number) and above < number < below):
        bounds = [f"above {above:g}"] * math.isfinite(above) + [f"below {below:g}"] * math.isfinite(below)
        raise InputError(f"{name} is {value}; it must be {' and '.join(['finite', *bounds])}")
    return number


def _depth(target_depth: float) -> float:
    """Depth to turn around, above 0."""
    return _number("target_depth", target_depth, 0)


def _forward(name: str, share: float) -> float:
    """Share of target_depth to move forward; at 1 the camera would stand in the target."""
    if float(share) >= 1:
        raise InputError(f"{name} is {share} of target_depth: the camera would reach its target; it must be below 1")
    return _number(name, share)


def _progress(camera: Camera, num_frames: int, easing: str) -> np.ndarray:
    """Share of the way at each frame, [F] from 0 to 1, after checking what every trajectory is given."""
    check_frames(num_frames)
    if camera.batch_shape:
        raise InputError(f"a trajectory starts from one camera, but a batch of {list(camera.batch_shape)} was given")
    camera.check()
    steps = np.linspace(0, 1, num_frames)
    if easing == "linear":
        return steps
    if easing == "smooth":
        return steps * steps * (3 - 2 * steps)
    raise InputError(f"easing is {easing!r}; it must be 'linear' or 'smooth'")


def _moved(camera: Camera, turns: np.ndarray | None, moves: np.ndarray) -> Camera:
    """Cameras at moves [F, 3] with axes turns [F, 3, 3], both in the starting camera; frame 0 is that camera."""
    inverse = np.tile(np.eye(4), (len(moves), 1, 1))
    if turns is not None:
        inverse[:, :3, :3] = turns.transpose(0, 2, 1)
    inverse[:, :3, 3:] = -inverse[:, :3, :3] @ moves[..., None]
    world_to_camera = torch.from_numpy(inverse).to(camera.world_to_camera) @ camera.world_to_camera
    world_to_camera[0] = camera.world_to_camera
    return replace(camera, world_to_camera=world_to_camera)


def _looking(moves: np.ndarray, depth: float) -> np.ndarray:
    """Axes [F, 3, 3] (columns x, y, z) that look from moves [F, 3] at (0, 0, depth), upright in the starting camera."""
    forward = np.array([0.0, 0.0, depth]) - moves
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(forward, right), forward], axis=-1)


def _straight(
    camera: Camera, num_frames: int, direction: tuple[float, float, float], target_depth: float, easing: str
) -> Camera:
    """Move along a line by direction * target_depth."""
    progress = _progress(camera, num_frames, easing)
    return _moved(camera, None, progress[:, None] * _depth(target_depth) * np.array(direction))


def _turned(camera: Camera, num_frames: int, axis: str, degrees: float, easing: str) -> Camera:
    """Turn in place about one axis."""
    progress = _progress(camera, num_frames, easing)
    turns = Rotation.from_euler(axis, _number("degrees", degrees) * progress[:, None], degrees=True).as_matrix()
    return _moved(camera, turns, np.zeros((num_frames, 3)))
