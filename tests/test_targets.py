"""Warps and targets: what guidance aims at, and where it may."""

import torch

from mvguide.depth.files import Depth
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import pan, truck
from mvguide.targets import Warps, encode_targets, mean_flow, warp_view
from mvguide.view import View

SIZE = 48


def view(size: int = SIZE) -> View:
    """A near square before a far wall, both smoothly coloured."""
    camera = Camera.from_fov(60, size, size)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    image = torch.stack([rows, columns, 0.5 + 0.3 * torch.sin(6 * rows)])
    depth = torch.full((size, size), 4.0)
    depth[size // 3 : 2 * size // 3, size // 3 : 2 * size // 3] = 2.0
    return View(image, camera, Depth(depth, torch.ones(size, size, dtype=torch.bool), True))


class MeanBackbone:
    """Encodes by averaging 4 x 4 pixels."""

    factor = 4
    device = torch.device("cpu")

    def encode(self, frames: torch.Tensor, chunk: int = 8) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(frames, 4)


def test_the_input_frame_is_the_picture_even_where_depth_is_unknown() -> None:
    whole = view()
    assert whole.depth is not None
    whole.depth.valid[:10] = False
    whole.depth.values[:10] = 0
    warps = warp_view(whole, truck(whole.camera, 3, distance=0.1, target_depth=4.0))
    assert warps.pinned.tolist() == [True, False, False]
    torch.testing.assert_close(warps.image[0], whole.image)
    assert (warps.visible[0] == 1).all()
    assert (warps.visible[1, 0, :5] == 0).all()
    assert warps.distances[0] == 0
    assert warps.distances[2] > warps.distances[1] > 0


def test_holes_open_behind_the_near_square_and_grow_with_the_radius() -> None:
    whole = view()
    trajectory = truck(whole.camera, 2, distance=0.1, target_depth=4.0)
    warps = warp_view(whole, trajectory)
    middle = warps.visible[1, 0, SIZE // 2]
    assert (middle == 0).any()
    assert 0.6 < warps.seen[1] < 0.97
    grown = warp_view(whole, trajectory, hole_radius=2)
    assert grown.seen[1] < warps.seen[1]
    assert (grown.image[grown.visible.expand_as(grown.image) == 0] == 0).all()


def test_a_larger_picture_gives_the_same_warp_without_cracks() -> None:
    small, large = view(), view(SIZE * 4)
    trajectory = truck(small.camera, 3, distance=0.05, target_depth=4.0)
    a, b = warp_view(small, trajectory), warp_view(large, trajectory)
    both = (a.visible * b.visible).expand_as(a.image) > 0
    assert (a.image - b.image).abs()[both].mean() < 0.02
    assert b.seen[2] >= a.seen[2] - 0.01


def test_targets_keep_invented_pixels_out() -> None:
    image = torch.rand(3, 3, 16, 16)
    visible = torch.ones(3, 1, 16, 16)
    visible[1, :, :4, :3] = 0  # three quarters of the first cell
    visible[1, :, 2, 6] = 0  # one pixel of the second
    pinned = torch.tensor([True, False, False])
    targets = encode_targets(MeanBackbone(), Warps(image * visible, visible, pinned, torch.zeros(3)))  # type: ignore[arg-type]
    assert targets.latents.shape == (3, 3, 4, 4)
    assert targets.visible[1, 0, 0, 0] == 0
    assert targets.visible.sum() == 3 * 16 - 1
    torch.testing.assert_close(targets.latents[2], torch.nn.functional.avg_pool2d(image[2:], 4)[0])
    assert (targets.latents[1, :, 0, 1] - image[1, :, :4, 4:8].mean((1, 2))).abs().max() < 0.1, "filled, not black"


def test_flow_is_measured_in_picture_widths() -> None:
    camera = Camera.from_fov(60, SIZE, SIZE)
    flat = View(
        view().image, camera, Depth(torch.full((SIZE, SIZE), 2.0), torch.ones(SIZE, SIZE, dtype=torch.bool), True)
    )
    trajectory = truck(camera, 3, distance=0.1, target_depth=2.0)
    focal = float(camera.intrinsics[0, 0])
    expected = focal * 0.1 / 2 / SIZE
    assert abs(mean_flow(flat, trajectory) - expected) < 1e-6
    assert abs(mean_flow(flat, trajectory.resize(SIZE * 2, SIZE * 2)) - expected) < 1e-6
    assert mean_flow(flat, pan(camera, 2, degrees=170)) == 0
