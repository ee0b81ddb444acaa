"""Key cameras: where a path goes through, and the camera file that they are kept in."""

from pathlib import Path

import torch
from torch import Tensor

from mvguide.cameras.transforms import read_transforms, write_transforms
from mvguide.errors import FileError, InputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.keyframes import interpolate_cameras, key_frames

KEY_FRAMES = "key_frames"
"""Entry of the camera file that says which of its cameras are keys."""


class KeyCameras:
    """Key cameras of a path, in order, all with the lens of the first.

    The file holds the whole path, as the viewer draws it: ``--trajectory.kind file`` follows exactly that, and other
    programs read it. Which of its cameras are keys stands beside them, so that editing can go on.

    Args:
        start: the first key, of the video's size.
        num_frames: F of the path.
        fixed: the first key stays where it is, because a path of one image is moved so that it starts there.
    """

    def __init__(self, start: Camera, num_frames: int, *, fixed: bool) -> None:
        self.cameras, self.num_frames, self.fixed = [start], num_frames, fixed

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.cameras)

    def add(self, camera_to_world: Tensor) -> int:
        """Put a key at the end; its number.

        Raises:
            InputError: each key needs a frame of its own, and there are no more.
        """
        if len(self) == self.num_frames:
            raise InputError(
                f"{len(self)} key cameras are all that a path of {self.num_frames} frames can have; "
                "delete one, or ask for more frames with --num_frames"
            )
        self.cameras.append(self._camera(camera_to_world))
        return len(self) - 1

    def move(self, number: int, camera_to_world: Tensor) -> None:
        """Put a key elsewhere. Raises InputError for the first one where it is fixed."""
        self._check_free(number, "moved")
        self.cameras[number] = self._camera(camera_to_world)

    def delete(self, number: int) -> None:
        """Remove a key. Raises InputError for the last one that is left, and for the first one where it is fixed."""
        self._check_free(number, "deleted")
        if len(self) == 1:
            raise InputError("the last key camera cannot be deleted; move it instead")
        del self.cameras[number]

    def trajectory(self, *, smooth: bool) -> Camera:
        """F cameras through the keys.

        Args:
            smooth: along a cubic spline; otherwise on straight lines.

        Raises:
            InputError: fewer than two keys.
        """
        if len(self) < 2:
            raise InputError("a path needs at least 2 key cameras; add one where the path should go")
        return interpolate_cameras(self.cameras, self.num_frames, method="cubic" if smooth else "slerp")

    def save(self, path: str | Path, *, smooth: bool) -> Camera:
        """Write the path as a camera file, and return it.

        Raises:
            InputError: fewer than two keys.
            OutputError: the file cannot be written.
        """
        found = self.trajectory(smooth=smooth)
        names = [f"{number:04d}.png" for number in range(len(found))]
        write_transforms(path, found, names, {KEY_FRAMES: key_frames(len(self), self.num_frames)})
        return found

    def load(self, path: str | Path) -> None:
        """Take the keys of a file that :meth:`save` wrote in place of these.

        Raises:
            FileError: damaged, no such file, or where the first key is fixed, one that starts elsewhere.
        """
        found = read_transforms(path)
        numbers = found.extra.get(KEY_FRAMES)
        advice = "choose another file with --out"
        if (
            not isinstance(numbers, list)
            or not numbers
            or not all(type(number) is int and 0 <= number < len(found.cameras) for number in numbers)
        ):
            raise FileError(f"camera file {path} was not saved by mvguide view: it names no {KEY_FRAMES}; {advice}")
        if len(numbers) > self.num_frames:
            raise FileError(
                f"camera file {path} has {len(numbers)} key cameras, too many for {self.num_frames} frames; "
                f"ask for more with --num_frames, or {advice}"
            )
        poses = found.cameras.camera_to_world[numbers]
        if self.fixed and not torch.allclose(poses[0], self.cameras[0].camera_to_world.double(), atol=1e-6):
            raise FileError(f"camera file {path} starts elsewhere than this image: it is of another scene; {advice}")
        keys = [self._camera(pose) for pose in poses]
        self.cameras = [self.cameras[0], *keys[1:]] if self.fixed else keys

    def _camera(self, camera_to_world: Tensor) -> Camera:
        lens, pose = self.cameras[0], camera_to_world.double()
        turn = pose[:3, :3].T
        world_to_camera = torch.eye(4, dtype=torch.float64)
        world_to_camera[:3, :3], world_to_camera[:3, 3] = turn, -turn @ pose[:3, 3]
        return Camera(lens.intrinsics, world_to_camera, lens.width, lens.height).check()

    def _check_free(self, number: int, what: str) -> None:
        if self.fixed and number == 0:
            raise InputError(f"the path starts at the image, so the first key camera cannot be {what}; add another one")
