"""The camera path seen from above."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvguide.drawing.figures import new_figure
from mvguide.geometry.camera import Camera

_FRUSTA = 9


def plot_path(path: str | Path, views: Sequence[Camera], trajectory: Camera, scene: tuple[Tensor, Tensor]) -> None:
    """Draw views (orange), path and some of its frusta (blue) and the scene's points from above and from the side.

    "Above" is along the first view's own down axis, so that the image is upright whatever the world's axes are.

    Args:
        path: PNG.
        views: one camera for each view.
        trajectory: F cameras.
        scene: points ``[N, 3]`` in the world and their colours ``[N, 3]`` in [0, 1].
    """
    axes_of_view = views[0].world_to_camera.double()
    points, colours = scene
    local = _into(axes_of_view, points)
    reach = 0.12 * float(local[:, 2].abs().median()) if len(local) else 1.0
    figure = new_figure(11, 5.4)
    above, side = figure.subplots(1, 2)
    picked = torch.linspace(0, len(trajectory) - 1, min(_FRUSTA, len(trajectory))).round().long()
    for axes, (across, label) in ((above, (0, "right")), (side, (1, "down"))):
        if axes is side:  # depth to the right, down downwards
            axes.invert_yaxis()
        order = (2, across) if axes is side else (across, 2)
        axes.scatter(*local[:, order].T.numpy(), c=colours.clamp(0, 1).numpy(), s=2, linewidths=0)
        for camera in views:
            axes.plot(*_frustum(camera, axes_of_view, 1.6 * reach)[:, order].T.numpy(), color="tab:orange", linewidth=2)
        centres = _into(axes_of_view, trajectory.center.double())
        axes.plot(*centres[:, order].T.numpy(), color="tab:blue", linewidth=1.5)
        for index in picked.tolist():
            lines = _frustum(trajectory[index], axes_of_view, reach)[:, order].T.numpy()
            axes.plot(*lines, color="tab:blue", linewidth=0.8, alpha=0.7)
        below = (0, -16)  # points: clear of the frusta
        place = centres[0, order].tolist()
        axes.annotate("start", place, below, textcoords="offset points", color="tab:blue", fontsize=9, ha="center")
        axes.set_xlabel("forward" if axes is side else label)
        axes.set_ylabel(label if axes is side else "forward")
        axes.set_aspect("equal", adjustable="box")
        axes.set_title("from the side" if axes is side else "from above", fontsize=10)
        _limit(axes, local[:, order], centres[:, order])
    figure.suptitle("views orange, path blue; scene units, axes of the first view", fontsize=10)
    figure.savefig(path, dpi=100)


def _into(world_to_camera: Tensor, points: Tensor) -> Tensor:
    return points.double() @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]


def _frustum(camera: Camera, world_to_camera: Tensor, depth: float) -> Tensor:
    """Closed line over the centre and the four corners of the image at a depth, ``[N, 3]``."""
    width, height = float(camera.width), float(camera.height)
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]], dtype=torch.float64)
    ends = camera.to("cpu", torch.float64).unproject(corners, torch.full((4,), depth, dtype=torch.float64))
    line = torch.stack([camera.center.double(), ends[0], ends[1], camera.center.double(), ends[1], ends[2]])
    rest = torch.stack([camera.center.double(), ends[2], ends[3], camera.center.double(), ends[3], ends[0]])
    return _into(world_to_camera, torch.cat([line, rest]))


def _limit(axes: object, points: Tensor, centres: Tensor) -> None:
    """Show all cameras, and the scene but for its farthest twentieth: a sky would make the rest a dot."""
    both = torch.cat([points.quantile(torch.tensor([0.05, 0.95], dtype=points.dtype), dim=0), centres])
    low, high = both.amin(0), both.amax(0)
    margin = 0.1 * float((high - low).max()) + 1e-9
    axes.set_xlim(float(low[0]) - margin, float(high[0]) + margin)  # type: ignore[attr-defined]
    bottom, top = float(low[1]) - margin, float(high[1]) + margin
    axes.set_ylim((top, bottom) if axes.yaxis_inverted() else (bottom, top))  # type: ignore[attr-defined]
