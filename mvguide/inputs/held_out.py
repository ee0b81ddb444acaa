"""True frames: read, paired with the frames of a result, and brought to its size as views are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mvguide.backbones.native_size import read_native_size
from mvguide.backbones.pretrained import find_model
from mvguide.config.input_options import CropOptions, DepthFileOptions, LensOptions, TrajectoryOptions
from mvguide.config.render_options import RenderConfig
from mvguide.errors import FileError, InputError
from mvguide.evaluation.rendered import RenderedVideo
from mvguide.evaluation.scores import Truth
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import interpolate_cameras, key_frames
from mvguide.inputs.loading import find_posed, load_inputs
from mvguide.inputs.pictures import read_footage
from mvguide.views.view import View


@dataclass(frozen=True)
class HeldOut:
    """A scene split into input views and images to compare with.

    Args:
        settings: of the render: only the input views are its views.
        path: F cameras through all images, in the order of the scene.
        views: K images on the camera's way with cameras and, where known, depth; the same order.
        against: what the video is compared with, for reports.
        notes: what is missing, a sentence each.
    """

    settings: RenderConfig
    path: Camera
    views: list[View]
    against: str
    notes: list[str]

    def truth(self, video: RenderedVideo) -> Truth:
        """The true frames of a result of these settings."""
        return truth_of_views(self.views, key_frames(len(self.views), len(self.path)), video)


def hold_out(config: RenderConfig, names: Sequence[str | int] | None = None) -> HeldOut:
    """Split the images of a camera file, or of a list of views, into input views and held-out images.

    Args:
        config: settings of the render; ``use`` names the input views.
        names: images to hold out, by name or number from 0; by default all that ``use`` leaves over.

    Raises:
        FileError, InputError: no posed images, an image that is both or not there, or nothing left to hold out.
    """
    if config.video is not None:
        raise InputError("a video's own frames are its views; to compare its render with others give --truth")
    known, (use, held_out) = find_posed(config, config.use, names)
    everything = list(range(len(known)))
    if use is None and held_out is None:
        raise InputError("every image is a view, so none is left to compare with; name the views with --use")
    if use is None:
        use = [number for number in everything if number not in (held_out or ())]
    if held_out is None:
        held_out = [number for number in everything if number not in use]
    both = sorted(set(use) & set(held_out))
    if both:
        raise InputError(f"image {known[both[0]]} is named by use and by held_out; it can be one of them")
    if not use or not held_out:
        lacking = "held out to compare with" if use else "left as a view"
        raise InputError(f"of {len(known)} images none is {lacking}; name them with --use and --held_out")
    on_the_way = [known[number] for number in sorted({*use, *held_out})]
    # Depth as it was measured, or none: an estimate would be no truth.
    measured = replace(config, use=list(on_the_way), depth_source="file", depth_align="none", depth_center=None)
    notes = []
    try:
        views = load_inputs(measured).views
    except FileError as error:
        if config.depth is None:
            raise
        views = load_inputs(replace(measured, depth=None)).views  # an image that is missing is reported here
        notes.append(f"no reprojection error, because depth of the held-out images is missing: {error}")
    sizes = {(view.camera.width, view.camera.height) for view in views}
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise InputError(f"images have unlike sizes ({listed}); bring them to one with --resize")
    num_frames = config.num_frames or max(len(views), read_native_size(find_model(config.model)).frames)
    kept = len(on_the_way) - len(use)
    return HeldOut(
        replace(config, use=[known[number] for number in use], trajectory=TrajectoryOptions(kind="views")),
        interpolate_cameras(stack([view.camera for view in views]), num_frames),
        views,
        f"{kept} held-out images of {Path(config.cameras or config.scene or 'views').name}",
        notes,
    )


def truth_of_views(views: Sequence[View], numbers: Sequence[int], video: RenderedVideo) -> Truth:
    """Truth from images of the frames ``numbers`` of a result, each brought to its size as views are."""
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


def read_truth(
    source: str, frames: Sequence[int] | None, depth: DepthFileOptions | None, crop: CropOptions, video: RenderedVideo
) -> Truth:
    """The true frames of a result.

    Args:
        source: folder of images, or a video.
        frames: numbers of the result's frames that they are of; None: paired by name, else all in order.
        depth: depth maps of the true frames, if there are any.
        crop: resizing and cropping of the images.
        video: the result.

    Raises:
        FileError, InputError: not there, cannot be read, or of another number than the frames.
    """
    # Only their pixels and depth are needed: the cameras are the result's.
    views = read_footage(source, depth or DepthFileOptions(), LensOptions(), crop)
    numbers = _pair(source, frames, [view.name for view in views], video)
    order = sorted(range(len(views)), key=lambda index: numbers[index])
    return truth_of_views([views[k] for k in order], [numbers[k] for k in order], video)


def _pair(source: str, frames: Sequence[int] | None, names: Sequence[str], video: RenderedVideo) -> list[int]:
    """The frame of each true image: as given, by name where all names agree, else in order."""
    count = len(video.frames)
    wanted = list(range(count)) if frames is None else list(frames)
    if any(not 0 <= number < count for number in wanted) or len(set(wanted)) != len(wanted):
        raise InputError(f"frames is {wanted}; give numbers from 0 to {count - 1}, each at most once")
    if len(names) != len(wanted):
        way = "give the numbers of their frames with --frames" if frames is None else "give as many"
        raise InputError(f"{source} has {len(names)} true frames for {len(wanted)} of the result; {way}")
    by_name = {Path(name).stem: number for number, name in enumerate(video.names)}
    stems = [Path(name).stem for name in names]
    if frames is None and set(stems) == set(by_name):
        return [by_name[stem] for stem in stems]
    return wanted
