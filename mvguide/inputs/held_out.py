"""True frames: read, paired with the frames of a result, and brought to its size as views are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mvguide.config import EvaluateConfig
from mvguide.errors import FileError, InputError
from mvguide.evaluation.rendered import RenderedVideo
from mvguide.evaluation.scores import Truth
from mvguide.inputs import find_posed, load_inputs
from mvguide.inputs.pictures import read_footage
from mvguide.views.view import View


@dataclass(frozen=True)
class HeldOut:
    """A scene split into input views and pictures to compare with.

    Args:
        use: names of the views.
        names: names of all pictures on the camera's way, in the order of the scene.
        views: these pictures with cameras and, where known, depth; the same order.
        notes: what is missing, a sentence each.
    """

    use: list[str | int]
    names: list[str]
    views: list[View]
    notes: list[str]


def split_scene(config: EvaluateConfig) -> HeldOut:
    """Views and held-out pictures of a camera file or of a list of views.

    Raises:
        FileError, InputError: no posed pictures, a picture that is both or not there, or nothing left to hold out.
    """
    if config.video is not None:
        raise InputError("a video's own frames are its views; to compare its render with others give --truth")
    names, (use, held_out) = find_posed(config, config.use, config.held_out)
    everything = list(range(len(names)))
    if use is None and held_out is None:
        raise InputError("every picture is a view, so none is left to compare with; name the views with --use")
    if use is None:
        use = [number for number in everything if number not in (held_out or ())]
    if held_out is None:
        held_out = [number for number in everything if number not in use]
    both = sorted(set(use) & set(held_out))
    if both:
        raise InputError(f"picture {names[both[0]]} is named by use and by held_out; it can be one of them")
    if not use or not held_out:
        lacking = "held out to compare with" if use else "left as a view"
        raise InputError(f"of {len(names)} pictures none is {lacking}; say which with --use and --held_out")
    way = [names[number] for number in sorted({*use, *held_out})]
    # Depth as it was measured, or none: an estimate would be no truth.
    chosen = replace(config, use=list(way), depth_source="file", depth_align="none", depth_center=None)
    notes = []
    try:
        views = load_inputs(chosen).views
    except FileError as error:
        if config.depth is None:
            raise
        views = load_inputs(replace(chosen, depth=None)).views  # a picture that is missing is told of here
        notes.append(f"no reprojection error, for want of depth of the held-out pictures: {error}")
    sizes = {(view.camera.width, view.camera.height) for view in views}
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise InputError(f"pictures have unlike sizes ({listed}); bring them to one with --resize")
    return HeldOut([names[number] for number in use], way, views, notes)


def truth_of_views(views: Sequence[View], numbers: Sequence[int], video: RenderedVideo) -> Truth:
    """Truth from pictures of the frames ``numbers`` of a result, each brought to its size as views are."""
    width, height = video.size
    fitted = [view.fit(width, height) for view in views]
    depths = [view.depth for view in fitted]
    # Relative depth is not in the unit of the cameras, and can say nothing of where they see a point.
    known = [depth for depth in depths if depth is not None and depth.is_metric]
    picked = list(numbers)
    return Truth(
        torch.stack([view.image for view in fitted]),
        video.visible[picked],
        video.cameras[picked],
        picked,
        video.pinned[picked],
        torch.stack([depth.values for depth in known]) if len(known) == len(views) else None,
        torch.stack([depth.valid for depth in known]) if len(known) == len(views) else None,
    )


def read_truth(config: EvaluateConfig, video: RenderedVideo) -> Truth:
    """The true frames of a result, from the folder or film ``config.truth``, with depth from ``config.depth``.

    Raises:
        FileError, InputError: not there, not to be read, or of another number than the frames.
    """
    source = str(config.truth)
    # Only their pixels and depth are asked for: the cameras are the result's.
    alone = replace(config, cameras=None, intrinsics=None, fov=None)
    views = read_footage(alone, source)
    numbers = _pair(config, [view.name for view in views], video)
    order = sorted(range(len(views)), key=lambda index: numbers[index])
    return truth_of_views([views[k] for k in order], [numbers[k] for k in order], video)


def _pair(config: EvaluateConfig, names: Sequence[str], video: RenderedVideo) -> list[int]:
    """The frame of each true picture: as told, by name where all names agree, else in order."""
    count = len(video.frames)
    wanted = list(range(count)) if config.frames is None else config.frames
    if any(not 0 <= number < count for number in wanted) or len(set(wanted)) != len(wanted):
        raise InputError(f"frames is {wanted}; give numbers from 0 to {count - 1}, each at most once")
    if len(names) != len(wanted):
        way = "say which frames they are of with --frames" if config.frames is None else "give as many"
        raise InputError(f"{config.truth} has {len(names)} true frames for {len(wanted)} of the result; {way}")
    by_name = {Path(name).stem: number for number, name in enumerate(video.names)}
    stems = [Path(name).stem for name in names]
    if config.frames is None and set(stems) == set(by_name):
        return [by_name[stem] for stem in stems]
    return wanted
