"""True frames: read, paired with the frames of a result, and brought to its size as views are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mvguide.config import EvaluateConfig
from mvguide.depth.files import Depth, fit_depth
from mvguide.depth.sequence import read_depths
from mvguide.errors import FileError, InputError
from mvguide.evaluation.folders import RenderedVideo
from mvguide.evaluation.scores import Truth
from mvguide.files.images import read_image
from mvguide.files.video import READ_SUFFIXES, read_video
from mvguide.geometry.camera import Camera
from mvguide.input_files import find_depth, find_depths, find_pictures, shape_picture
from mvguide.inputs import find_posed, load_inputs
from mvguide.reading import is_folder
from mvguide.view import View


@dataclass(frozen=True)
class HeldOut:
    """A scene split into input views and pictures to compare with.

    Args:
        use: names of the views.
        names: names of all pictures on the camera's way, in the order of the file.
        views: these pictures with cameras and, where known, depth; the same order.
        notes: what is missing, a sentence each.
    """

    use: list[str | int]
    names: list[str]
    views: list[View]
    notes: list[str]


def split_scene(config: EvaluateConfig) -> HeldOut:
    """Views and held-out pictures of a camera file.

    Raises:
        FileError, InputError: no camera file, a picture that is both or not there, or nothing left to hold out.
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
    chosen, notes = replace(config, use=list(way)), []
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
    known = [depth for depth in depths if depth is not None]
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
    """The true frames of a result from the files that the settings name.

    Raises:
        FileError, InputError: not there, not to be read, or of another number than the frames.
    """
    assert config.truth is not None  # the command asks for it first
    names, pictures = _read_pictures(config.truth)
    pictures = [shape_picture(picture, config.resize, config.crop) for picture in pictures]
    depths = _read_depths(config, config.truth, names, pictures)
    numbers = _pair(config, names, len(pictures), video)
    views = [
        View(picture, Camera.from_fov(60, picture.shape[2], picture.shape[1]), depth, f"true frame {index}")
        for index, (picture, depth) in enumerate(zip(pictures, depths, strict=True))
    ]
    order = sorted(range(len(views)), key=lambda index: numbers[index])
    return truth_of_views([views[k] for k in order], [numbers[k] for k in order], video)


def _read_pictures(source: str) -> tuple[list[str], list[Tensor]]:
    """Names and pictures of a folder; the frames of a film have no names."""
    if is_folder(Path(source)):
        files = find_pictures(source)
        return [file.name for file in files], [read_image(file) for file in files]
    if Path(source).suffix.lower() in READ_SUFFIXES:
        return [], list(read_video(source))
    raise FileError(f"truth {source} is neither a folder of pictures nor a film ({', '.join(READ_SUFFIXES)})")


def _read_depths(
    config: EvaluateConfig, source: str, names: Sequence[str], pictures: Sequence[Tensor]
) -> list[Depth | None]:
    """Depth of every true picture: by its name, or in order where names do not say."""
    if config.depth is None:
        return [None] * len(pictures)
    if "{stem}" in config.depth:
        files = [find_depth(config.depth, Path(source) / name) for name in names]
    else:
        files = find_depths(config.depth)
        stems = {name.split(".")[0] for name in names}
        if names and {file.name.split(".")[0] for file in files} >= stems:
            files = [find_depth(config.depth, Path(source) / name) for name in names]
    if len(files) != len(pictures):
        raise InputError(f"{config.depth} gives {len(files)} depth maps for {len(pictures)} true frames; give as many")
    read = read_depths(
        files,
        unit=config.depth_unit,
        offset=config.depth_offset,
        kind=config.depth_kind,
        invalid=config.depth_invalid,
    )
    return [fit_depth(depth, picture.shape[2], picture.shape[1]) for depth, picture in zip(read, pictures, strict=True)]


def _pair(config: EvaluateConfig, names: Sequence[str], pictures: int, video: RenderedVideo) -> list[int]:
    """The frame of each true picture: as told, by name where all names agree, else in order."""
    count = len(video.frames)
    wanted = list(range(count)) if config.frames is None else config.frames
    if any(not 0 <= number < count for number in wanted) or len(set(wanted)) != len(wanted):
        raise InputError(f"frames is {wanted}; give numbers from 0 to {count - 1}, each at most once")
    if pictures != len(wanted):
        way = "say which frames they are of with --frames" if config.frames is None else "give as many"
        raise InputError(f"{config.truth} has {pictures} true frames for {len(wanted)} of the result; {way}")
    by_name = {Path(name).stem: number for number, name in enumerate(video.names)}
    stems = [Path(name).stem for name in names]
    if config.frames is None and set(stems) == set(by_name):
        return [by_name[stem] for stem in stems]
    return wanted
