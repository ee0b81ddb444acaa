"""From settings to views and a path: one image, several posed ones, the images of a camera file, or a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvguide.config.input_options import (
    CropOptions,
    DepthOptions,
    InputConfig,
    LensOptions,
    SourceOptions,
    TrajectoryOptions,
    ViewOptions,
)
from mvguide.config.parsing import SOURCES
from mvguide.errors import InputError
from mvguide.files.images import exif_fov
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import interpolate_cameras, resample_trajectory, start_at
from mvguide.geometry.trajectory import check_frames, make_trajectory
from mvguide.inputs.background import check_background, place_backgrounds
from mvguide.inputs.captures import camera_file, choose_images, read_capture
from mvguide.inputs.missing_depth import complete_depths
from mvguide.inputs.pictures import intrinsics_of, read_footage, read_posed_image, read_view
from mvguide.inputs.sweeps import Hint, Say
from mvguide.views.moments import Moments
from mvguide.views.view import DEFAULT_FOV, View, unfit_camera


@dataclass(frozen=True)
class Footage:
    """A video among the inputs.

    Args:
        count: number of its images.
        moment: image at which time stands still, or None; negative from the end.
        fill: neighbouring images on each side that may fill holes where nothing moved.
    """

    count: int
    moment: int | None
    fill: int


@dataclass(frozen=True)
class Inputs:
    """Images, and how a path runs through them.

    Args:
        views: images with cameras and, mostly, depth.
        posed: the cameras are in a world of their own, in which camera files of the path are too.
        footage: the images are those of a video; None for a still scene.
    """

    views: list[View]
    posed: bool
    footage: Footage | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a video is shown at one moment."""
        return self.footage is not None and self.footage.moment is not None

    @property
    def start(self) -> View:
        """The view whose camera the path starts from: that of the moment at which a video is stopped, or the first."""
        moment = self.footage.moment if self.footage is not None else None
        return self.views[(moment or 0) % len(self.views)]

    def moments(self, num_frames: int) -> Moments | None:
        """Which views show which of F frames; None: every view shows every frame."""
        if self.footage is None:
            return None
        return Moments.footage(self.footage.count, num_frames, at=self.footage.moment, fill=self.footage.fill)

    def trajectory(self, config: TrajectoryOptions, num_frames: int) -> Camera:
        """F cameras of the video, of the first image's size; paths start at the view ``start``.

        Raises:
            InputError: settings that the kind of path does not take, or too few views for it.
        """
        first, kind = self.start, config.kind or self.default_kind(config)
        if kind == "file":
            return self._recorded(config, num_frames)
        if kind in ("views", "still"):
            if config.params():
                raise InputError(f"trajectory.kind {kind!r} takes no {', '.join(config.params())}; drop it")
            if kind == "still":
                check_frames(num_frames)
                return stack([first.camera] * num_frames)
            cameras = [view.camera.resize(first.camera.width, first.camera.height) for view in self.views]
            if len(cameras) < 2:
                raise InputError("trajectory.kind 'views' runs through the views; there is one, give more")
            return (
                interpolate_cameras(cameras, num_frames)
                if num_frames >= len(cameras)
                else resample_trajectory(cameras, num_frames)
            )
        depth = first.median_depth if config.target_depth is None else config.target_depth
        return make_trajectory(kind, first.camera, num_frames, depth, **config.params())

    def default_kind(self, config: TrajectoryOptions) -> str:
        """Kind of the path where none is given: through several views, around one, still for a video."""
        if config.file is not None:
            return "file"
        if config.params() or self.is_stopped or len(self.views) == 1:
            return "orbit"
        return "views" if self.footage is None else "still"

    def _recorded(self, config: TrajectoryOptions, num_frames: int) -> Camera:
        if config.file is None:
            raise InputError("trajectory.kind is 'file' but no file was given; add --trajectory.file transforms.json")
        if config.params():
            raise InputError(
                f"trajectory.kind 'file' takes no {', '.join(config.params())}; the file has the whole path"
            )
        camera = self.start.camera
        size = camera.width, camera.height
        lens = LensOptions(intrinsics=intrinsics_of(camera))
        # Of another shape, they are cameras of a video, which is cut from the image: stretched, it would be squeezed.
        cameras = unfit_camera(camera_file(config.file, lens, size).trajectory(), *size)
        path = resample_trajectory(cameras, num_frames)
        return path if self.posed else start_at(path, camera)


