"""Depth for views that came without it, and one scale for depths and cameras."""

from collections.abc import Sequence
from dataclasses import replace

from mvguide.config import InputConfig
from mvguide.depth.model import DEFAULT_MODEL, estimate_depth, model_is_here
from mvguide.errors import InputError
from mvguide.inputs.alignment import align_film, align_still
from mvguide.inputs.sweeps import Hint, Say, sweep_view
from mvguide.views.view import View


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
            found[index] = sweep_view(views, index, hints[index])
    if missing and source != "file":
        how = f"the model {config.depth_model or DEFAULT_MODEL}" if source == "model" else "a plane sweep"
        say(f"depth of {len(missing)} of {len(views)} pictures is from {how}")
    estimated = missing if source == "model" else []
    if not still:
        return align_film(found, estimated, config, posed, say)
    known = [index for index, view in enumerate(found) if view.depth is not None]
    uncertain = [i for i in known if i in estimated or (posed and not found[i].require_depth().is_metric)]
    if config.depth_align == "view":
        uncertain = uncertain or known[1:]  # all have a scale: the first one's counts
    elif config.depth_align not in ("auto", "none") or config.depth_center is not None:
        uncertain = known
    return align_still(found, uncertain, hints, config, posed, say)


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
