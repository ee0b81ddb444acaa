"""The camera path seen from above."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from mvguide.drawing.figures import new_figure

_FRUSTA = 9


class Pinholes(Protocol):
    """What is drawn of a :class:`mvguide.Camera`: one, or a batch of them."""

    @property
    def intrinsics(self) -> Tensor:
        """``[..., 3, 3]``, pixels."""

    @property
    def world_to_camera(self) -> Tensor:
        """``[..., 4, 4]``."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def height(self) -> int:
        """Pixels."""


def plot_path(
    path: str | Path | BinaryIO, views: Sequence[Pinholes], trajectory: Pinholes, scene: tuple[Tensor, Tensor]
) -> None:
    """Draw views (orange), path and some of its frusta (blue) and the scene's points from above and from the side.

    "Above" is along the first view's own down axis, so that the picture is upright whatever the world's axes are.

    Args:
        path: PNG file, or where its bytes go.
        views: one camera for each view, at least one.
        trajectory: F cameras.
        scene: points ``[N, 3]`` in the world and their colours ``[N, 3]`` in [0, 1]; N may be 0.
    """
    axes_of_view = views[0].world_to_camera.detach().cpu().double()
    points, colours = scene
    local = _into(axes_of_view, points)
    centres, corners = (_into(axes_of_view, part) for part in _frusta(trajectory))
    of_views = [[_into(axes_of_view, part) for part in _frusta(camera)] for camera in views]
    # Without a scene, frusta are measured by the path.
    across = float((centres.amax(0) - centres.amin(0)).norm())
    reach = 0.12 * float(local[:, 2].abs().median()) if len(local) else 0.2 * across or 1.0
    # Of the scene what matters, or else the frusta.
    shown = _middle(local) if len(local) else (centres[:, None].lerp(corners, 1.6 * reach)).flatten(0, 1)
    figure = new_figure(11, 5.4)
    above, side = figure.subplots(1, 2)
    picked = torch.linspace(0, len(centres) - 1, min(_FRUSTA, len(centres))).round().long()
    for axes, (sideways, label) in ((above, (0, "right")), (side, (1, "down"))):
        if axes is side:  # depth to the right, down downwards
            axes.invert_yaxis()
        order = (2, sideways) if axes is side else (sideways, 2)
        axes.scatter(*local[:, order].T.numpy(), c=colours.clamp(0, 1).numpy(), s=2, linewidths=0)
        for centre, ends in of_views:
            lines = _outline(centre[0], ends[0], 1.6 * reach)[:, order].T.numpy()
            axes.plot(*lines, color="tab:orange", linewidth=2)
        axes.plot(*centres[:, order].T.numpy(), color="tab:blue", linewidth=1.5)
        for index in picked.tolist():
            lines = _outline(centres[index], corners[index], reach)[:, order].T.numpy()
            axes.plot(*lines, color="tab:blue", linewidth=0.8, alpha=0.7)
        below = (0, -16)  # points: clear of the frusta
        place = centres[0, order].tolist()
        axes.annotate("start", place, below, textcoords="offset points", color="tab:blue", fontsize=9, ha="center")
        axes.set_xlabel("forward" if axes is side else label)
        axes.set_ylabel(label if axes is side else "forward")
        axes.set_aspect("equal", adjustable="box")
        axes.set_title("from the side" if axes is side else "from above", fontsize=10)
        _limit(axes, shown[:, order], centres[:, order])
    figure.suptitle("views orange, path blue; scene units, axes of the first view", fontsize=10)
    figure.savefig(path, dpi=100)


def _into(world_to_camera: Tensor, points: Tensor) -> Tensor:
    return points.double() @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]


def _frusta(cameras: Pinholes) -> tuple[Tensor, Tensor]:
    """Centres ``[F, 3]`` of cameras, and the corners of their pictures at depth 1 ``[F, 4, 3]``, in the world."""
    intrinsics = cameras.intrinsics.detach().cpu().double().reshape(-1, 3, 3)
    motion = cameras.world_to_camera.detach().cpu().double().reshape(-1, 4, 4)
    width, height = float(cameras.width), float(cameras.height)
    pixels = torch.tensor([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=torch.float64)
    rays, back = pixels @ torch.linalg.inv(intrinsics).mT, torch.linalg.inv(motion[:, :3, :3]).mT
    moved = motion[:, None, :3, 3]
    return (-moved @ back)[:, 0], (rays - moved) @ back


def _outline(centre: Tensor, corners: Tensor, depth: float) -> Tensor:
    """Closed line over the centre and the four corners of the picture at a depth, ``[N, 3]``."""
    a, b, c, d = centre + depth * (corners - centre)
    return torch.stack([centre, a, b, centre, b, c, centre, c, d, centre, d, a])


def _middle(points: Tensor) -> Tensor:
    """Two corners that hold the scene but for its farthest twentieth: a sky would make the rest a dot."""
    return points.quantile(torch.tensor([0.05, 0.95], dtype=points.dtype), dim=0)


def _limit(axes: Any, points: Tensor, centres: Tensor) -> None:
    """Show all cameras and points."""
    both = torch.cat([points, centres])
    low, high = both.amin(0), both.amax(0)
    margin = 0.1 * float((high - low).max()) + 1e-9
    axes.set_xlim(float(low[0]) - margin, float(high[0]) + margin)
    bottom, top = float(low[1]) - margin, float(high[1]) + margin
    axes.set_ylim((top, bottom) if axes.yaxis_inverted() else (bottom, top))
