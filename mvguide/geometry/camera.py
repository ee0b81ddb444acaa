"""Pinhole cameras, one or a batch.

Convention: OpenCV axes (x right, y down, z forward); `world_to_camera` takes a world point into the camera; the
centre of the first pixel lies at (0.5, 0.5), so a picture spans [0, width] x [0, height]; depth is z along the
optical axis, not the length of the ray.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mvguide.errors import InputError

_RIGID_TOLERANCE = 1e-3  # matrices printed in text files with few digits must still pass
_LONGEST_FOCAL = 1e6  # in picture sides: a field of view of 0.00006 degrees; its inverse is the shortest


@dataclass(frozen=True, eq=False, repr=False)
class Camera:
    """A pinhole camera or a batch of them: pixel = K (R X + t) / z with [R t] = world_to_camera.

    intrinsics [..., 3, 3] in pixels and world_to_camera [..., 4, 4] (batch shapes are broadcast); width and height in
    pixels. All cameras of a batch share one picture size. Raises InputError for wrong shapes; `check` looks at the
    values.
    """

    intrinsics: Tensor  # [..., 3, 3]
    world_to_camera: Tensor  # [..., 4, 4]
    width: int
    height: int

    def __post_init__(self) -> None:
        """Bring the two matrices to one batch shape."""
        for name, size in (("intrinsics", 3), ("world_to_camera", 4)):
            shape = tuple(getattr(self, name).shape)
            if shape[-2:] != (size, size):
                raise InputError(f"camera {name} has shape {shape}; it must end in ({size}, {size})")
        for name, value in (("width", self.width), ("height", self.height)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"camera {name} is {value!r}; it must be a whole number of pixels, at least 1")
        try:
            batch = torch.broadcast_shapes(self.intrinsics.shape[:-2], self.world_to_camera.shape[:-2])
        except RuntimeError as error:
            given = f"{tuple(self.intrinsics.shape)} and {tuple(self.world_to_camera.shape)}"
            raise InputError(f"camera intrinsics and world_to_camera have unlike batch shapes: {given}") from error
        object.__setattr__(self, "intrinsics", self.intrinsics.expand(*batch, 3, 3))
        object.__setattr__(self, "world_to_camera", self.world_to_camera.expand(*batch, 4, 4))

    @staticmethod
    def from_fov(fov_degrees: float, width: int, height: int, world_to_camera: Any = None) -> "Camera":
        """Camera with square pixels and a centred principal point: f = (width / 2) / tan(fov / 2).

        Args:
            fov_degrees: horizontal field of view, in [0.0001, 179.999].
            width: pixels.
            height: pixels.
            world_to_camera: [4, 4]; the identity by default.

        Returns:
            one camera.

        Raises:
            InputError: a field of view, a size or a matrix that cannot be used.
        """
        if not 1e-4 <= float(fov_degrees) <= 179.999:
            raise InputError(
                f"fov is {fov_degrees} degrees; the horizontal field of view must lie between 0.0001 and 179.999, and "
                "is 20 to 100 for most pictures"
            )
        focal = width / 2 / math.tan(math.radians(float(fov_degrees)) / 2)
        return Camera.from_intrinsics((focal, focal, width / 2, height / 2), width, height, world_to_camera)

    @staticmethod
    def from_intrinsics(
        intrinsics: Sequence[float],
        width: int,
        height: int,
        world_to_camera: Any = None,
        pixel_center: float = 0.5,
    ) -> "Camera":
        """Camera from (fx, fy, cx, cy).

        Args:
            intrinsics: (fx, fy, cx, cy) in pixels.
            width: pixels.
            height: pixels.
            world_to_camera: [4, 4]; the identity by default.
            pixel_center: where the given cx, cy put the centre of the first pixel: 0.5 here; 0.0 in files of OpenCV and
                Open3D, to whose cx and cy 0.5 is added.

        Returns:
            one camera.

        Raises:
            InputError: not four numbers, another pixel_center, or what `check` refuses.
        """
        values = [float(value) for value in intrinsics]
        if len(values) != 4:
            raise InputError(f"intrinsics holds {len(values)} numbers; give the four of (fx, fy, cx, cy), in pixels")
        if pixel_center not in (0.0, 0.5):
            raise InputError(f"pixel_center is {pixel_center}; it must be 0.5 (ours) or 0.0 (OpenCV, Open3D)")
        fx, fy, cx, cy = values
        shift = 0.5 - pixel_center
        matrix = torch.tensor([[fx, 0, cx + shift], [0, fy, cy + shift], [0, 0, 1]], dtype=torch.float64)
        pose = torch.eye(4) if world_to_camera is None else torch.as_tensor(world_to_camera)
        return Camera(matrix, pose.to(torch.float64), width, height).check()

    @property
    def batch_shape(self) -> torch.Size:
        """Shape in front of the matrices; empty for one camera."""
        return self.intrinsics.shape[:-2]

    @property
    def camera_to_world(self) -> Tensor:
        """Inverse of world_to_camera, [..., 4, 4]."""
        inverse = torch.zeros_like(self.world_to_camera)
        inverse[..., :3, :3] = torch.linalg.inv(self.world_to_camera[..., :3, :3])
        inverse[..., :3, 3:] = -inverse[..., :3, :3] @ self.world_to_camera[..., :3, 3:]
        inverse[..., 3, 3] = 1
        return inverse

    @property
    def center(self) -> Tensor:
        """Centre of projection in the world, [..., 3]."""
        return self.camera_to_world[..., :3, 3]

    @property
    def forward(self) -> Tensor:
        """Direction of view in the world, unit length, [..., 3]."""
        return torch.nn.functional.normalize(self.world_to_camera[..., 2, :3], dim=-1)

    @property
    def fov_degrees(self) -> Tensor:
        """Horizontal field of view 2 atan(width / (2 fx)) in degrees, [...]."""
        return torch.rad2deg(2 * torch.atan(self.width / (2 * self.intrinsics[..., 0, 0])))

    def __repr__(self) -> str:
        """One line: how many, their size and field of view."""
        fov = self.fov_degrees.flatten().tolist() or [math.nan]
        lens = f"{min(fov):.4g}" + (f" to {max(fov):.4g}" if max(fov) - min(fov) > 1e-3 else "")
        count = f"{' x '.join(map(str, self.batch_shape))} of " if self.batch_shape else ""
        return f"Camera({count}{self.width} x {self.height}, fov {lens} degrees)"

    def _repr_html_(self) -> str:
        """The figures of one camera, or a trajectory from above and from the side, for notebooks."""
        from mvguide.drawing import notebook, page

        if not self.batch_shape:
            k, centre, forward = self.intrinsics.tolist(), self.center.tolist(), self.forward.tolist()
            figures = {
                "size": f"{self.width} x {self.height} pixels",
                "field of view": f"{float(self.fov_degrees):.4g} degrees",
                "focal length": f"{k[0][0]:.6g}, {k[1][1]:.6g} pixels",
                "principal point": f"{k[0][2]:.6g}, {k[1][2]:.6g} pixels",
                "centre": centre,
                "looks along": forward,
            }
            return page.pairs(figures)
        if len(self.batch_shape) > 1 or not len(self):
            return page.paragraph(repr(self))
        from mvguide.drawing.path_plot import plot_path

        nothing = torch.zeros(0, 3)
        plot = notebook.plot_png(lambda path: plot_path(path, [self[0]], self, (nothing, nothing)))
        return page.image(notebook.data_uri(plot), "the cameras from above and from the side", repr(self))

    def __len__(self) -> int:
        """Length of the first batch dimension."""
        if not self.batch_shape:
            raise TypeError("a single camera has no length; a trajectory (a batch of cameras) has")
        return self.batch_shape[0]

    def __iter__(self) -> Iterator["Camera"]:
        """The cameras of the first batch dimension, one after the other."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: Any) -> "Camera":
        """Cameras picked by an index into the batch dimensions."""
        if not self.batch_shape:
            raise TypeError("a single camera cannot be indexed; a trajectory (a batch of cameras) can")
        length = self.batch_shape[0]
        if isinstance(index, int) and not -length <= index < length:
            raise IndexError(f"camera {index} of {length}")
        return replace(self, intrinsics=self.intrinsics[index], world_to_camera=self.world_to_camera[index])

    def to(self, *args: Any, **kwargs: Any) -> "Camera":
        """Same cameras on another device or in another dtype, as Tensor.to."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(*args, **kwargs),
            world_to_camera=self.world_to_camera.to(*args, **kwargs),
        )

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and depth of world points: z (u, v, 1) = K (R X + t).

        points [..., N, 3] -> pixels [..., N, 2], depth [..., N]. Where depth <= 0 the point is behind the camera and
        its pixel means nothing.
        """
        points = points.to(self.world_to_camera)
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., None, :3, 3]
        in_camera = points @ rotation.mT + translation
        depth = in_camera[..., 2]
        return (in_camera / depth[..., None] @ self.intrinsics.mT)[..., :2], depth

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """World points of pixels at a depth, the inverse of `project`: X = R^-1 (z K^-1 (u, v, 1) - t).

        pixels [..., N, 2], depth [..., N] -> points [..., N, 3].
        """
        pixels, depth = pixels.to(self.intrinsics), depth.to(self.intrinsics)
        rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1) @ torch.linalg.inv(self.intrinsics).mT
        in_camera = rays * depth[..., None]
        camera_to_world = self.camera_to_world
        return in_camera @ camera_to_world[..., :3, :3].mT + camera_to_world[..., None, :3, 3]

    def pixel_grid(self) -> Tensor:
        """Centres of all pixels, (u, v) in [0, width] x [0, height], [H, W, 2]."""
        kind: dict[str, Any] = {"dtype": self.intrinsics.dtype, "device": self.intrinsics.device}
        v, u = torch.meshgrid(
            torch.arange(self.height, **kind) + 0.5, torch.arange(self.width, **kind) + 0.5, indexing="ij"
        )
        return torch.stack([u, v], dim=-1)

    def resize(self, width: int, height: int) -> "Camera":
        """Camera of the picture resized to width x height: the rows of K scale with the sides."""
        resized = replace(self, width=width, height=height)
        scale = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(resized, intrinsics=scale[:, None] * self.intrinsics)

    def crop(self, left: int, top: int, width: int, height: int) -> "Camera":
        """Camera of a cut-out of the picture: the principal point moves by (-left, -top).

        Args:
            left: first column of the cut-out, >= 0.
            top: first row, >= 0.
            width: columns.
            height: rows.

        Returns:
            cameras of size width x height.

        Raises:
            InputError: a cut-out that leaves the picture.
        """
        cropped = replace(self, width=width, height=height)
        if left < 0 or top < 0 or left + width > self.width or top + height > self.height:
            wanted = f"{width}x{height} at ({left}, {top})"
            raise InputError(f"crop {wanted} leaves the {self.width}x{self.height} picture; it must lie inside")
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, 2] -= left
        intrinsics[..., 1, 2] -= top
        return replace(cropped, intrinsics=intrinsics)

    def check(self) -> "Camera":
        """Return the camera itself if its values make a camera; else raise InputError with the first fault found."""
        fault = _intrinsics_fault(self) or rigid_fault(self.world_to_camera)
        if fault:
            raise InputError(fault)
        return self


