"""From settings to views: one picture, several posed ones, the pictures of a camera file, or a video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mvguide.config import InputConfig, TrajectoryConfig, ViewConfig
from mvguide.depth.files import Depth, fit_depth, read_depth
from mvguide.errors import FileError, InputError
from mvguide.files.cameras import read_cameras
from mvguide.files.images import IMAGE_SUFFIXES, read_image
from mvguide.files.posed import PosedImages
from mvguide.files.video import read_video
from mvguide.geometry.camera import Camera
from mvguide.geometry.keyframes import resample, start_at, through
from mvguide.geometry.lens import Lens, undistort
from mvguide.geometry.trajectory import make_trajectory
from mvguide.moments import Moments
from mvguide.view import DEFAULT_FOV, View

_SOURCES = ("image", "views", "cameras", "video")
_DEPTH_SUFFIXES = (".npy", ".npz", ".pfm", ".png", ".tif", ".tiff", ".exr")


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
                return first.camera[None].repeat(num_frames)
            cameras = [view.camera.resize(first.camera.width, first.camera.height) for view in self.views]
            if len(cameras) < 2:
                raise InputError("trajectory.kind 'views' runs through the views, but there is one; give more, or orbit")
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
            raise InputError(f"camera_to_world of {view.image} has shape {tuple(matrix.shape)}; it must be 4 x 4 numbers")
        matrix = torch.linalg.inv(matrix)
    image = _shape_picture(read_image(view.image), config)
    own = view.fov is not None or view.intrinsics is not None
    camera = _camera(
        image,
        view.fov if own else config.fov,
        view.intrinsics if own else config.intrinsics,
        config.pixel_center,
        matrix,
    )
    path = view.depth or (config.depth and str(_depth_file(config.depth, Path(view.image))))
    depth = None if path is None else _fit(_read_depth(config, path), image)
    return View(image, camera, depth, Path(view.image).name)


def _read_posed(config: InputConfig, source: str) -> Inputs:
    """Pictures of a camera file."""
    pictures = None if config.images is None else _pictures(config.images)
    size = None if config.camera_size is None else _pair(config.camera_size, "camera_size")
    if size is None and pictures:
        image = _shape_picture(read_image(pictures[0]), config)
        size = image.shape[2], image.shape[1]
    posed = _read_any(source, config.intrinsics, size, config.pixel_center)
    views = []
    for index in _chosen(posed, config.use):
        file = pictures[index] if pictures and index < len(pictures) else posed.picture(index)
        image = _shape_picture(read_image(file), config)
        one = posed.images[index]
        camera = one.camera.resize(image.shape[2], image.shape[1])
        path = _depth_of(config, file, posed, index)
        depth = None if path is None else _fit(_read_depth(config, str(path)), image)
        views.append(_straighten(View(image, camera, depth, file.name), one.lens))
    return Inputs(views, posed=True)


def _read_video(config: InputConfig, source: str) -> Inputs:
    """Frames of a film or folder, all from one camera, or each from its own."""
    folder = Path(source)
    names = [path.name for path in _pictures(source)] if folder.is_dir() else []
    frames = [read_image(folder / name) for name in names] if names else list(read_video(source))
    frames = [_shape_picture(frame, config) for frame in frames]
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
        files = _depth_files(config.depth)
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
    """Cameras of a file, told intrinsics and size where its format has none."""
    try:
        return read_cameras(path)
    except InputError as error:
        if isinstance(error, FileError):
            raise
    try:
        return read_cameras(path, size=size)
    except InputError as error:
        if isinstance(error, FileError):
            raise
    return read_cameras(path, intrinsics=intrinsics, size=size, pixel_center=center)


def _chosen(posed: PosedImages, use: Sequence[str] | None) -> list[int]:
    """Numbers of the images that are to be views."""
    if use is None:
        return list(range(len(posed)))
    found = []
    for name in use:
        matches = [index for index, known in enumerate(posed.names) if name in (known, Path(known).name, Path(known).stem)]
        if not matches and name.isdecimal() and int(name) < len(posed):
            matches = [int(name)]
        if len(matches) != 1:
            some = ", ".join(posed.names[:4])
            raise InputError(f"use names {name!r}, but the camera file has {len(posed)} images ({some}, ...); name one")
        found += matches
    return found


def _pictures(folder: str) -> list[Path]:
    """Pictures of a folder, sorted by name."""
    place = Path(folder)
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES) if place.is_dir() else []
    if not found:
        raise FileError(f"folder {folder} holds no pictures; give the folder that does")
    return found


def _depth_of(config: InputConfig, picture: Path, posed: PosedImages, index: int) -> Path | None:
    """Depth map of an image of a camera file: as asked for, or as the camera file says."""
    if config.depth is not None:
        return _depth_file(config.depth, picture)
    name = posed.images[index].depth_name
    return None if name is None or posed.folder is None else posed.folder / name


def _depth_file(given: str, picture: Path) -> Path:
    """The depth map of a picture: the file itself, a pattern with {stem}, or the one in a folder with its stem."""
    stem = picture.name.split(".")[0]
    if "{stem}" in given:
        return Path(given.replace("{stem}", stem))
    place = Path(given)
    if not place.is_dir():
        return place
    found = [path for path in _depth_files(given) if path.name.split(".")[0] == stem and path != picture]
    if len(found) > 1:
        found = [path for path in found if "depth" in path.name] or found
    if len(found) != 1:
        raise FileError(
            f"folder {given} holds {len(found)} depth maps for {picture.name}; give the path with {{stem}} in place of "
            f"{stem!r}"
        )
    return found[0]


def _depth_files(folder: str) -> list[Path]:
    place = Path(folder)
    if not place.is_dir():
        raise FileError(f"{folder} is not a folder; several pictures need one with a depth map for each")
    return sorted(path for path in place.iterdir() if path.suffix.lower() in _DEPTH_SUFFIXES)


def _read_depth(config: InputConfig, path: str) -> Depth:
    return read_depth(
        path,
        unit=config.depth_unit,
        offset=config.depth_offset,
        kind=config.depth_kind,
        invalid=config.depth_invalid,
    )


def _fit(depth: Depth, image: Tensor) -> Depth:
    return fit_depth(depth, image.shape[2], image.shape[1])


def _shape_picture(image: Tensor, config: InputConfig) -> Tensor:
    """A picture resized and cut as asked."""
    if config.resize is not None:
        width, height = _pair(config.resize, "resize")
        image = torch.nn.functional.interpolate(image[None], (height, width), mode="area")[0]
    if config.crop is not None:
        if len(config.crop) != 4 or min(config.crop) < 0:
            raise InputError(f"crop is {config.crop}; give [left, top, width, height] in pixels")
        left, top, width, height = config.crop
        if left + width > image.shape[2] or top + height > image.shape[1]:
            raise InputError(f"crop {config.crop} reaches beyond the picture of {image.shape[2]} x {image.shape[1]}")
        image = image[:, top : top + height, left : left + width]
    return image


def _pair(values: Sequence[int], name: str) -> tuple[int, int]:
    if len(values) != 2 or min(values) < 1:
        raise InputError(f"{name} is {list(values)}; give [width, height] in pixels")
    return values[0], values[1]


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