def load_views(
    source: SourceOptions,
    depth: DepthOptions | None = None,
    lens: LensOptions | None = None,
    crop: CropOptions | None = None,
    say: Say | None = None,
) -> Inputs:
    """Read images with their cameras, and make or align depth where that is needed.

    Args:
        source: where the images and their cameras are.
        depth: depth maps, and how missing ones are made; by default a depth model that is on this machine, else a
            plane sweep of posed images.
        lens: field of view or intrinsics, where no camera file has them.
        crop: resizing and cropping of every image.
        say: called with a sentence for everything that was made or scaled.

    Raises:
        InputError: no source or several, settings that do not go together, or depth that is missing and cannot be made
            (``depth_source`` "file" leaves such views without).
        FileError: a file that cannot be read.
        ModelError: a depth model that cannot be loaded.
    """
    depth, lens, crop, say = depth or DepthOptions(), lens or LensOptions(), crop or CropOptions(), say or _ignore
    check_background(depth.background)
    given = [name for name in SOURCES if getattr(source, name) is not None]
    if given not in (["image"], ["views"], ["cameras"], ["video"], ["cameras", "video"]):
        listed = " and ".join(f"--{name}" for name in given) or "no image"
        raise InputError(f"{listed} given; give one of {', '.join(f'--{name}' for name in SOURCES)}")
    footage: Footage | None = None
    if source.video is not None:
        if source.cameras is None and lens.fov is None and lens.intrinsics is None:
            say(_assumed(source.video))
        views = read_footage(source.video, depth, lens, crop, source.cameras)
        hints = [Hint()] * len(views)
        footage = Footage(len(views), source.moment, source.fill)
        posed = source.cameras is not None
    elif source.cameras is not None:
        views, hints = _read_posed(source, depth, lens, crop, say)
        posed = True
    else:
        listed_views = [ViewOptions(source.image)] if source.image is not None else _used(source)
        views = [read_view(view, depth, _lens_of(view, lens, say), crop) for view in listed_views]
        hints = [Hint()] * len(views)
        posed = any(view.camera_to_world is not None for view in listed_views)
        if len(views) > 1 and not all(view.camera_to_world is not None for view in listed_views):
            raise InputError("several views need a camera_to_world each; give them, or --cameras FILE")
    if not views:
        raise InputError("views is an empty list; give at least one image")
    views = complete_depths(views, hints, depth, posed=posed, still=footage is None, say=say)
    return Inputs(place_backgrounds(views, depth.background), posed, footage)


def _lens_of(view: ViewOptions, lens: LensOptions, say: Say) -> LensOptions:
    """The lens of an image; where none is given, that of its EXIF data, else one is assumed."""
    if any(value is not None for value in (view.fov, view.intrinsics, lens.fov, lens.intrinsics)):
        return lens
    fov = exif_fov(view.image)
    if fov is None:
        say(_assumed(view.image))
        return lens
    say(f"field of view of {Path(view.image).name} is {fov:.3g} degrees, by the focal length of its EXIF data")
    return LensOptions(fov=fov, pixel_center=lens.pixel_center)


def _assumed(source: str) -> str:
    return f"field of view of {Path(source).name} is not known: {DEFAULT_FOV:g} degrees are assumed; --fov sets it"


def _ignore(text: str) -> None:
    """Print nothing."""


def load_inputs(config: InputConfig, say: Say | None = None) -> Inputs:
    """:func:`load_views` with the settings of a command, which are all the records at once."""
    return load_views(config, config, config, config, say)


def find_posed(config: InputConfig, *lists: Sequence[str | int] | None) -> tuple[list[str], list[list[int] | None]]:
    """Names of the posed images, and the numbers of those that each list picks (None for None).

    They are the images of ``config.cameras``, or else of ``config.views``.

    Raises:
        FileError, InputError: no posed images, as :func:`load_inputs`, or a list that names what is not there.
    """
    if config.cameras is not None:
        capture = read_capture(config, config, config)
        present, names = capture.present, capture.posed.names
        # Images that are not there count in the numbers of the camera file, but not among the names.
        picked = [None if use is None else [present.index(one) for one in capture.choose(use)] for use in lists]
        return [names[index] for index in present], picked
    if config.views is None:
        raise InputError("no camera file was given; give --cameras or --views, or a --scene that has one of them")
    names = [view.image for view in config.views]
    return names, [None if use is None else choose_images(names, use, "views") for use in lists]


def _used(source: SourceOptions) -> list[ViewOptions]:
    views = source.views or []
    if source.use is None:
        return views
    return [views[index] for index in choose_images([view.image for view in views], source.use, "views")]


def _read_posed(
    source: SourceOptions, depth: DepthOptions, lens: LensOptions, crop: CropOptions, say: Say | None
) -> tuple[list[View], list[Hint]]:
    """Images of a camera file, and what the file says about their depth."""
    capture = read_capture(source, lens, crop, say)
    posed, views, hints = capture.posed, [], []
    for index in capture.choose(source.use, say):
        views.append(read_posed_image(posed, index, capture.file(index), depth, crop))
        points = posed.points if posed.tracks is None else posed.tracks[index]
        bounds = None if posed.bounds is None else (float(posed.bounds[index, 0]), float(posed.bounds[index, 1]))
        hints.append(Hint(points, bounds))
    return views, hints