def stack(cameras: Sequence[Camera]) -> Camera:
    """One batch [F, ...] of cameras; raises InputError for none, or for unlike picture sizes or batch shapes."""
    if not cameras:
        raise InputError("no cameras were given to stack; at least 1 is needed")
    if len({(camera.width, camera.height, camera.batch_shape) for camera in cameras}) > 1:
        sizes = sorted({f"{camera.width}x{camera.height}{list(camera.batch_shape) or ''}" for camera in cameras})
        raise InputError(f"cameras to stack have unlike sizes ({', '.join(sizes)}); resize them to one size first")
    return replace(
        cameras[0],
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
        world_to_camera=torch.stack([camera.world_to_camera for camera in cameras]),
    )


def _intrinsics_fault(camera: Camera) -> str | None:
    """First fault of the intrinsics as a sentence, or None."""
    matrix = camera.intrinsics.detach().double().cpu().reshape(-1, 3, 3)
    focal, principal = matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2]
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    if not torch.isfinite(matrix).all():
        return "camera intrinsics hold NaN or infinite values; give finite fx, fy, cx, cy in pixels"
    if (focal == 0).any():
        return "camera intrinsics are singular: a focal length is 0; give fx and fy > 0, in pixels"
    if (focal < 0).any():
        return (
            "camera intrinsics have a negative focal length, which turns the picture upside down or mirrors it; "
            "give fx and fy > 0 with OpenCV axes (x right, y down, z forward)"
        )
    side = max(camera.width, camera.height)
    if ((focal > _LONGEST_FOCAL * side) | (focal < side / _LONGEST_FOCAL)).any():
        odd = focal[(focal > _LONGEST_FOCAL * side) | (focal < side / _LONGEST_FOCAL)][0]
        return (
            f"focal length {odd:.3g} pixels is none of a {camera.width}x{camera.height} picture; give fx, fy in pixels"
        )
    bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if (matrix[:, 2] != bottom).any() or (matrix[:, 1, 0] != 0).any():
        return "camera intrinsics must have the form [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]"
    if (principal < -size).any() or (principal > 2 * size).any():
        outside = ((principal < -size) | (principal > 2 * size)).any(dim=1)
        x, y = principal[outside][0].tolist()
        picture = f"{camera.width}x{camera.height}"
        return f"principal point ({x:g}, {y:g}) lies far outside the {picture} picture; give cx, cy for this size"
    if min(camera.width, camera.height) > 16 and (focal < 4).any() and (principal < 2).all():
        return (
            f"camera intrinsics look normalised (focal length {focal.min():g}, principal point below 2); "
            f"multiply fx, cx by the width {camera.width} and fy, cy by the height {camera.height}"
        )
    return None


