"""One scale for the depths of several images and their cameras."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from mvguide.config.input_options import DepthOptions
from mvguide.depth.align import Alignment, align_center, align_to_bounds, align_to_points, align_to_view, apply_line
from mvguide.depth.maps import DepthKind
from mvguide.errors import InputError
from mvguide.geometry.camera import stack
from mvguide.geometry.warp import splat
from mvguide.inputs.sweeps import ENOUGH_POINTS, Hint, Say, some_points, swept_points
from mvguide.views.view import View


def align_still(
    views: Sequence[View], uncertain: Sequence[int], hints: Sequence[Hint], options: DepthOptions, posed: bool, say: Say
) -> list[View]:
    """Images of a still scene: each depth of unknown scale is brought to that of the cameras, or of the others.

    Args:
        views: with depth, but for some of which the source is "file".
        uncertain: those whose scale is not known.
        hints: one for each view.
        options: ``depth_align`` and ``depth_center``.
        posed: the cameras stand in a world of their own.
        say: gets a sentence for everything that was done.

    Returns:
        The views in their order.

    Raises:
        InputError: what was asked for lacks its ground.
    """
    found = list(views)
    trusted = [index for index, view in enumerate(views) if index not in uncertain and view.depth is not None]
    for index in uncertain:
        view = found[index]
        aligned, ground = _align(found, index, trusted, hints[index], options, posed)
        if aligned is not None:
            found[index] = replace(view, depth=aligned.depth)
            say(f"depth of {view.name} times {aligned.scale:.3g}, by {ground} ({aligned.inliers:.0%} agree)")
        if aligned is not None or len(views) > 1:
            trusted.append(index)  # without ground its scale is as good as any, and now the one of all
    return found


def align_film(
    views: Sequence[View], estimated: Sequence[int], options: DepthOptions, posed: bool, say: Say
) -> list[View]:
    """Frames of a video: one scale and shift for all, or the scene would pump.

    Depths that were estimated frame by frame are first brought to that of the frame before; what moves is in the
    minority and does not count. Then the video as a whole gets the scale of its cameras by a plane sweep of the frame
    in the middle, or puts the middle of its first image at ``depth_center``.

    Args:
        views: with depth; relative depths of files are of one scale already.
        estimated: those that a model made.
        options: ``depth_align`` and ``depth_center``.
        posed: the cameras stand in a world of their own.
        say: gets a sentence for everything that was done.

    Returns:
        The views in their order.

    Raises:
        InputError: an alignment was asked for that a video does not have.
    """
    if options.depth_align not in ("auto", "sweep", "none"):
        raise InputError(
            f"depth_align is {options.depth_align!r}, but a video takes 'auto', 'sweep' (a plane sweep, where its "
            "camera moves) or 'none'"
        )
    found = list(views)
    for index in estimated:
        if index > 0 and options.depth_align != "none":
            before = found[index - 1]
            aligned, _ = _align_to(found[index], before)
            found[index] = replace(found[index], depth=aligned.depth)
    relative = any(not view.require_depth().is_metric for view in views if view.depth is not None)
    if options.depth_center is not None:
        factor = align_center(found[0].require_depth(), options.depth_center)
        return _same_line(found, "depth", factor, "the distance of the middle", say)
    if options.depth_align == "sweep" or (options.depth_align == "auto" and posed and relative):
        index = len(found) // 2
        points = swept_points(found, index, Hint())
        kind: DepthKind = "disparity" if relative else "depth"
        line = align_to_points(found[index].require_depth(), found[index].camera, points, kind=kind)
        return _same_line(found, kind, line, f"a plane sweep of {found[index].name}", say)
    return found


def _same_line(views: Sequence[View], kind: DepthKind, line: Alignment, ground: str, say: Say) -> list[View]:
    """All views with the scale and shift of one."""
    say(f"depths times {line.scale:.3g}, by {ground} ({line.inliers:.0%} agree)")
    return [replace(view, depth=apply_line(view.require_depth(), line.scale, line.shift, kind)) for view in views]


def _align(
    views: Sequence[View],
    index: int,
    trusted: Sequence[int],
    hint: Hint,
    options: DepthOptions,
    posed: bool,
) -> tuple[Alignment | None, str]:
    """The aligned depth of a view, and by what; None where there is nothing to go by, and nothing was asked for."""
    view, depth, how = views[index], views[index].require_depth(), options.depth_align
    kind: DepthKind = "depth" if depth.is_metric else "disparity"
    if options.depth_center is not None:
        return align_center(depth, options.depth_center), "the distance of the middle"
    if how == "none":
        return None, ""
    has_points = hint.points is not None and len(hint.points) >= ENOUGH_POINTS
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
        return _align_to(view, views[min(others, key=lambda k: abs(k - index))])
    if posed and len(views) > 1 and how in ("auto", "sweep"):
        points = swept_points(views, index, hint)
        return align_to_points(depth, view.camera, points, kind=kind), "a plane sweep"
    if how != "auto":
        raise InputError(
            f"depth_align is {how!r}, but {view.name} has no other posed view with depth to go by; give another view, "
            "or the distance of the middle with --depth_center"
        )
    return None, ""


def _align_to(view: View, other: View) -> tuple[Alignment, str]:
    """A view's depth on another's scale, and by what."""
    depth, there, ground = view.require_depth(), other.require_depth(), f"the depth of {other.name}"
    if depth.is_metric:
        return align_to_view(depth, view.camera, there, other.camera), ground
    # Relative inverse depth has an unknown shift too, which a ratio of depths does not give.
    return align_to_points(depth, view.camera, _surface(other, view)), ground


def _surface(other: View, view: View) -> Tensor:
    """World points of another view's depth that this view sees."""
    depth = other.require_depth()
    warp = splat(depth.values[None], depth.values, other.camera, stack([view.camera]), valid=depth.valid)
    return some_points(view.camera, warp.depth[0, 0], warp.visible[0, 0] > 0)
