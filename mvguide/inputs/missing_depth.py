"""Depth for views that came without it, and one scale for depths and cameras."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mvguide.config.input_options import DepthOptions
from mvguide.depth.model import DEFAULT_MODEL, estimate_depth, model_is_here
from mvguide.errors import InputError
from mvguide.inputs.alignment import align_film, align_still
from mvguide.inputs.sweeps import Hint, Say, sweep_view
from mvguide.views.view import View

_ENLARGED = 1.1  # enlarged by less, a map has lost a pixel to rounding
_TAIL = 0.02  # disparity beyond these quantiles may be a few wrong matches
# A stereo pair sees nothing nearer than its baseline, hardly matches what is farther than so many of them, and no
# scene is so many times farther in the back than in the front.
_FARTHEST, _WIDEST = 2000.0, 300.0


@dataclass(frozen=True)
class DepthSource:
    """A way to make the depth of images that came without it."""

    make: Callable[[Sequence[View], int, Hint, DepthOptions], View]
    """The view of a number with its depth, from all views, the hints of its camera file, and the options."""
    is_there: Callable[[DepthOptions, bool], bool]
    """Whether `depth_source` "auto" may use it; the second argument: two or more posed images of a still scene."""
    title: str
    """Its name in a sentence."""
    has_scale: bool
    """Whether its depth is in the unit of the cameras."""
    needs: str = ""
    """Message where it is asked for and cannot be used; empty: it is tried, and raises its own."""


def _by_model(views: Sequence[View], index: int, hint: Hint, options: DepthOptions) -> View:
    image = views[index].image
    return replace(views[index], depth=estimate_depth(image, options.depth_model or DEFAULT_MODEL))


DEPTH_SOURCES = {
    "model": DepthSource(
        _by_model,
        is_there=lambda options, can_sweep: options.depth_model is not None or model_is_here(DEFAULT_MODEL),
        title="the model {model}",
        has_scale=False,
    ),
    "sweep": DepthSource(
        lambda views, index, hint, options: sweep_view(views, index, hint),
        is_there=lambda options, can_sweep: can_sweep,
        title="a plane sweep",
        has_scale=True,
        needs="a plane sweep needs two or more posed images of a still scene; give them, or depth with --depth",
    ),
}
"""All sources, in the order in which `depth_source` "auto" asks them."""


def complete_depths(
    views: Sequence[View], hints: Sequence[Hint], options: DepthOptions, *, posed: bool, still: bool, say: Say
) -> list[View]:
    """Views that have depth, in the unit of the cameras where these have one.

    Args:
        views: with depth or without.
        hints: one for each.
        options: ``depth_source`` (a name of `DEPTH_SOURCES`, "auto", or "file", which leaves views without depth as
            they are), ``depth_model``, ``depth_align`` and ``depth_center``.
        posed: the cameras stand in a world of their own.
        still: the views show one moment, so that a plane sweep means something.
        say: gets a sentence for each thing that was done.

    Returns:
        The views in their order; without depth only those that ``depth_source`` "file" leaves so.

    Raises:
        InputError: depth is missing and cannot be made, or an alignment was asked for that lacks its ground.
        ModelError: the depth model cannot be loaded.
    """
    _look_at_files(views, options, say)
    missing = [index for index, view in enumerate(views) if view.depth is None]
    source = _source(options, views, missing, posed and still and len(views) > 1)
    found, estimated = list(views), []
    if source is not None and missing:
        how = source.title.format(model=options.depth_model or DEFAULT_MODEL)
        for count, index in enumerate(missing, start=1):
            if len(missing) > 1:
                say(f"depth of {views[index].name} from {how} ({count} of {len(missing)})")
            found[index] = source.make(views, index, hints[index], options)
        say(f"depth of {len(missing)} of {len(views)} images is from {how}")
        estimated = [] if source.has_scale else missing
    if not still:
        return align_film(found, estimated, options, posed, say)
    known = [index for index, view in enumerate(found) if view.depth is not None]
    uncertain = [i for i in known if i in estimated or (posed and not found[i].require_depth().is_metric)]
    if options.depth_align == "view":
        uncertain = uncertain or known[1:]  # all have a scale: the first one's counts
    elif options.depth_align not in ("auto", "none") or options.depth_center is not None:
        uncertain = known
    return align_still(found, uncertain, hints, options, posed, say)


def _look_at_files(views: Sequence[View], options: DepthOptions, say: Say) -> None:
    """Say how much depth maps were enlarged, and where stereo disparity makes depths that no scene has."""
    with_depth = [view for view in views if view.depth is not None]
    enlarged = [view for view in with_depth if view.require_depth().enlarged >= _ENLARGED]
    if enlarged:
        most = max(enlarged, key=lambda view: view.require_depth().enlarged)
        say(
            f"depth maps of {len(enlarged)} of {len(views)} images were enlarged, that of {most.name} "
            f"{most.require_depth().enlarged:.3g} times"
        )
    if options.depth_baseline is None:
        return
    for view in with_depth:
        depth = view.require_depth()
        known = depth.values[depth.valid].double()
        if not len(known):
            continue
        some = known[:: max(1, len(known) // 100_000)]
        near, far = float(some.quantile(_TAIL)), float(some.quantile(1 - _TAIL))
        if near < options.depth_baseline or far > _FARTHEST * options.depth_baseline or far > _WIDEST * near:
            say(
                f"depth of {view.name}, from its disparity, runs from {near:.3g} to {far:.3g} with a baseline of "
                f"{options.depth_baseline:g}, which hardly any scene does: check --depth_focal (pixels of the "
                "disparity map), --depth_unit (pixels in one stored unit) and --depth_offset (Middlebury's doffs)"
            )
            return


def _source(
    options: DepthOptions, views: Sequence[View], missing: Sequence[int], can_sweep: bool
) -> DepthSource | None:
    """Where missing depth is to come from; None: it is to stay missing, or none is."""
    wanted, names = options.depth_source, ["auto", "file", *DEPTH_SOURCES]
    if wanted not in names:
        raise InputError(f"depth_source is {wanted!r}; it is one of {', '.join(names)}")
    if wanted == "file" or not missing:
        return None
    if wanted != "auto":
        source = DEPTH_SOURCES[wanted]
        if source.needs and not source.is_there(options, can_sweep):
            raise InputError(source.needs)
        return source
    for source in DEPTH_SOURCES.values():
        if source.is_there(options, can_sweep):
            return source
    raise InputError(
        f"{views[missing[0]].name} has no depth, which warping needs; give a depth map with --depth, or a depth "
        f"model with --depth_model FOLDER_OR_ID (on a machine with network, `hf download {DEFAULT_MODEL}` gets "
        "the one that is used by default), or posed images from two or more places (--cameras, --views)"
    )