def rigid_fault(motion: Tensor, name: str = "world_to_camera") -> str | None:
    """First fault that keeps 4x4 matrices [..., 4, 4] from being rigid motions, as a sentence about `name`, or None."""
    matrix = motion.detach().double().cpu().reshape(-1, 4, 4)
    if not torch.isfinite(matrix).all():
        return f"{name} holds NaN or infinite values; give a finite 4x4 matrix"
    bottom, last = matrix[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if ((bottom - last).abs() > 1e-6).any():
        transposed = ((matrix[:, :, 3] - last).abs() <= 1e-6).all()
        hint = "it looks transposed" if transposed else "give a rigid motion, 4x4"
        return f"{name} must end in the row 0 0 0 1; {hint}"
    rotation = matrix[:, :3, :3]
    determinant = torch.linalg.det(rotation)
    size = torch.linalg.matrix_norm(rotation, ord=2) ** 3
    if (determinant.abs() <= 1e-9 * size).any():
        return f"{name} is singular: its rotation has determinant 0; give a rigid motion"
    if (determinant < 0).any():
        return (
            f"{name} is reflected (determinant below 0: left-handed, or one axis upside down); OpenCV axes are "
            "x right, y down, z forward; from OpenGL turn y and z over together, camera_to_world @ diag(1, -1, -1, 1)"
        )
    error = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax(dim=(1, 2))
    if not (error <= _RIGID_TOLERANCE).all():  # numbers so large that their products overflow give NaN
        scale = float(determinant[error.argmax()]) ** (1 / 3)
        return f"{name} is not rigid (its rotation scales by {scale:.4g} or shears); divide the scale out first"
    return None
