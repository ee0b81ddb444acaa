"""From settings to views and a path: one picture, several posed ones, the pictures of a camera file, or a video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvguide.config import InputConfig, TrajectoryConfig, TrajectoryKind, ViewConfig
from mvguide.errors import InputError
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import interpolate_cameras, resample_trajectory, start_at
from mvguide.geometry.trajectory import make_trajectory
from mvguide.inputs.finding import find_pictures
from mvguide.inputs.missing_depth import complete_depths
from mvguide.inputs.pictures import (
    camera_file,
    chosen_images,
    intrinsics_of,
    picture_size,
    read_footage,
    read_image_of,
    read_view,
)
from mvguide.inputs.sweeps import Hint, Say
from mvguide.views.moments import Moments
from mvguide.views.view import View

_SOURCES = ("image", "views", "cameras", "video")


@dataclass(frozen=True)
class Inputs:
    """What a command works on.

    Args:
        views: pictures with cameras and, mostly, depth.
        posed: the cameras are in a world of their own, in which camera files of the path are too.
        footage: how a video is assigned to so many frames; None for a still scene.
        start: the view whose camera the path starts from.
        stopped: a film is shown at one moment.
    """

    views: list[View]
    posed: bool
    footage: Callable[[int], Moments] | None = None
    start: int = 0
    stopped: bool = False

    def moments(self, num_frames: int) -> Moments | None:
        """Which views show which frame; None: all of them all."""
        return None if self.footage is None else self.footage(num_frames)

    def trajectory(self, config: TrajectoryConfig, num_frames: int) -> Camera:
        """Cameras of the video, of the first picture's size; paths start at the view ``start``.

        Raises:
            InputError: settings that the kind of path does not take, or too few views for it.
        """
        first, kind = self.views[self.start], config.kind or self._usual_kind(config)
        if kind == "file":
            return self._recorded(config, num_frames)
        if kind in ("views", "still"):
            if config.params():
                raise InputError(f"trajectory.kind {kind!r} takes no {', '.join(config.params())}; drop it")
            if kind == "still":
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

    def _usual_kind(self, config: TrajectoryConfig) -> TrajectoryKind:
        """What one expects of these inputs when nothing is said about the path."""
        if config.file is not None:
            return "file"
        if config.params() or self.stopped or len(self.views) == 1:
            return "orbit"
        return "views" if self.footage is None else "still"

    def _recorded(self, config: TrajectoryConfig, num_frames: int) -> Camera:
        if config.file is None:
            raise InputError("trajectory.kind is 'file' but no file was given; add --trajectory.file transforms.json")
        if config.params():
            raise InputError(f"trajectory.kind 'file' takes no {', '.join(config.params())}; the file says it all")
        camera = self.views[self.start].camera
        size = camera.width, camera.height
        given = InputConfig(intrinsics=intrinsics_of(camera))
        cameras = camera_file(given, config.file, size).trajectory().resize(*size)
        path = resample_trajectory(cameras, num_frames)
        return path if self.posed else start_at(path, camera)


def load_inputs(config: InputConfig, say: Say | None = None) -> Inputs:
    """Read what the settings name, and see to depth where none was given.

    Args:
        config: the settings.
        say: told in a sentence what was made or scaled; by default nobody is.

    Raises:
        InputError: no source or several, settings that do not go together, or depth that is missing and cannot be made
            (``depth_source`` "file" leaves such views without).
        FileError: a file that cannot be read.
        ModelError: a depth model that cannot be loaded.
    """
    given = [name for name in _SOURCES if getattr(config, name) is not None]
    if given not in (["image"], ["views"], ["cameras"], ["video"], ["cameras", "video"]):
        listed = " and ".join(f"--{name}" for name in given) or "no picture"
        raise InputError(f"{listed} given; give one of {', '.join(f'--{name}' for name in _SOURCES)}")
    footage: Callable[[int], Moments] | None = None
    if config.video is not None:
        views = read_footage(config, config.video)
        hints = [Hint()] * len(views)
        count, moment, fill = len(views), config.moment, config.fill

        def footage(num_frames: int) -> Moments:
            return Moments.footage(count, num_frames, at=moment, fill=fill)

        posed = config.cameras is not None
    elif config.cameras is not None:
        views, hints = _read_posed(config, config.cameras)
        posed = True
    else:
        listed_views = [ViewConfig(config.image)] if config.image is not None else _used(config.views or [], config.use)
        views = [read_view(config, view) for view in listed_views]
        hints = [Hint()] * len(views)
        posed = any(view.camera_to_world is not None for view in listed_views)
        if len(views) > 1 and not all(view.camera_to_world is not None for view in listed_views):
            raise InputError("several views need a camera_to_world each; give them, or --cameras FILE")
    if not views:
        raise InputError("views is an empty list; give at least one picture")
    views = complete_depths(views, hints, config, posed=posed, still=footage is None, say=say or (lambda text: None))
    # A film that is stopped is looked at from where it was filmed at that moment.
    stopped = footage is not None and config.moment is not None
    start = (config.moment or 0) % len(views) if stopped else 0
    return Inputs(views, posed, footage, start, stopped)


def find_posed(config: InputConfig, *lists: Sequence[str | int] | None) -> tuple[list[str], list[list[int] | None]]:
    """Names of the posed pictures, and the numbers of those that each list picks (None for None).

    They are the images of ``config.cameras``, or else of ``config.views``.

    Raises:
        FileError, InputError: no posed pictures, as :func:`load_inputs`, or a list that names what is not there.
    """
    if config.cameras is not None:
        pictures = None if config.images is None else find_pictures(config.images)
        known, source = camera_file(config, config.cameras, picture_size(config, pictures)).names, "the camera file"
    elif config.views is not None:
        known, source = [view.image for view in config.views], "views"
    else:
        raise InputError("no camera file was given; give --cameras or --views, or a --scene that has one of them")
    return known, [None if names is None else chosen_images(known, names, source) for names in lists]


def _used(views: Sequence[ViewConfig], use: Sequence[str | int] | None) -> list[ViewConfig]:
    return [views[index] for index in chosen_images([view.image for view in views], use, "views")]


def _read_posed(config: InputConfig, source: str) -> tuple[list[View], list[Hint]]:
    """Pictures of a camera file, and what the file knows of their depth."""
    pictures = None if config.images is None else find_pictures(config.images)
    posed = camera_file(config, source, picture_size(config, pictures))
    views, hints = [], []
    for index in chosen_images(posed.names, config.use):
        file = pictures[index] if pictures and index < len(pictures) else posed.picture(index)
        views.append(read_image_of(config, posed, index, file))
        points = posed.points if posed.tracks is None else posed.tracks[index]
        bounds = None if posed.bounds is None else (float(posed.bounds[index, 0]), float(posed.bounds[index, 1]))
        hints.append(Hint(points, bounds))
    return views, hints
