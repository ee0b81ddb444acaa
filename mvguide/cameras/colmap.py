"""COLMAP's sparse models, text or binary.

Convention of the files: a quaternion (w, x, y, z) and a translation are world_to_camera with OpenCV axes (x right,
y down, z forward); intrinsics are in pixels with the first pixel's centre at (0.5, 0.5). All of it is mvguide's own
convention: nothing changes on the way. (https://colmap.github.io/format.html)

`colmap_text` and `colmap_binary` take the files apart, this one puts cameras together; `write_colmap` is in
`colmap_text`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvguide.cameras import colmap_binary, colmap_text
from mvguide.cameras.colmap_parts import RawCamera, RawImage, RawPoints
from mvguide.cameras.posed import WHAT, PosedImage, PosedImages, posed_camera, rotation_matrix, whole_pixels
from mvguide.decoding import is_file, is_folder
from mvguide.errors import FileError
from mvguide.geometry.lens import Lens

_PLACES = ("", "sparse/0", "sparse", "colmap/sparse/0")
_PARTS = {".bin": colmap_binary, ".txt": colmap_text}
COLMAP_FILES = tuple(f"{part}{suffix}" for part in ("cameras", "images", "points3D") for suffix in _PARTS)
"""Names of the files of a model."""


@dataclass(frozen=True)
class _Model:
    """Where a camera model keeps fx, fy, cx, cy among its parameters, and which lens numbers follow."""

    places: tuple[int, int, int, int]
    lens: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return max(self.places) + 1 + len(self.lens)


_ONE_FOCAL, _TWO_FOCALS = (0, 0, 1, 2), (0, 1, 2, 3)
_MODELS = {
    "SIMPLE_PINHOLE": _Model(_ONE_FOCAL),
    "PINHOLE": _Model(_TWO_FOCALS),
    "SIMPLE_RADIAL": _Model(_ONE_FOCAL, ("k1",)),
    "RADIAL": _Model(_ONE_FOCAL, ("k1", "k2")),
    "OPENCV": _Model(_TWO_FOCALS, ("k1", "k2", "p1", "p2")),
}


def find_colmap(path: str | os.PathLike[str]) -> Path | None:
    """The folder of a COLMAP model at or below a path (itself, sparse/0, sparse), or None where there is none."""
    folder = Path(path)
    folder = folder.parent if is_file(folder) else folder
    for place in _PLACES:
        for suffix in _PARTS:
            if all(is_file(folder / place / f"{part}{suffix}") for part in ("cameras", "images")):
                return folder / place
    return None


def read_colmap(path: str | os.PathLike[str]) -> PosedImages:
    """Read a COLMAP model; the images come sorted by name, for COLMAP's own order has no meaning.

    Args:
        path: the folder with cameras, images and, maybe, points3D as .bin or .txt (.bin is preferred), one of these
            files, or a folder that holds it as sparse/0 or sparse.

    Returns:
        The images with their lens, the sparse points, and for each image those that it sees. `folder` is the folder
        `images` beside the model. `extra` has `point_colors`, uint8 [N, 3], where there are points.

    Raises:
        FileError: nothing there, damaged, no images, a camera model that is neither a pinhole nor radial-tangential.
    """
    folder = find_colmap(path)
    if folder is None:
        raise FileError(
            f"{WHAT} {path} is no COLMAP model: cameras and images (.bin or .txt) are neither in it nor in sparse/0; "
            "give the folder of the model"
        )
    suffix = next(suffix for suffix in _PARTS if is_file(folder / f"cameras{suffix}"))
    parts, images_file = _PARTS[suffix], folder / f"images{suffix}"
    cameras = parts.read_cameras_part(folder / f"cameras{suffix}")
    raw_images = sorted(parts.read_images_part(images_file), key=lambda image: image.name)
    points_file = folder / f"points3D{suffix}"
    points = parts.read_points_part(points_file) if is_file(points_file) else RawPoints.none()
    if not raw_images:
        raise FileError(f"{WHAT} {images_file} has no images; give a model with registered images")
    posed = [_posed(raw, cameras, images_file) for raw in raw_images]
    places = folder.absolute(), folder.absolute().parent, folder.absolute().parent.parent
    pictures = next((place / "images" for place in places if is_folder(place / "images")), places[0] / "images")
    if len(points.ids) == 0:
        return PosedImages(posed, folder=pictures)
    xyz = torch.from_numpy(points.xyz)
    return PosedImages(
        posed,
        points=xyz,
        tracks=_tracks(raw_images, points, xyz),
        folder=pictures,
        extra={"point_colors": torch.from_numpy(points.colors)},
    )


def _posed(raw: RawImage, cameras: dict[int, RawCamera], file: Path) -> PosedImage:
    where = f"{WHAT} {file}, image {raw.name!r}"
    if raw.camera_id not in cameras:
        raise FileError(f"{where} has camera {raw.camera_id}, which the cameras file does not hold; write both again")
    camera = cameras[raw.camera_id]
    model = _MODELS.get(camera.model)
    if model is None:
        raise FileError(
            f"{where} has the COLMAP camera model {camera.model}; it can be one of {', '.join(_MODELS)}, "
            "for others undistort the images with COLMAP's image_undistorter first"
        )
    if len(camera.params) != model.count:
        raise FileError(f"{where} has {len(camera.params)} camera parameters; {camera.model} has {model.count}")
    if not np.isfinite(camera.params).all():
        raise FileError(f"{where} has camera parameters that are not finite; write the cameras file again")
    try:
        size = whole_pixels(camera.width), whole_pixels(camera.height)
    except (ValueError, OverflowError) as error:
        raise FileError(f"{where} has a camera of {camera.width} x {camera.height}: {error}") from error
    intrinsics = [camera.params[place] for place in model.places]
    lens = dict(zip(model.lens, camera.params[max(model.places) + 1 :], strict=True))
    matrix = np.column_stack([rotation_matrix(raw.quaternion, where), raw.translation])
    return PosedImage(raw.name, posed_camera(matrix, "world_to_camera", intrinsics, size, where), Lens(**lens))


def _tracks(images: list[RawImage], points: RawPoints, xyz: Tensor) -> list[Tensor] | None:
    """For each image the points that it sees; None for a model without them."""
    order = np.argsort(points.ids, kind="stable")
    sorted_ids = points.ids[order]
    tracks = []
    for image in images:
        wanted = np.unique(image.point_ids)
        places = np.searchsorted(sorted_ids, wanted)
        found = places[sorted_ids[np.minimum(places, len(sorted_ids) - 1)] == wanted]
        tracks.append(xyz[torch.from_numpy(order[found])])
    return tracks if any(len(track) for track in tracks) else None
