"""A view: one input image with its camera and, mostly, its depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.depth.maps import Depth, DepthKind, fit_depth, read_depth
from mvguide.errors import InputError
from mvguide.files.images import read_image
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import make_trajectory
from mvguide.memory import check_memory

DEFAULT_FOV = 60.0
"""Horizontal field of view assumed when neither it nor intrinsics are given, in degrees: a phone's main lens."""

INFINITY = 100.0
"""What is infinitely far has this many times the largest depth that is known in its view."""


@dataclass(frozen=True, repr=False)
class View:
    """An input image.

    Args:
        image: ``[3, H, W]`` float32 in [0, 1].
        camera: one camera of the image's size.
        depth: a depth map of the image's size, or None.
        name: file name, for messages and reports.
        confidence: ``[H, W]`` in [0, 1], how far to trust the depth of each pixel; None = all of it.
        background: ``[H, W]`` bool, pixels that are infinitely far; see :meth:`with_background`. None = none of them.

    Raises:
        InputError: sizes that differ.
    """

    image: Tensor
    camera: Camera
    depth: Depth | None = None
    name: str = "view"
    confidence: Tensor | None = None
    background: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that image, camera and depth are of one size."""
        size = (self.camera.height, self.camera.width)
        if tuple(self.image.shape) != (3, *size):
            raise InputError(f"{self.name} has an image {tuple(self.image.shape)} but a camera of {(3, *size)}")
        if self.depth is not None and tuple(self.depth.values.shape) != size:
            raise InputError(f"{self.name} has depth {tuple(self.depth.values.shape)} but a camera of {size}")
        if self.background is not None and tuple(self.background.shape) != size:
            raise InputError(f"{self.name} has a background {tuple(self.background.shape)} but a camera of {size}")
        if self.confidence is not None and tuple(self.confidence.shape) != size:
            raise InputError(f"{self.name} has confidence {tuple(self.confidence.shape)} but a camera of {size}")

    def __repr__(self) -> str:
        """One line: name, size, and what is known of its depth."""
        depth = "no depth" if self.depth is None else f"median depth {self.median_depth:.3g}"
        return f"View({self.name}, {self.camera.width} x {self.camera.height}, {depth})"

    def _repr_png_(self) -> bytes:
        """The image, and beside it the depth map if there is one (near is bright), for notebooks."""
        from mvguide.drawing.notebook import depth_picture, picture_png

        parts = [self.image.cpu()]
        if self.depth is not None:
            parts.append(depth_picture(self.depth.values.cpu(), self.scene_depth.valid.cpu()))
        return picture_png(torch.cat(parts, dim=-1))

    def trajectory(self, kind: str, num_frames: int, *, target_depth: float | None = None, **params: Any) -> Camera:
        """Camera path from this view, measured by its own depth.

        Args:
            kind: a name in ``TRAJECTORIES``: orbit, dolly, ...
            num_frames: F.
            target_depth: depth of the point on the optical axis that the path is measured by; the median depth by
                default.
            params: of the kind, such as ``degrees``.

        Returns:
            F cameras of the image's size.

        Raises:
            InputError: an unknown kind or parameter, or a view without depth.
        """
        depth = self.median_depth if target_depth is None else target_depth
        return make_trajectory(kind, self.camera, num_frames, depth, **params)

    @property
    def median_depth(self) -> float:
        """Median of the known depths before the background, in scene units. Raises InputError without depth."""
        return self.scene_depth.median

    @property
    def scene_depth(self) -> Depth:
        """The depth map without the background. Raises InputError where there is none."""
        depth = self.require_depth()
        return depth if self.background is None else replace(depth, valid=depth.valid & ~self.background)

    def with_background(self, mask: Tensor) -> "View":
        """The view with pixels that are infinitely far, so that they are warped along instead of being holes.

        Their depth becomes 100 times the largest one that is known elsewhere: they move against the farthest surface as
        if they stood still, to a hundredth of its own motion, and stay finite.

        Args:
            mask: ``[H, W]`` bool.

        Raises:
            InputError: no depth, or none but that of the background.
        """
        depth = self.require_depth()
        known = depth.values[depth.valid & ~mask]
        if not len(known):
            raise InputError(f"all of {self.name} that has depth is background; give depth for what is before it")
        values = torch.where(mask, INFINITY * known.max(), depth.values)
        return replace(self, depth=replace(depth, values=values, valid=depth.valid | mask), background=mask)

    def require_depth(self) -> Depth:
        """The depth map. Raises InputError where there is none."""
        if self.depth is None:
            raise InputError(f"{self.name} has no depth, which warping needs; give a depth map of it")
        return self.depth

    def to(self, device: torch.device | str) -> "View":
        """Image, depth and confidence on a device; the camera stays on the CPU."""
        depth = None if self.depth is None else self.depth.to(device)
        confidence = None if self.confidence is None else self.confidence.to(device)
        background = None if self.background is None else self.background.to(device)
        image = self.image.to(device)
        return replace(self, image=image, depth=depth, confidence=confidence, background=background)

    def crop(self, left: int, top: int, width: int, height: int) -> "View":
        """The cut-out [left, left + width) x [top, top + height), camera and depth with it.

        Args:
            left: first column, from 0.
            top: first row, from 0.
            width: columns, at least 1.
            height: rows, at least 1.

        Returns:
            View [height, width], which shares its memory with this one.

        Raises:
            InputError: a cut-out that leaves the image.
        """
        camera = self.camera.crop(left, top, width, height)
        rows, columns = slice(top, top + height), slice(left, left + width)
        depth = None if self.depth is None else self.depth.crop(left, top, width, height)
        confidence = None if self.confidence is None else self.confidence[rows, columns]
        background = None if self.background is None else self.background[rows, columns]
        return View(self.image[:, rows, columns], camera, depth, self.name, confidence, background)

    def resize(self, width: int, height: int) -> "View":
        """The view at another size, camera and depth with it; a change of shape stretches it.

        Args:
            width: columns wanted, at least 1.
            height: rows wanted, at least 1.

        Raises:
            InputError: so many pixels need more memory than is free.
        """
        _check_size(width, height, self.name)
        depth = None if self.depth is None else self.depth.resize(width, height)
        confidence = self.confidence
        if confidence is not None:
            confidence = interpolate(confidence[None, None], (height, width), mode="area")[0, 0]
        background = self.background
        if background is not None:  # as depth is, of which it is a part
            background = Depth(background.float(), background, False).resize(width, height).valid
        image = resize_image(self.image, width, height)
        return View(image, self.camera.resize(width, height), depth, self.name, confidence, background)

    def fit(self, width: int, height: int) -> "View":
        """View resized to cover ``width`` x ``height`` and cropped around the centre, camera and depth with it."""
        crop = _Crop.cover(self.camera.width, self.camera.height, width, height)
        return self.cover(width, height).crop(crop.left, crop.top, width, height)

    def cover(self, width: int, height: int) -> "View":
        """View resized to the smallest size of its own shape that covers ``width`` x ``height``, nothing cut off."""
        crop = _Crop.cover(self.camera.width, self.camera.height, width, height)
        return self.resize(crop.width, crop.height)

    @classmethod
    def from_files(
        cls,
        image: str | Path,
        depth: str | Path | None = None,
        *,
        fov: float | None = None,
        intrinsics: Sequence[float] | None = None,
        pixel_center: float = 0.5,
        depth_unit: float = 1.0,
        depth_kind: DepthKind | None = None,
        depth_invalid: float | None = None,
        world_to_camera: Tensor | None = None,
    ) -> "View":
        """A view from an image file and a depth file.

        Args:
            image: image file; grey, RGBA, 16-bit and EXIF rotation come out right.
            depth: depth file (``.npy``, ``.npz``, ``.pfm``, ``.png``, ``.tif``); resized to the image if it shows
                the same.
            fov: horizontal field of view in degrees; 60 if intrinsics are not given either.
            intrinsics: (fx, fy, cx, cy) in pixels of the image, instead of fov.
            pixel_center: where the given cx, cy put the centre of the first pixel: 0.5 (here, COLMAP, nerfstudio) or
                0.0 (OpenCV, Open3D).
            depth_unit: scene units for one stored unit (0.001 for millimetres).
            depth_kind: ``depth`` or ``disparity`` (inverse depth); None = depth, but refused if it looks inverse.
            depth_invalid: stored value that means "no data", besides 0.
            world_to_camera: ``[4, 4]``; the identity by default.

        Returns:
            View of the image's size.

        Raises:
            FileError, InputError: see ``files.images.read_image``, ``depth.maps.read_depth`` and ``Camera``.
        """
        picture = read_image(image)
        height, width = picture.shape[-2:]
        if intrinsics is not None and fov is not None:
            raise InputError("both fov and intrinsics were given; give one of them")
        if intrinsics is not None:
            camera = Camera.from_intrinsics(intrinsics, width, height, world_to_camera, pixel_center)
        else:
            camera = Camera.from_fov(DEFAULT_FOV if fov is None else fov, width, height, world_to_camera)
        found = None
        if depth is not None:
            stored = read_depth(depth, unit=depth_unit, kind=depth_kind, invalid=depth_invalid)
            found = fit_depth(stored, width, height)
        return cls(picture, camera.check(), found, Path(image).name)


def resize_image(image: Tensor, width: int, height: int) -> Tensor:
    """Resize an image, bilinear, and smoothed where it gets smaller.

    Args:
        image: [C, H, W] in [0, 1].
        width: columns wanted, at least 1.
        height: rows wanted, at least 1.

    Returns:
        [C, height, width] in [0, 1].

    Raises:
        InputError: so many pixels need more memory than is free.
    """
    _check_size(width, height, "image")
    return interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)


def _check_size(width: int, height: int, what: str) -> None:
    """Refuse a size whose pixels would not fit into memory: colours twice, depth, its mask and confidence."""
    needed = (2 * 3 * 4 + 4 + 1 + 4) * width * height
    check_memory(needed, f"{what} at {width} x {height}", "ask for a smaller size")


def scene_points(views: Sequence[View], count: int) -> tuple[Tensor, Tensor]:
    """Evenly picked points of all views' depth maps before the background, at most about ``count``.

    Returns world ``[N, 3]`` and colours ``[N, 3]``.
    """
    points, colours = [], []
    for view in views:
        depth = view.scene_depth
        rows, columns = depth.valid.nonzero(as_tuple=True)
        step = max(1, -(-len(rows) * len(views) // count))
        # Each row is shifted against the one above: otherwise whole columns are left out where the width is a multiple.
        picked = (columns + round(0.618 * step) * rows) % step == 0
        rows, columns = rows[picked], columns[picked]
        pixels = view.camera.pixel_grid()[rows, columns]
        points.append(view.camera.unproject(pixels, depth.values[rows, columns].double()))
        colours.append(view.image[:, rows, columns].T)
    return torch.cat(points), torch.cat(colours)


def fit_camera(camera: Camera, width: int, height: int) -> Camera:
    """Camera of the image that :meth:`View.fit` makes.

    Args:
        camera: one camera or a batch [F].
        width: columns of the video.
        height: rows of the video.

    Returns:
        The cameras, of that size.
    """
    crop = _Crop.cover(camera.width, camera.height, width, height)
    return camera.resize(crop.width, crop.height).crop(crop.left, crop.top, width, height)


def unfit_camera(camera: Camera, width: int, height: int) -> Camera:
    """Camera of the whole image of which :func:`fit_camera` makes this camera; its inverse.

    Args:
        camera: one camera or a batch [F], of the video's size.
        width: columns of the image.
        height: rows of the image.

    Returns:
        The cameras, of the image's size.
    """
    crop = _Crop.cover(width, height, camera.width, camera.height)
    intrinsics = camera.intrinsics.clone()
    intrinsics[..., 0, 2] += crop.left
    intrinsics[..., 1, 2] += crop.top
    return replace(camera, intrinsics=intrinsics, width=crop.width, height=crop.height).resize(width, height)


@dataclass(frozen=True)
class _Crop:
    """Size to resize to, and the corner at which to cut."""

    width: int
    height: int
    left: int
    top: int

    @classmethod
    def cover(cls, from_width: int, from_height: int, width: int, height: int) -> "_Crop":
        """Smallest size of the same shape that covers width x height, cut around the centre."""
        scale = max(width / from_width, height / from_height)
        covering = max(width, math.ceil(from_width * scale - 0.5)), max(height, math.ceil(from_height * scale - 0.5))
        return cls(*covering, (covering[0] - width) // 2, (covering[1] - height) // 2)
