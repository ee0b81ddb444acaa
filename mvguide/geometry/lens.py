"""Lens distortion: what bends the straight lines of an image, and the image without it.

Convention: points are normalised, (x, y) = (X / Z, Y / Z) in OpenCV axes (x right, y down), before K is applied. The
model is OpenCV's radial-tangential one with five numbers, also called Brown-Conrady; COLMAP's SIMPLE_RADIAL, RADIAL and
OPENCV and nerfstudio's OPENCV are the same with some of the numbers 0.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera

Resampling = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Lens:
    """Distortion of a lens; all 0 is a pinhole. Raises InputError for numbers that are not finite."""

    k1: float = 0.0
    """Radial, with r^2."""
    k2: float = 0.0
    """Radial, with r^4."""
    k3: float = 0.0
    """Radial, with r^6."""
    p1: float = 0.0
    """Tangential: the lens leans up or down."""
    p2: float = 0.0
    """Tangential: the lens leans left or right."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"lens {entry.name} is {value!r}; it must be a finite number, 0 where there is none")

    @property
    def is_pinhole(self) -> bool:
        """True where nothing is bent."""
        return not any(getattr(self, entry.name) for entry in fields(self))


def distort(points: Tensor, lens: Lens) -> Tensor:
    """Where a lens moves normalised points.

    With r^2 = x^2 + y^2 and s = 1 + k1 r^2 + k2 r^4 + k3 r^6:

        x' = s x + 2 p1 x y + p2 (r^2 + 2 x^2)
        y' = s y + p1 (r^2 + 2 y^2) + 2 p2 x y

    (OpenCV 4, module calib3d, "Detailed Description", with k4 = k5 = k6 = 0; Brown 1966.)

    Args:
        points: [..., 2], normalised: (X / Z, Y / Z).
        lens: the distortion.

    Returns:
        [..., 2], normalised: multiply by K for pixels.

    Raises:
        InputError: points of another shape.
    """
    if points.ndim < 1 or points.shape[-1] != 2:
        raise InputError(f"points to distort have shape {tuple(points.shape)}; it must end in 2, for x and y")
    x, y = points.unbind(-1)
    square = x * x + y * y
    radial = 1 + square * (lens.k1 + square * (lens.k2 + square * lens.k3))
    along_x = radial * x + 2 * lens.p1 * x * y + lens.p2 * (square + 2 * x * x)
    along_y = radial * y + lens.p1 * (square + 2 * y * y) + 2 * lens.p2 * x * y
    return torch.stack([along_x, along_y], dim=-1)


def undistort(image: Tensor, camera: Camera, lens: Lens, mode: Resampling = "bilinear") -> tuple[Tensor, Tensor]:
    """The image as a pinhole camera of the same K and size would have taken it.

    Each pixel centre of the result is distorted and looked up in the image; no iteration is needed this way round.

    Args:
        image: [C, H, W] floats, of the camera's size.
        camera: one camera, the K of the image.
        lens: the image's distortion.
        mode: "nearest" for depth and masks, whose values must not be mixed.

    Returns:
        The image [C, H, W], 0 where nothing was seen, and `inside`, bool [H, W]: False where the ray left the
        image, or is so far out that the polynomial folds back and would show the image a second time.

    Raises:
        InputError: shapes that do not fit together, integers, a batch of cameras, or an unknown mode.
    """
    if camera.batch_shape:
        raise InputError(f"undistort takes one camera, not a batch {list(camera.batch_shape)}; call it for each image")
    if image.ndim != 3 or tuple(image.shape[1:]) != (camera.height, camera.width):
        raise InputError(
            f"image to undistort has shape {tuple(image.shape)}; with this camera it must be "
            f"(channels, {camera.height}, {camera.width})"
        )
    if not image.is_floating_point():
        raise InputError(f"image to undistort holds {image.dtype}; give floats, images in [0, 1]")
    if mode not in get_args(Resampling):
        raise InputError(f"mode is {mode!r}; it must be 'bilinear' or 'nearest'")
    if lens.is_pinhole:
        return image.clone(), torch.ones(image.shape[1:], dtype=torch.bool, device=image.device)
    camera = camera.to(image.device, torch.float64)
    pixels = camera.pixel_grid()
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    straight = (homogeneous @ torch.linalg.inv(camera.intrinsics).mT)[..., :2]
    bent = distort(straight, lens)
    source = (torch.cat([bent, torch.ones_like(bent[..., :1])], dim=-1) @ camera.intrinsics.mT)[..., :2]
    size = source.new_tensor([camera.width, camera.height])
    inside = ((source >= 0) & (source <= size)).all(dim=-1) & (straight.square().sum(dim=-1) < _fold(lens))
    # With align_corners=False, -1 and 1 are the outer edges of the image: pixel centres at +0.5, as ours.
    grid = torch.where(inside[..., None], 2 * source / size - 1, 0.0).to(image.dtype)
    looked_up = grid_sample(image[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]
    return torch.where(inside, looked_up, 0.0), inside


def _fold(lens: Lens) -> float:
    """r^2 at which r s(r^2) stops growing: the least positive root of 1 + 3 k1 q + 5 k2 q^2 + 7 k3 q^3, or infinity."""
    roots = np.roots([7 * lens.k3, 5 * lens.k2, 3 * lens.k1, 1.0])
    real = roots.real[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))]
    return float(min(real[real > 0], default=math.inf))
