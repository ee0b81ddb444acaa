"""Reading views: images with their cameras and depth, straightened, resized and cropped together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mvguide.cameras.posed import PosedImages
from mvguide.config.input_options import CropOptions, DepthFileOptions, LensOptions, ViewOptions
from mvguide.decoding import is_folder
from mvguide.depth.maps import Depth, fit_depth, read_depth
from mvguide.depth.sequence import read_depths
from mvguide.errors import InputError
from mvguide.files.images import read_image_and_alpha
from mvguide.files.video import read_video
from mvguide.geometry.camera import Camera
from mvguide.geometry.lens import Lens, undistort
from mvguide.inputs.background import find_background
from mvguide.inputs.captures import camera_file
from mvguide.inputs.finding import crop_box, find_depth, find_depths, find_pictures, pair
from mvguide.views.view import DEFAULT_FOV, View, resize_image


def read_view(view: ViewOptions, depth: DepthFileOptions, lens: LensOptions, crop: CropOptions) -> View:
    """Read one image; what its own entry does not have is that of all images.

    Args:
        view: the image, and its depth, lens and place where they are its own.
        depth: for its depth file, if `view` has none.
        lens: for its camera, if `view` has neither field of view nor intrinsics.
        crop: resizing and cropping.

    Returns:
        The view; without depth where no file is given.

    Raises:
        FileError: a file that cannot be read.
        InputError: settings that do not go together, or depth of another shape.
    """
    image, alpha = _picture(crop, view.image)
    size = image.shape[2], image.shape[1]
    own = view.fov is not None or view.intrinsics is not None
    fov, intrinsics = (view.fov, view.intrinsics) if own else (lens.fov, lens.intrinsics)
    camera = _camera(size, fov, intrinsics, lens.pixel_center, _world_to_camera(view))
    path = view.depth or (depth.depth and str(find_depth(depth.depth, Path(view.image))))
    found = None if path is None else _depth(depth, path)
    name = Path(view.image).name
    background = find_background(depth.background, image, alpha, found, name)
    return _shape(crop, image, camera, found, name, background)


def read_posed_image(posed: PosedImages, index: int, file: Path, depth: DepthFileOptions, crop: CropOptions) -> View:
    """Read one image of a camera file, straightened where its lens bends it.

    Args:
        posed: what the camera file holds.
        index: of the image in it.
        file: its image.
        depth: for its depth file, if the camera file names none.
        crop: resizing and cropping.

    Returns:
        The view; without depth where no file is given.

    Raises:
        FileError: a file that cannot be read.
        InputError: depth of another shape.
    """
    (image, alpha), one = _picture(crop, file), posed.images[index]
    path: Path | None = None
    if depth.depth is not None:
        path = find_depth(depth.depth, file)
    elif one.depth_name is not None and posed.folder is not None:
        path = posed.folder / one.depth_name
    found = None if path is None else _depth(depth, str(path))
    camera = one.camera.resize(image.shape[2], image.shape[1])
    background = find_background(depth.background, image, alpha, found, file.name)
    return _shape(crop, image, camera, found, file.name, background, one.lens)


def read_footage(
    source: str, depth: DepthFileOptions, lens: LensOptions, crop: CropOptions, cameras: str | None = None
) -> list[View]:
    """Read the frames of a video file or folder, all from one camera, or each from its own of a camera file.

    Args:
        source: video file, or folder of images in the order of their names.
        depth: `depth` is a folder with a depth file for each frame.
        lens: of the camera.
        crop: resizing and cropping.
        cameras: camera file with one camera for each frame; None: one that stands still.

    Returns:
        A view for each frame.

    Raises:
        FileError: a file that cannot be read.
        InputError: frames of unlike sizes, or other counts of cameras or depth files.
    """
    folder = Path(source)
    names = [path.name for path in find_pictures(source)] if is_folder(folder) else []
    pictures: list[tuple[Tensor, Tensor | None]] = [read_image_and_alpha(folder / name) for name in names]
    pictures = pictures or [(frame, None) for frame in read_video(source)]
    frames, alphas = [image for image, _ in pictures], [alpha for _, alpha in pictures]
    if any(frame.shape != frames[0].shape for frame in frames):
        raise InputError(f"images of {source} have unlike sizes; a video's frames have one, bring them to it")
    if crop.already_cropped:
        frames = [_cut(crop, frame) for frame in frames]
        alphas = [None if alpha is None else _cut(crop, alpha) for alpha in alphas]
    size = frames[0].shape[2], frames[0].shape[1]
    own, lenses = [_camera(size, lens.fov, lens.intrinsics, lens.pixel_center, None)] * len(frames), None
    if cameras is not None:
        posed = camera_file(cameras, lens, size)
        if len(posed) != len(frames):
            raise InputError(f"{cameras} has {len(posed)} cameras, but {source} has {len(frames)} frames")
        own = [image.camera.resize(*size) for image in posed.images]
        lenses = [image.lens for image in posed.images]
    depths: Sequence[Depth | None] = [None] * len(frames)
    if depth.depth is not None:
        files = find_depths(depth.depth)
        if len(files) != len(frames):
            raise InputError(f"{depth.depth} holds {len(files)} depth maps, but {source} has {len(frames)} frames")
        depths = read_depths(
            files,
            unit=depth.depth_unit,
            offset=depth.depth_offset,
            kind=depth.depth_kind,
            invalid=depth.depth_invalid,
            baseline=depth.depth_baseline,
            focal=depth.depth_focal,
        )
    names = names or [f"frame {index}" for index in range(len(frames))]
    return [
        _shape(
            crop,
            frame,
            own[index],
            depths[index],
            names[index],
            find_background(depth.background, frame, alphas[index], depths[index], names[index]),
            lenses[index] if lenses else None,
        )
        for index, frame in enumerate(frames)
    ]


def intrinsics_of(camera: Camera) -> list[float]:
    """fx, fy, cx, cy."""
    matrix = camera.intrinsics
    return [float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])]


def _world_to_camera(view: ViewOptions) -> Tensor | None:
    if view.camera_to_world is None:
        return None
    rows = view.camera_to_world
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise InputError(f"camera_to_world of {view.image} is not 4 x 4 numbers; give four rows of four")
    matrix = torch.tensor(rows, dtype=torch.float64)
    try:
        return torch.linalg.inv(matrix)
    except RuntimeError as error:
        raise InputError(
            f"camera_to_world of {view.image} has no inverse; give a rotation and a position, last row 0 0 0 1"
        ) from error


def _picture(crop: CropOptions, path: str | Path) -> tuple[Tensor, Tensor | None]:
    """The image that the cameras are of, and its alpha if it has one."""
    image, alpha = read_image_and_alpha(path)
    if not crop.already_cropped:
        return image, alpha
    return _cut(crop, image), None if alpha is None else _cut(crop, alpha)


def _depth(options: DepthFileOptions, path: str) -> Depth:
    return read_depth(
        path,
        unit=options.depth_unit,
        offset=options.depth_offset,
        kind=options.depth_kind,
        invalid=options.depth_invalid,
        baseline=options.depth_baseline,
        focal=options.depth_focal,
    )


def _shape(
    options: CropOptions,
    image: Tensor,
    camera: Camera,
    depth: Depth | None,
    name: str,
    background: Tensor | None,
    lens: Lens | None = None,
) -> View:
    """A view without lens distortion, resized and cropped as the settings ask."""
    if depth is not None:
        depth = fit_depth(depth, image.shape[2], image.shape[1])
    view = View(image, camera, depth, name, background=background)
    if lens is not None and not lens.is_pinhole:
        view = _straighten(view, lens)
    if options.already_cropped:
        return view
    if options.resize is not None:
        view = view.resize(*pair(options.resize, "resize"))
    if options.crop is not None:
        view = view.crop(*crop_box(options.crop, view.camera.width, view.camera.height))
    return view


def _cut(options: CropOptions, image: Tensor) -> Tensor:
    """The image alone resized and cropped."""
    if options.resize is not None:
        image = resize_image(image, *pair(options.resize, "resize"))
    if options.crop is not None:
        left, top, width, height = crop_box(options.crop, image.shape[2], image.shape[1])
        image = image[:, top : top + height, left : left + width]
    return image


def _straighten(view: View, lens: Lens) -> View:
    """The view as a pinhole camera would have taken it."""
    image, inside = undistort(view.image, view.camera, lens)
    depth = view.depth
    if depth is not None:
        values, _ = undistort(depth.values[None], view.camera, lens, mode="nearest")
        valid, _ = undistort(depth.valid[None].float(), view.camera, lens, mode="nearest")
        known = (valid[0] > 0.5) & inside
        depth = replace(depth, values=torch.where(known, values[0], 0), valid=known)
    background = view.background
    if background is not None:
        flat, _ = undistort(background[None].float(), view.camera, lens, mode="nearest")
        background = (flat[0] > 0.5) & inside
    return View(image, view.camera, depth, view.name, background=background)


def _camera(
    size: tuple[int, int],
    fov: float | None,
    intrinsics: Sequence[float] | None,
    center: float,
    world_to_camera: Tensor | None,
) -> Camera:
    """Camera of an image from its field of view or intrinsics."""
    if fov is not None and intrinsics is not None:
        raise InputError("both fov and intrinsics were given; give one of them")
    if intrinsics is not None:
        return Camera.from_intrinsics(intrinsics, *size, world_to_camera, center).check()
    return Camera.from_fov(DEFAULT_FOV if fov is None else fov, *size, world_to_camera).check()
