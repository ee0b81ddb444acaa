"""From settings to views: one picture, several posed ones, the pictures of a camera file, or a video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mvguide.config import InputConfig, TrajectoryConfig, ViewConfig
from mvguide.depth.files import Depth, fit_depth, read_depth
from mvguide.depth.sequence import read_depths
from mvguide.errors import InputError
from mvguide.files.cameras import find_format, read_cameras
from mvguide.files.images import read_image
from mvguide.files.posed import PosedImages
from mvguide.files.video import read_video
from mvguide.geometry.camera import Camera, stack
from mvguide.geometry.keyframes import resample, start_at, through
from mvguide.geometry.lens import Lens, undistort
from mvguide.geometry.trajectory import make_trajectory
from mvguide.input_files import find_depth, find_depths, find_pictures, pair, shape_picture
from mvguide.moments import Moments
from mvguide.view import DEFAULT_FOV, View

_SOURCES = ("image", "views", "cameras", "video")


@dataclass(frozen=True)
class Inputs:
    """What a command works on.

    Args:
        views: pictures with cameras and, mostly, depth.
        posed: the cameras are in a world of their own, in which camera files of the path are too.
        footage: how a video is assigned to so many frames; None for a still scene.
    """

    views: list[View]
    posed: bool
    footage: Callable[[int], Moments] | None = None

    def moments(self, num_frames: int) -> Moments | None:
        """Which views show which frame; None: all of them all."""
        return None if self.footage is None else self.footage(num_frames)

    def trajectory(self, config: TrajectoryConfig, num_frames: int) -> Camera:
        """Cameras of the video, of the first picture's size.

        Raises:
            InputError: settings that the kind of path does not take, or too few views for it.
        """
        first = self.views[0]
        if config.kind == "file":
            return self._recorded(config, num_frames)
        if config.kind in ("views", "still"):
            if config.params():
                raise InputError(f"trajectory.kind {config.kind!r} takes no {', '.join(config.params())}; drop it")
            if config.kind == "still":
                return stack([first.camera] * num_frames)
            cameras = [view.camera.resize(first.camera.width, first.camera.height) for view in self.views]
            if len(cameras) < 2:
                raise InputError("trajectory.kind 'views' runs through the views; there is one, give more")
            return through(cameras, num_frames) if num_frames >= len(cameras) else resample(cameras, num_frames)
        depth = first.median_depth if config.target_depth is None else config.target_depth
        return make_trajectory(config.kind, first.camera, num_frames, depth, **config.params())

    def _recorded(self, config: TrajectoryConfig, num_frames: int) -> Camera:
        if config.file is None:
            raise InputError("trajectory.kind is 'file' but no file was given; add --trajectory.file transforms.json")
        if config.params():
            raise InputError(f"trajectory.kind 'file' takes no {', '.join(config.params())}; the file says it all")
        camera = self.views[0].camera
        focal, size = _intrinsics(camera), (camera.width, camera.height)
        cameras = _read_any(config.file, focal, size).trajectory().resize(*size)
        path = resample(cameras, num_frames)
        return path if self.posed else start_at(path, camera)


def load_inputs(config: InputConfig) -> Inputs:
    """Read what the settings name.

    Raises:
        InputError: no source or several, or settings that do not go together.
        FileError: a file that cannot be read.
    """
    given = [name for name in _SOURCES if getattr(config, name) is not None]
    if given not in (["image"], ["views"], ["cameras"], ["video"], ["cameras", "video"]):
        listed = " and ".join(f"--{name}" for name in given) or "no picture"
        raise InputError(f"{listed} given; give one of {', '.join(f'--{name}' for name in _SOURCES)}")
    if config.video is not None:
        return _read_video(config, config.video)
    if config.cameras is not None:
        return _read_posed(config, config.cameras)
    if config.views is not None:
        if not config.views:
            raise InputError("views is an empty list; give at least one picture")
        views = [_read_view(config, view) for view in config.views]
        posed = any(view.camera_to_world is not None for view in config.views)
        if len(views) > 1 and not all(view.camera_to_world is not None for view in config.views):
            raise InputError("several views need a camera_to_world each; give them, or --cameras FILE")
        return Inputs(views, posed)
    assert config.image is not None  # by the check above
    view = ViewConfig(config.image, config.depth, config.fov, config.intrinsics)
    return Inputs([_read_view(config, view)], posed=False)


def _read_view(config: InputConfig, view: ViewConfig) -> View:
    """One picture with its own settings, or where it has none those of all."""
    matrix = None
    if view.camera_to_world is not None:
        matrix = torch.tensor(view.camera_to_world, dtype=torch.float64)
        if matrix.shape != (4, 4):
            raise InputError(
                f"camera_to_world of {view.image} has shape {tuple(matrix.shape)}; it must be 4 x 4 numbers"
            )
        matrix = torch.linalg.inv(matrix)
    image = _shaped(read_image(view.image), config)
    own = view.fov is not None or view.intrinsics is not None
    camera = _camera(
        image,
        view.fov if own else config.fov,
        view.intrinsics if own else config.intrinsics,
        config.pixel_center,
        matrix,
    )
    path = view.depth or (config.depth and str(find_depth(config.depth, Path(view.image))))
    depth = None if path is None else _fit(_read_depth(config, path), image)
    return View(image, camera, depth, Path(view.image).name)


def _read_posed(config: InputConfig, source: str) -> Inputs:
    """Pictures of a camera file."""
    posed, pictures = _open_posed(config, source)
    views = []
    for index in _chosen(posed, config.use):
        file = pictures[index] if pictures and index < len(pictures) else posed.picture(index)
        image = _shaped(read_image(file), config)
        one = posed.images[index]
        camera = one.camera.resize(image.shape[2], image.shape[1])
        path = _depth_of(config, file, posed, index)
        depth = None if path is None else _fit(_read_depth(config, str(path)), image)
        views.append(_straighten(View(image, camera, depth, file.name), one.lens))
    return Inputs(views, posed=True)


def _open_posed(config: InputConfig, source: str) -> tuple[PosedImages, list[Path] | None]:
    """What a camera file holds, and its pictures where these are given beside it."""
    pictures = None if config.images is None else find_pictures(config.images)
    size = None if config.camera_size is None else pair(config.camera_size, "camera_size")
    if size is None and pictures:
        image = _shaped(read_image(pictures[0]), config)
        size = image.shape[2], image.shape[1]
    return _read_any(source, config.intrinsics, size, config.pixel_center), pictures


def find_posed(config: InputConfig, *lists: Sequence[str | int] | None) -> tuple[list[str], list[list[int] | None]]:
    """Names of the images of ``config.cameras``, and the numbers that each list of names or numbers picks.

    Raises:
        FileError, InputError: as :func:`load_inputs`; a list that names what is not there.
    """
    if config.cameras is None:
        raise InputError("no camera file was given; give --cameras, or a --scene that has one")
    posed, _ = _open_posed(config, config.cameras)
    return posed.names, [None if names is None else _chosen(posed, names) for names in lists]


def _read_video(config: InputConfig, source: str) -> Inputs:
    """Frames of a film or folder, all from one camera, or each from its own."""
    folder = Path(source)
    names = [path.name for path in find_pictures(source)] if folder.is_dir() else []
    frames = [read_image(folder / name) for name in names] if names else list(read_video(source))
    frames = [_shaped(frame, config) for frame in frames]
    first = frames[0]
    if any(frame.shape != first.shape for frame in frames):
        raise InputError(f"pictures of {source} have unlike sizes; bring them to one with --resize")
    if config.cameras is not None:
        size = (first.shape[2], first.shape[1])
        posed = _read_any(config.cameras, config.intrinsics, size, config.pixel_center)
        if len(posed) != len(frames):
            raise InputError(f"{config.cameras} has {len(posed)} cameras, but {source} has {len(frames)} frames")
        cameras = [image.camera.resize(*size) for image in posed.images]
    else:
        cameras = [_camera(first, config.fov, config.intrinsics, config.pixel_center, None)] * len(frames)
    depths: Sequence[Depth | None] = [None] * len(frames)
    if config.depth is not None:
        files = find_depths(config.depth)
        if len(files) != len(frames):
            raise InputError(f"{config.depth} holds {len(files)} depth maps, but {source} has {len(frames)} frames")
        read = read_depths(
            files,
            unit=config.depth_unit,
            offset=config.depth_offset,
            kind=config.depth_kind,
            invalid=config.depth_invalid,
        )
        depths = [_fit(depth, first) for depth in read]
    views = [
        View(frame, camera, depth, names[index] if names else f"frame {index}")
        for index, (frame, camera, depth) in enumerate(zip(frames, cameras, depths, strict=True))
    ]
    count, moment, fill = len(views), config.moment, config.fill
    return Inputs(
        views, config.cameras is not None, lambda frames: Moments.footage(count, frames, at=moment, fill=fill)
    )


def _read_any(
    path: str, intrinsics: Sequence[float] | None, size: tuple[int, int] | None, center: float = 0.5
) -> PosedImages:
    """Cameras of a file, told what its format has no place for."""
    kind = find_format(path)
    if kind in ("log", "tum", "matrices"):
        return read_cameras(path, intrinsics=intrinsics, size=size, pixel_center=center)
    if kind == "mvsnet":
        return read_cameras(path, size=size, pixel_center=center)
    return read_cameras(path, size=size) if kind == "transforms" else read_cameras(path)


def _chosen(posed: PosedImages, use: Sequence[str | int] | None) -> list[int]:
    """Numbers of the images that are to be views."""
    if use is None:
        return list(range(len(posed)))
    found = []
    for name in map(str, use):
        matches = [
            index for index, known in enumerate(posed.names) if name in (known, Path(known).name, Path(known).stem)
        ]
        if not matches and name.isdecimal() and int(name) < len(posed):
            matches = [int(name)]
        if len(matches) != 1:
            some = ", ".join(posed.names[:4])
            raise InputError(f"use names {name!r}, but the camera file has {len(posed)} images ({some}, ...); name one")
        found += matches
    return found


def _depth_of(config: InputConfig, picture: Path, posed: PosedImages, index: int) -> Path | None:
    """Depth map of an image of a camera file: as asked for, or as the camera file says."""
    if config.depth is not None:
        return find_depth(config.depth, picture)
    name = posed.images[index].depth_name
    return None if name is None or posed.folder is None else posed.folder / name


def _read_depth(config: InputConfig, path: str) -> Depth:
    return read_depth(
        path,
        unit=config.depth_unit,
        offset=config.depth_offset,
        kind=config.depth_kind,
        invalid=config.depth_invalid,
    )


def _shaped(image: Tensor, config: InputConfig) -> Tensor:
    return shape_picture(image, config.resize, config.crop)


def _fit(depth: Depth, image: Tensor) -> Depth:
    return fit_depth(depth, image.shape[2], image.shape[1])


def _straighten(view: View, lens: Lens) -> View:
    """The view as a pinhole camera would have taken it."""
    if lens.is_pinhole:
        return view
    image, inside = undistort(view.image, view.camera, lens)
    depth = view.depth
    if depth is not None:
        values, _ = undistort(depth.values[None], view.camera, lens, mode="nearest")
        valid, _ = undistort(depth.valid[None].float(), view.camera, lens, mode="nearest")
        known = (valid[0] > 0.5) & inside
        depth = Depth(torch.where(known, values[0], 0), known, depth.is_metric)
    return View(image, view.camera, depth, view.name)


def _camera(
    image: Tensor,
    fov: float | None,
    intrinsics: Sequence[float] | None,
    center: float,
    world_to_camera: Tensor | None,
) -> Camera:
    """Camera of a picture from what is known of its lens."""
    if fov is not None and intrinsics is not None:
        raise InputError("both fov and intrinsics were given; give one of them")
    width, height = image.shape[2], image.shape[1]
    if intrinsics is not None:
        return Camera.from_intrinsics(intrinsics, width, height, world_to_camera, center).check()
    return Camera.from_fov(DEFAULT_FOV if fov is None else fov, width, height, world_to_camera).check()


def _intrinsics(camera: Camera) -> list[float]:
    matrix = camera.intrinsics
    return [float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])]
