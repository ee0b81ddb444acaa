import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.geometry.lens import Lens, distort, undistort

BARREL = Lens(k1=-0.28, k2=0.09, k3=-0.01, p1=0.003, p2=-0.002)
CAMERA = Camera.from_intrinsics((110.0, 120.0, 78.3, 61.2), 160, 120)


def bent_by_hand(points: Tensor) -> Tensor:
    """The formula once more, in pixels and with powers written out, so that a slip in `distort` shows."""
    rows = []
    for x, y in points.tolist():
        r = math.hypot(x, y)
        s = 1 - 0.28 * r**2 + 0.09 * r**4 - 0.01 * r**6
        u = x * s + 2 * 0.003 * x * y - 0.002 * (r**2 + 2 * x**2)
        v = y * s + 0.003 * (r**2 + 2 * y**2) - 2 * 0.002 * x * y
        rows.append([110 * u + 78.3, 120 * v + 61.2])
    return torch.tensor(rows, dtype=torch.float64)


def grid() -> Tensor:
    x, y = torch.linspace(-0.5, 0.5, 7, dtype=torch.float64), torch.linspace(-0.35, 0.3, 5, dtype=torch.float64)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def in_pixels(points: Tensor) -> Tensor:
    return points * torch.tensor([110.0, 120.0]) + torch.tensor([78.3, 61.2])


def test_distort_is_the_formula() -> None:
    assert torch.allclose(in_pixels(distort(grid(), BARREL)), bent_by_hand(grid()), atol=1e-4)
    assert torch.equal(distort(grid(), Lens()), grid())
    assert distort(torch.zeros(2, 3, 2), BARREL).shape == (2, 3, 2)


def test_distort_equals_colmap() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Camera(
        model="OPENCV", width=160, height=120, params=[110, 120, 78.3, 61.2, -0.28, 0.09, 3e-3, -2e-3]
    )
    rays = torch.cat([grid(), torch.ones(len(grid()), 1)], dim=-1).double()
    theirs = torch.from_numpy(model.img_from_cam(rays.numpy()))
    ours = distort(grid(), Lens(k1=-0.28, k2=0.09, p1=3e-3, p2=-2e-3)) @ CAMERA.intrinsics[:2, :2].mT
    assert torch.allclose(ours + CAMERA.intrinsics[:2, 2], theirs, atol=1e-9)


def test_undistorting_moves_a_projected_grid_to_where_the_pinhole_sees_it() -> None:
    spots = bent_by_hand(grid())
    pixels = CAMERA.pixel_grid()
    wanted = in_pixels(grid())
    for spot, pinhole in zip(spots, wanted, strict=True):
        image = torch.exp(-(pixels - spot).square().sum(dim=-1) / (2 * 1.5**2)).float()[None]
        straight, _ = undistort(image, CAMERA, BARREL)
        weight = straight[0].double()
        found = (weight[..., None] * pixels).sum(dim=(0, 1)) / weight.sum()
        assert (found - pinhole).norm() < 0.15, (found, pinhole)
        assert (spot - pinhole).norm() < 30


def test_what_lay_outside_is_marked_and_black() -> None:
    pincushion = Lens(k1=0.3)
    image, inside = undistort(torch.ones(2, 120, 160), CAMERA, pincushion)
    assert inside.dtype == torch.bool
    assert not inside[0, 0]
    assert inside[60, 80]
    assert torch.equal(image[0] > 0, inside)
    # By hand: the middle of the left edge, x = -78.3 / 110 with y almost 0, is bent outwards and leaves the image.
    assert not inside[61, 0]


def test_rays_beyond_the_fold_are_not_inside() -> None:
    # r (1 - 0.5 r^2) grows up to r^2 = 2/3 only: beyond, the polynomial shows the middle of the image again.
    wide = Camera.from_intrinsics((40.0, 40.0, 80.0, 60.0), 160, 120)
    _, inside = undistort(torch.ones(1, 120, 160), wide, Lens(k1=-0.5))
    radius = ((wide.pixel_grid() - torch.tensor([80.0, 60.0])) / 40).square().sum(dim=-1)
    assert torch.equal(inside, radius < 2 / 3)


def test_nearest_mixes_nothing_and_a_pinhole_changes_nothing() -> None:
    image = torch.randint(0, 5, (1, 120, 160), generator=torch.Generator().manual_seed(0)).float()
    straight, _ = undistort(image, CAMERA, BARREL, mode="nearest")
    assert set(straight.unique().tolist()) <= {0.0, 1, 2, 3, 4}
    same, inside = undistort(image, CAMERA, Lens())
    assert torch.equal(same, image)
    assert inside.all()
    tiny, _ = undistort(image, CAMERA, Lens(k1=1e-12))
    assert torch.allclose(tiny, image, atol=1e-3)


def test_what_cannot_be_undistorted() -> None:
    image = torch.zeros(3, 120, 160)
    batch = Camera(CAMERA.intrinsics[None], CAMERA.world_to_camera[None], 160, 120)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((image, batch, BARREL), "one camera, not a batch"),
        ((image[:, 1:], CAMERA, BARREL), "must be \\(channels, 120, 160\\)"),
        ((image.int(), CAMERA, BARREL), "holds torch.int32"),
        ((image, CAMERA, BARREL, "cubic"), "mode is 'cubic'"),
    ]
    for arguments, words in cases:
        with pytest.raises(InputError, match=words):
            undistort(*arguments)
    with pytest.raises(InputError, match="lens k2 is nan"):
        Lens(k2=math.nan)
    with pytest.raises(InputError, match="must end in 2"):
        distort(torch.zeros(3), BARREL)
