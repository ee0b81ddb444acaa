"""Depth for views that came without it, and one scale for depths and cameras."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvguide.config import InputConfig
from mvguide.depth.align import Alignment, align_center, align_to_bounds, align_to_points, align_to_view
from mvguide.depth.files import DepthKind
from mvguide.depth.model import DEFAULT_MODEL, estimate_depth, model_is_here
from mvguide.depth.plane_sweep import plane_sweep
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.warp import splat
from mvguide.view import View

Say = Callable[[str], None]

_NEIGHBOURS = 2  # time and memory of a sweep grow with the square of the pictures
_ANGLE = 45.0  # degrees between optical axes beyond which two pictures share little
_POINTS = 20  # fewer sparse points than this are no ground to fit scale and shift on
_TAIL = 0.02  # sparse points beyond these quantiles may be outliers, and bound nothing
_SAMPLES = 5000  # pixels of a depth map that stand for it in a fit
_TRUSTED = 0.5  # confidence of a sweep above which its depth may stand for the truth


@dataclass(frozen=True)
class Hint:
    """What a camera file knows of the depth of one of its pictures.

    Args:
        points: sparse points that the picture sees, float64 ``[M, 3]``, world.
        bounds: nearest and farthest depth.
    """

    points: Tensor | None = None
    bounds: tuple[float, float] | None = None


def complete_depths(
    views: Sequence[View], hints: Sequence[Hint], config: InputConfig, *, posed: bool, still: bool, say: Say
) -> list[View]:
    """Views that have depth, in the unit of the cameras where these have one.

    Args:
        views: with depth or without.
        hints: one for each.
        config: ``depth_source`` ("file" leaves views without depth as they are), ``depth_model``, ``depth_align`` and
            ``depth_center`` say what is wanted.
        posed: the cameras stand in a world of their own.
        still: the views show one moment, so that a plane sweep means something.
        say: told in a sentence what was done.

    Raises:
        InputError: depth is missing and cannot be made, or an alignment was asked for that lacks its ground.
        ModelError: the depth model cannot be loaded.
    """
    missing = [index for index, view in enumerate(views) if view.depth is None]
    source = _source(config, views, missing, posed and still)
    found = list(views)
    for index in missing if source != "file" else ():
        view = views[index]
        if source == "model":
            found[index] = replace(view, depth=estimate_depth(view.image, config.depth_model or DEFAULT_MODEL))
        else:
            found[index] = _sweep(views, index, hints[index])
    if missing and source != "file":
        how = f"the model {config.depth_model or DEFAULT_MODEL}" if source == "model" else "a plane sweep"
        say(f"depth of {len(missing)} of {len(views)} pictures is from {how}")
    estimated = missing if source == "model" else []
    known = [index for index, view in enumerate(found) if view.depth is not None]
    uncertain = [i for i in known if i in estimated or (posed and not found[i].require_depth().is_metric)]
    if config.depth_align == "view":
        uncertain = uncertain or known[1:]  # all have a scale: the first one's counts
    elif config.depth_align not in ("auto", "none") or config.depth_center is not None:
        uncertain = known
    return _align_all(found, uncertain, hints, config, posed, still, say)


def _source(config: InputConfig, views: Sequence[View], missing: Sequence[int], sweepable: bool) -> str:
    """Where missing depth is to come from: "model" or "sweep"."""
    wanted = config.depth_source
    if wanted == "auto":
        if config.depth_model is not None or model_is_here(DEFAULT_MODEL):
            return "model"
        wanted = "sweep" if sweepable and len(views) > 1 else "auto"
    if wanted == "sweep" and missing and not (sweepable and len(views) > 1):
        raise InputError(
            "a plane sweep needs two or more posed pictures of a still scene; give them, or depth with --depth"
        )
    if wanted == "auto" and missing:
        raise InputError(
            f"{views[missing[0]].name} has no depth, which warping needs; give a depth map with --depth, or a depth "
            f"model with --depth_model FOLDER_OR_ID (on a machine with network, `hf download {DEFAULT_MODEL}` gets "
            "the one that is used by default), or posed pictures from two or more places (--cameras, --views)"
        )
    return wanted


def _sweep(views: Sequence[View], index: int, hint: Hint) -> View:
    """The view with depth and confidence by plane sweep against its nearest neighbours."""
    view = views[index]
    neighbours = _neighbours(views, index)
    chosen = [index, *neighbours]
    sizes = {(views[i].camera.width, views[i].camera.height) for i in chosen}
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise InputError(f"a plane sweep needs pictures of one size, not {listed}; bring them to one with --resize")
    near, far = _range(view, hint)
    cameras = stack([views[i].camera for i in chosen])
    depth, confidence = plane_sweep(torch.stack([views[i].image for i in chosen]), cameras, near=near, far=far)
    return replace(view, depth=depth, confidence=confidence)


def _neighbours(views: Sequence[View], index: int) -> list[int]:
    """The nearest views that look the same way from another place."""
    here = views[index].camera
    forward = here.camera_to_world[:3, 2]
    away: dict[int, float] = {}
    for other, view in enumerate(views):
        distance = float((view.camera.center - here.center).norm())
        angle = math.degrees(math.acos(max(-1.0, min(1.0, float(view.camera.camera_to_world[:3, 2] @ forward)))))
        if other != index and distance > 0 and angle < _ANGLE:
            away[other] = distance
    if not away:
        raise InputError(
            f"no other picture looks where {views[index].name} does from another place, so a plane sweep cannot see "
            "its depth; give a depth map with --depth, or a depth model with --depth_model"
        )
    return sorted(away, key=lambda other: away[other])[:_NEIGHBOURS]


def _range(view: View, hint: Hint) -> tuple[float | None, float | None]:
    """Nearest and farthest depth to look for, with a margin, where the camera file knows them."""
    if hint.points is not None and len(hint.points) >= _POINTS:
        z = view.camera.project(hint.points)[1]
        z = z[z > 0]
        if len(z) >= _POINTS:
            return float(z.quantile(_TAIL)) / 1.5, float(z.quantile(1 - _TAIL)) * 2
    if hint.bounds is not None:
        return hint.bounds[0] / 1.2, hint.bounds[1] * 1.2
    return None, None


def _align_all(
    views: list[View],
    uncertain: Sequence[int],
    hints: Sequence[Hint],
    config: InputConfig,
    posed: bool,
    still: bool,
    say: Say,
) -> list[View]:
    """Views whose depths of unknown scale are brought to that of the cameras, or at least to one for all."""
    found = list(views)
    trusted = [index for index, view in enumerate(views) if index not in uncertain and view.depth is not None]
    for index in uncertain:
        view = found[index]
        aligned, ground = _align(found, index, trusted, hints[index], config, posed, still)
        if aligned is not None:
            found[index] = replace(view, depth=aligned.depth)
            trusted.append(index)
            say(f"depth of {view.name} times {aligned.scale:.3g}, by {ground} ({aligned.inliers:.0%} agree)")
        elif len(views) > 1:
            trusted.append(index)  # its scale is as good as any, and now the one of all
    return found


def _align(
    views: Sequence[View],
    index: int,
    trusted: Sequence[int],
    hint: Hint,
    config: InputConfig,
    posed: bool,
    still: bool,
) -> tuple[Alignment | None, str]:
    """The aligned depth of a view, and by what; None where there is nothing to go by, and nothing was asked for."""
    view, depth, how = views[index], views[index].require_depth(), config.depth_align
    kind: DepthKind = "depth" if depth.is_metric else "disparity"
    if config.depth_center is not None:
        return align_center(depth, config.depth_center), "the distance of the middle"
    if how == "none":
        return None, ""
    has_points = hint.points is not None and len(hint.points) >= _POINTS
    if how == "points" or (how == "auto" and posed and has_points):
        if hint.points is None:
            raise InputError(f"depth_align is 'points', but the camera file has no sparse points for {view.name}")
        return align_to_points(depth, view.camera, hint.points, kind=kind), "sparse points"
    if how == "bounds" or (how == "auto" and posed and hint.bounds is not None):
        if hint.bounds is None:
            raise InputError(f"depth_align is 'bounds', but the camera file has no bounds for {view.name}")
        return align_to_bounds(depth, *hint.bounds, kind=kind), "the camera file's bounds"
    others = [other for other in trusted if other != index]
    if others and how in ("auto", "view"):
        there = views[min(others, key=lambda k: abs(k - index))]
        if kind == "depth":
            return align_to_view(depth, view.camera, there.require_depth(), there.camera), f"the depth of {there.name}"
        # Relative inverse depth has an unknown shift too, which a ratio of depths cannot tell.
        return align_to_points(depth, view.camera, _surface(there, view)), f"the depth of {there.name}"
    if posed and still and len(views) > 1 and how in ("auto", "sweep"):
        swept = _sweep(views, index, hint)
        assert swept.confidence is not None  # a sweep's own
        points = _points(view.camera, swept.require_depth().values, swept.confidence > _TRUSTED)
        return align_to_points(depth, view.camera, points, kind=kind), "a plane sweep"
    if how != "auto":
        raise InputError(
            f"depth_align is {how!r}, but {view.name} has no other posed view with depth to go by; give another view, "
            "or the distance of the middle with --depth_center"
        )
    return None, ""


def _surface(other: View, view: View) -> Tensor:
    """World points of another view's depth that this view sees."""
    depth = other.require_depth()
    warp = splat(depth.values[None], depth.values, other.camera, stack([view.camera]), valid=depth.valid)
    return _points(view.camera, warp.depth[0, 0], warp.visible[0, 0] > 0)


def _points(camera: Camera, depth: Tensor, known: Tensor) -> Tensor:
    """World points ``[M, 3]`` of evenly picked known pixels of a depth map."""
    pixels, z = camera.pixel_grid()[known], depth[known].double()
    step = max(1, len(z) // _SAMPLES)
    return camera.unproject(pixels[::step], z[::step])
