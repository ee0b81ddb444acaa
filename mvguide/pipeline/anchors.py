"""Anchors: a video of the model's own length along the whole path, whose frames fill the holes of a longer one.

What a view shows stays the view's. Where none shows anything, a frame gets what the anchors before and behind it show:
so all frames between two anchors have one idea of what was never seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvguide.depth.complete import complete_depth
from mvguide.depth.maps import Depth
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.pipeline.prepare import WarpedPath
from mvguide.views.moments import Moments
from mvguide.views.view import View
from mvguide.views.warps import Warps, warp_views

INVENTED = 0.5
"""What a pixel counts that only an anchor shows, where a pixel of a view counts 1."""
_MEASURED, _GUESSED = 0.25, 0.1
"""Confidence of what an anchor invented, where its depth was measured and where it was guessed; of the seen, above."""


@dataclass(frozen=True)
class Anchors:
    """Rendered frames of a path, as views.

    Args:
        frames: their numbers in the long video, increasing, the first and the last frame among them.
        views: at the video's size, with depth everywhere and a confidence that is lower where they invented.
    """

    frames: Sequence[int]
    views: Sequence[View]

    def shows(self, num_frames: int) -> Tensor:
        """Which anchor shows which frame: those on either side of it, and at its own frame it alone; ``[A, F]``."""
        shows = torch.zeros(len(self.frames), num_frames, dtype=torch.bool)
        ends = [-1, *self.frames, num_frames]
        for index, own in enumerate(self.frames):
            shows[index, ends[index] + 1 : ends[index + 2]] = True
            shows[:, own] = False
        for index, own in enumerate(self.frames):
            shows[index, own] = True
        return shows

    def fill(self, seen: Warps, trajectory: Camera, device: torch.device | None = None) -> Warps:
        """What the views show along the path, and in its holes what the anchors show, which counts :data:`INVENTED`.

        Args:
            seen: the views along the path.
            trajectory: F cameras of the anchors' size.
            device: where to warp.
        """
        shows = self.shows(len(trajectory))
        moments = Moments(shows, torch.zeros_like(shows))
        found = warp_views(self.views, trajectory, moments=moments, device=device)
        hole = seen.visible <= 0
        return replace(
            seen,
            image=torch.where(hole, found.image, seen.image),
            visible=torch.where(hole, INVENTED * found.visible, seen.visible),
            depth=torch.where(hole, found.depth, seen.depth),
            confidence=torch.where(hole, found.confidence, seen.confidence),
            guessed=torch.where(hole, found.visible > 0, seen.guessed),
        )


def make_anchors(
    frames: Tensor,
    path: WarpedPath,
    numbers: Sequence[int],
    *,
    depth_model: str | None = None,
    device: torch.device | None = None,
) -> Anchors:
    """Views of rendered frames. Their depth is what the warps show, and completed in holes.

    Args:
        frames: ``[A, 3, H, W]`` rendered, in [0, 1].
        path: the real views, warped to these frames.
        numbers: of these frames in the long video.
        depth_model: completes the depth; by default a plane sweep with the neighbouring anchors does.
        device: where to compute.

    Raises:
        InputError: no frame sees anything of the views.
        ModelError: the depth model cannot be loaded.
    """
    warps, cameras = path.warps, path.trajectory
    seen = (warps.visible[:, 0] > 0) & (warps.depth[:, 0] > 0)
    sees = seen.any(dim=(1, 2)).nonzero()[:, 0]
    if not len(sees):
        raise InputError("no frame of the path sees anything of the images, so anchors get no depth; lead it past one")
    done: dict[int, View] = {}
    # From those that see something outwards: the others know the depth of their neighbours.
    for index in sorted(range(len(numbers)), key=lambda k: int((sees - k).abs().min())):
        camera, here = cameras[index], seen[index]
        known = Depth(torch.where(here, warps.depth[index, 0], 0.0), here, is_metric=True)
        if not bool(here.any()):
            known = _seen_from([done[k] for k in (index - 1, index + 1) if k in done], camera)
        others = [(frames[k].to(device), cameras[k]) for k in (index - 1, index + 1) if 0 <= k < len(numbers)]
        depth, measured = complete_depth(
            known.to(device or "cpu"), frames[index].to(device), camera, others, depth_model
        )
        invented = torch.where(measured.cpu(), _MEASURED, _GUESSED)
        confidence = torch.where(here, 0.5 + 0.5 * warps.confidence[index, 0], invented)
        done[index] = View(frames[index], camera, depth.to("cpu"), f"anchor {numbers[index]}", confidence)
    return Anchors(numbers, [done[index] for index in range(len(numbers))])


def _seen_from(views: Sequence[View], camera: Camera) -> Depth:
    """Depth of what other anchors show in a camera; their median where that is nothing."""
    warps = warp_views(views, stack([camera]))
    depth, valid = warps.depth[0, 0], (warps.visible[0, 0] > 0) & (warps.depth[0, 0] > 0)
    if not bool(valid.any()):
        depth, valid = torch.full_like(depth, views[0].median_depth), torch.ones_like(valid)
    return Depth(torch.where(valid, depth, 0.0), valid, is_metric=True)
