"""Views: image, depth and camera change size together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.depth.maps import Depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.views.view import View, fit_camera, scene_points, unfit_camera


def view(width: int = 60, height: int = 40) -> View:
    """An image whose colour is its pixel's place, over a slanted plane."""
    camera = Camera.from_fov(70, width, height)
    place = camera.pixel_grid().permute(2, 0, 1).float() / 100
    depth = 2 + place[0].clone()
    return View(torch.cat([place, place[:1]]), camera, Depth(depth, torch.ones(height, width, dtype=torch.bool), True))


@pytest.mark.parametrize("size", [(30, 30), (48, 24), (24, 48), (120, 80)])
def test_fitting_keeps_pixels_with_their_rays(size: tuple[int, int]) -> None:
    """A pixel of the fitted view shows what its camera's ray hits in the original."""
    original, fitted = view(), view().fit(*size)
    assert fitted.image.shape == (3, size[1], size[0])
    pixels = fitted.camera.pixel_grid().reshape(-1, 2)
    points = fitted.camera.unproject(pixels, torch.ones(len(pixels), dtype=torch.float64))
    landed, _ = original.camera.project(points)
    shown = fitted.image[:2].flatten(1).T * 100
    inside = ((landed > 2) & (landed < torch.tensor([58.0, 38.0]))).all(1)
    assert inside.float().mean() > 0.7
    assert (shown - landed)[inside].abs().max() < 0.6
    assert fitted.depth is not None
    assert (fitted.depth.values.flatten() - 2 - landed[:, 0] / 100)[inside].abs().max() < 0.02


def test_covering_cuts_nothing_off() -> None:
    covering = view().cover(30, 30)
    assert (covering.camera.width, covering.camera.height) == (45, 30)
    torch.testing.assert_close(covering.camera.fov_degrees, view().camera.fov_degrees)


def test_a_trajectory_is_fitted_like_its_view() -> None:
    trajectory = view().camera[None] if view().camera.batch_shape else view().camera
    torch.testing.assert_close(fit_camera(trajectory, 30, 30).intrinsics, view().fit(30, 30).camera.intrinsics)


@pytest.mark.parametrize("size", [(32, 24), (50, 20), (20, 50), (64, 48), (200, 33)])
def test_unfitting_is_the_inverse_of_fitting(size: tuple[int, int]) -> None:
    whole = Camera.from_intrinsics((40.0, 44.0, 30.0, 25.0), 64, 48)
    back = unfit_camera(fit_camera(whole, *size), 64, 48)
    assert (back.width, back.height) == (64, 48)
    torch.testing.assert_close(back.intrinsics, whole.intrinsics)


def test_from_files_reads_everything(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), 128, np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "d.npy", np.full((10, 15), 3000.0))
    found = View.from_files(
        tmp_path / "a.png",
        tmp_path / "d.npy",
        intrinsics=(30, 31, 14.5, 9.5),
        pixel_center=0.0,
        depth_unit=0.001,
        depth_kind="depth",
    )
    assert found.median_depth == 3.0
    assert found.name == "a.png"
    torch.testing.assert_close(
        found.camera.intrinsics, torch.tensor([[30.0, 0, 15], [0, 31, 10], [0, 0, 1]], dtype=torch.float64)
    )
    assert View.from_files(tmp_path / "a.png").camera.fov_degrees.item() == pytest.approx(60)
    with pytest.raises(InputError, match="both fov and intrinsics"):
        View.from_files(tmp_path / "a.png", fov=60, intrinsics=(1, 1, 1, 1))
    with pytest.raises(InputError, match=r"a\.png has no depth"):
        _ = View.from_files(tmp_path / "a.png").median_depth


def test_sizes_must_agree() -> None:
    good = view()
    with pytest.raises(InputError, match="has an image"):
        View(good.image[:, :-1], good.camera, good.depth)
    with pytest.raises(InputError, match="has depth"):
        View(good.image, good.camera, view(50, 40).depth)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 8, 12])
def test_points_are_picked_evenly_in_both_directions(step: int) -> None:
    width, height = 48, 36
    depth = Depth(torch.ones(height, width), torch.ones(height, width, dtype=torch.bool), True)
    camera = Camera.from_fov(60, width, height)
    view = View(torch.rand(3, height, width), camera, depth)
    points, colours = scene_points([view, view], -(-2 * width * height // step))
    points, colours = points[: len(points) // 2], colours[: len(colours) // 2]
    assert len(points) == pytest.approx(width * height / step, rel=0.03)
    pixels, _ = camera.project(points)
    columns, rows = pixels.floor().long().unbind(-1)
    torch.testing.assert_close(colours, view.image[:, rows, columns].T)
    for places, size in ((columns, width), (rows, height)):
        filled = torch.bincount(places // 4, minlength=size // 4)
        assert filled.min() > 0.5 * len(points) / len(filled), "nothing is left out"
