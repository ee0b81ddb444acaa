"""Conditions of the bench: what the methods are given of a scene, and which scenes are fit for it.

In all but ``large`` and ``moving`` the scenes are the same, so that conditions can be compared scene by scene. As in
training, an object moves in one scene of five.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from mvguide.depth.maps import Depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera
from mvguide.views.view import View
from mvguide.views.warps import warp_views
from tools.scenes import HELD_OUT, Scenes, render_scenes
from tools.scenes.moves import NEW_SHARE, make_rays, sample_paths
from tools.scenes.trace import centers, nearest
from tools.scenes.world import sample_worlds

CHOOSING, CALIBRATION = HELD_OUT[:700], HELD_OUT[700:]
"""Scenes that methods may be compared on to choose one, and those that a mean oracle table is made of."""

SKY = 100.0
"""Depth of the sky, of which only the direction is known: far away rather than a hole."""

LARGE_HOLES = (0.25, 0.40)
"""Mean share of holes after the first frame, in the scenes of ``large``."""
LARGE_STRETCH, LARGE_NEW_SHARE = 1.6, (0.40, 0.65)
"""Size of the moves and share of the last frame that is new, of which three scenes in five have such holes."""

MOVED = 0.03
"""Least mean share of pixels, after the first frame, that look different because an object has moved."""
_PROBE = 32
_WAVES, _HIGHEST = 6, 1.5

DepthChange = Callable[[Tensor, int], Tensor]
"""Exact depth ``[H, W]`` and the scene's seed -> the depth that the methods are given."""


def smooth_field(height: int, width: int, seed: int) -> Tensor:
    """``g(u, v)``: a sum of few cosines of at most 1.5 cycles an image, mean 0 and rms 1, float32 ``[H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    frequency = (2 * torch.rand(_WAVES, 2, generator=generator) - 1) * _HIGHEST
    phase = 2 * pi * torch.rand(_WAVES, generator=generator)
    size = torch.rand(_WAVES, generator=generator) + 0.5
    v, u = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    angle = 2 * pi * (frequency[:, 0, None, None] * u + frequency[:, 1, None, None] * v) + phase[:, None, None]
    field = (size[:, None, None] * angle.cos()).sum(0)
    field = field - field.mean()
    return field / field.square().mean().sqrt()


def off_by_field(amount: float) -> DepthChange:
    """``z exp(s g(u, v))``: the log of the depth is off by s rms, smoothly."""
    return lambda depth, seed: depth * torch.exp(amount * smooth_field(depth.shape[0], depth.shape[1], seed))


def scaled(factor: float) -> DepthChange:
    """``factor z``."""
    return lambda depth, _: factor * depth


def blurred(depth: Tensor, _: int = 0) -> Tensor:
    """Quarter of the resolution by area, enlarged bilinearly: near and far mix at edges, as depth networks do it."""
    small = avg_pool2d(depth[None, None], 4, ceil_mode=True)
    return interpolate(small, tuple(depth.shape), mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class Condition:
    """One condition.

    Args:
        about: a title for reports.
        change: from the exact depth to the given one; None = exact.
        both_ends: the last frame is given as a view, too.
        stretch, new_share: of the camera's move, see ``render_scenes``.
        fits: whether a scene is fit for the condition, by its seed; None = all are.
    """

    about: str
    change: DepthChange | None = None
    both_ends: bool = False
    stretch: float = 1.0
    new_share: tuple[float, float] = NEW_SHARE
    fits: Callable[["Condition", int, int, int], bool] | None = None

    def render(self, seed: int, size: int, frames: int) -> Scenes:
        """The scene of a seed under this condition's move, with depth."""
        return render_scenes(
            [seed], size=size, frames=frames, with_depth=True, stretch=self.stretch, new_share=self.new_share
        )

    def pick_seeds(self, seeds: Sequence[int], count: int, size: int, frames: int) -> list[int]:
        """The first ``count`` of the seeds whose scenes fit. Raises InputError when there are not so many."""
        found: list[int] = []
        for seed in seeds:
            if len(found) == count:
                break
            if self.fits is None or self.fits(self, seed, size, frames):
                found.append(seed)
        if len(found) < count:
            raise InputError(
                f"{count} scenes were asked for, but only {len(found)} of the {len(seeds)} seeds fit the condition "
                f"{self.about!r}; ask for fewer with --scenes"
            )
        return found


def exact_view(found: Scenes, cameras: Camera, frame: int) -> View:
    """A frame of a rendered scene as a view with its exact depth."""
    assert found.depth is not None  # Condition.render asks for it
    depth = torch.nan_to_num(found.depth[0, frame], posinf=SKY).clamp(max=SKY)
    known = torch.ones_like(depth, dtype=torch.bool)
    return View(found.video[0, frame], cameras[frame], Depth(depth, known, True), f"frame {frame}")


def scene_cameras(found: Scenes) -> Camera:
    """The trajectory of a rendered scene."""
    size = found.video.shape[-1]
    return Camera(found.intrinsics[0].double(), found.world_to_camera[0].double(), size, size)


def mean_holes(found: Scenes) -> float:
    """Mean share of holes after the first frame, in the warp of its exact depth."""
    cameras = scene_cameras(found)
    return float(1 - warp_views([exact_view(found, cameras, 0)], cameras).seen[1:].mean())


def moved_share(seed: int, frames: int) -> float:
    """Mean share of pixels, after the first frame, whose surface or depth would be another one if nothing moved."""
    world = sample_worlds([seed])
    path = sample_paths([seed], world, frames, "cpu")
    rays = make_rays(path.intrinsics, path.camera_to_world, _PROBE)
    center = centers(world, torch.linspace(0, 1, frames))
    depth, index = nearest(rays, world, center)
    still_depth, still_index = nearest(rays, world, center[:, :1].expand_as(center))
    changed = (index != still_index) | ((depth / still_depth).log().abs() > 0.01)
    return float(changed[:, 1:].float().mean())


def _has_large_holes(condition: Condition, seed: int, size: int, frames: int) -> bool:
    found = condition.render(seed, size, frames)
    return bool(found.clear[0]) and LARGE_HOLES[0] <= mean_holes(found) <= LARGE_HOLES[1]


def _moves(_: Condition, seed: int, __: int, frames: int) -> bool:
    return bool(sample_worlds([seed]).moving[0]) and moved_share(seed, frames) >= MOVED


CONDITIONS: dict[str, Condition] = {
    "exact": Condition("exact depth"),
    "smooth_5": Condition("depth off by a smooth field, 5% rms", change=off_by_field(0.05)),
    "smooth_15": Condition("depth off by a smooth field, 15% rms", change=off_by_field(0.15)),
    "blurred": Condition("depth blurred at edges, a quarter of the resolution", change=blurred),
    "scale": Condition("depth 10% too large", change=scaled(1.1)),
    "large": Condition(
        "large moves, 25-40% holes", stretch=LARGE_STRETCH, new_share=LARGE_NEW_SHARE, fits=_has_large_holes
    ),
    "two_views": Condition("first and last frame given, exact depth", both_ends=True),
    "moving": Condition("a moving object, exact depth of its first moment", fits=_moves),
}
"""By the names that the command line uses."""
