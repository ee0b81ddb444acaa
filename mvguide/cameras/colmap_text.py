"""The text files of a COLMAP model, read and written; the convention is in `colmap`.

cameras.txt    CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]
images.txt     IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line, maybe empty, of X Y POINT3D_ID ...
points3D.txt   POINT3D_ID X Y Z R G B ERROR (IMAGE_ID FEATURE) ...
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvguide.cameras.colmap_parts import RawCamera, RawImage, RawPoints
from mvguide.cameras.posed import WHAT, quaternions, writable_batch
from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError, OutputError
from mvguide.files.atomic import output_folder
from mvguide.files.text import exact_words, finite_numbers, read_lines, write_lines
from mvguide.geometry.camera import Camera

_ADVICE = "give a COLMAP model as COLMAP writes it"
_GREY = 128
_MOST_EXACT = 2.0**53
_OTHER_MODEL = ("cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin", "rigs.txt", "frames.txt")


def read_cameras_part(path: Path) -> dict[int, RawCamera]:
    """Cameras of a cameras.txt by id. Raises FileError: damaged."""
    cameras = {}
    for number, line in read_lines(path, WHAT, _ADVICE):
        where, words = f"{WHAT} {path}, line {number}", line.split()
        if len(words) < 5:
            raise FileError(f"{where} has {len(words)} words; a camera has CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]")
        width, height, *params = finite_numbers(words[2:], where)
        cameras[_identity(words[0], where)] = RawCamera(words[1], width, height, params)
    return cameras


def read_images_part(path: Path) -> list[RawImage]:
    """Images of an images.txt. Raises FileError: damaged."""
    file = check_readable(path, WHAT)
    images = []
    with decoding(file, WHAT, _ADVICE):
        lines = enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1)
        for number, line in lines:
            if not line.strip() or line.strip().startswith("#"):
                continue
            where, words = f"{WHAT} {path}, line {number}", line.split(maxsplit=9)
            if len(words) != 10:
                raise FileError(f"{where} has {len(words)} words; an image has ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
            numbers = finite_numbers(words[1:8], where)
            # The line after an image is its features' even where it is empty: lines cannot be filtered beforehand.
            _, features = next(lines, (0, ""))
            points = _points_seen(features, f"{WHAT} {path}, line {number + 1}")
            camera_id = _identity(words[8], where)
            images.append(RawImage(words[9].strip(), camera_id, numbers[:4], numbers[4:], points))
    return images


def read_points_part(path: Path) -> RawPoints:
    """Points of a points3D.txt. Raises FileError: damaged."""
    ids, rows = [], []
    for number, line in read_lines(path, WHAT, _ADVICE) if path.stat().st_size else []:
        where, words = f"{WHAT} {path}, line {number}", line.split(maxsplit=8)
        if len(words) < 8:
            raise FileError(f"{where} has {len(words)} words; a point has POINT3D_ID X Y Z R G B ERROR")
        ids.append(_identity(words[0], where))
        rows.append(finite_numbers(words[1:7], where))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    colors = table[:, 3:].clip(0, 255).astype(np.uint8)
    return RawPoints(np.array(ids, dtype=np.int64), np.ascontiguousarray(table[:, :3]), colors)


def write_colmap(
    folder: str | os.PathLike[str],
    cameras: Camera,
    image_names: Sequence[str],
    points: Tensor | None = None,
    colors: Tensor | None = None,
) -> None:
    """Write a COLMAP text model that COLMAP, nerfstudio and gsplat read; `read_colmap` gives the same back to 1e-12.

    Cameras of the same intrinsics share one PINHOLE; points stand without tracks.

    Args:
        folder: gets cameras.txt, images.txt and points3D.txt, and may hold older ones.
        cameras: one camera or a batch [F].
        image_names: F paths of the images, relative to the folder of the images.
        points: [N, 3] of the scene, in the world of the cameras.
        colors: [N, 3], uint8 or floats in [0, 1]; grey without.

    Raises:
        InputError: other counts, names that the format cannot hold, a skew, or values that are not finite.
        OutputError: the folder cannot be written, or holds a binary model, which programs would read instead.
    """
    other = [name for name in _OTHER_MODEL if (Path(folder) / name).exists()]
    if other:
        raise OutputError(
            f"output folder {folder} holds {other[0]} of another COLMAP model, which would mix with the new one; "
            "choose another folder"
        )
    batch = writable_batch(cameras, len(image_names), "image names")
    for name in image_names:
        if str(name).split() != [str(name)]:
            raise InputError(f"image name {str(name)!r} is empty or has blanks, which COLMAP cannot read; rename it")
    matrix = batch.intrinsics
    rows = [
        tuple(row) for row in torch.stack([matrix[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))], 1).tolist()
    ]
    ids = {row: index for index, row in enumerate(dict.fromkeys(rows), start=1)}
    turns = quaternions(batch.world_to_camera[:, :3, :3]).tolist()
    places = batch.world_to_camera[:, :3, 3].tolist()
    images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then X Y POINT3D_ID ..."]
    for index, (turn, place, row, name) in enumerate(zip(turns, places, rows, image_names, strict=True), start=1):
        images += [f"{index} {exact_words(turn)} {exact_words(place)} {ids[row]} {name}", ""]
    size = f"{batch.width} {batch.height}"
    pinholes = [f"{identity} PINHOLE {size} {exact_words(row)}" for row, identity in ids.items()]
    table = _point_lines(points, colors)
    with output_folder(folder) as temporary:
        write_lines(temporary / "cameras.txt", ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", *pinholes])
        write_lines(temporary / "images.txt", images)
        write_lines(temporary / "points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK[]", *table])


def _point_lines(points: Tensor | None, colors: Tensor | None) -> list[str]:
    if points is None:
        if colors is not None:
            raise InputError("colors were given without points; give the points they belong to")
        return []
    places = points.detach().double().cpu()
    if places.ndim != 2 or places.shape[1] != 3 or not bool(torch.isfinite(places).all()):
        raise InputError(f"points have shape {tuple(places.shape)}; they must be finite and of shape (N, 3)")
    shades = torch.full(places.shape, _GREY, dtype=torch.uint8) if colors is None else colors.detach().cpu()
    if shades.shape != places.shape:
        raise InputError(f"colors have shape {tuple(shades.shape)}; for these points it must be {tuple(places.shape)}")
    if shades.is_floating_point():
        if not bool(torch.isfinite(shades).all()):
            raise InputError("colors hold NaN or infinite values; give floats in [0, 1] or uint8")
        shades = (shades * 255).round().clamp(0, 255).byte()
    rows = zip(places.tolist(), shades.tolist(), strict=True)
    return [f"{i} {exact_words(place)} {r} {g} {b} 0" for i, (place, (r, g, b)) in enumerate(rows, start=1)]


def _identity(word: str, where: str) -> int:
    (number,) = finite_numbers([word], where)
    if number != int(number) or not 0 <= number < _MOST_EXACT:
        raise FileError(f"{where} has the id {word[:40]}; it must be a whole number")
    return int(number)


def _points_seen(line: str, where: str) -> np.ndarray:
    """Ids int64 [M] out of X Y POINT3D_ID ...; -1 is a feature without a point."""
    numbers = np.array(line.split(), dtype=np.float64)
    if line.strip().startswith("#") or len(numbers) % 3:
        raise FileError(f"{where} has {len(numbers)} numbers; features are X Y POINT3D_ID, three numbers each")
    ids = numbers[2::3]
    return ids[(ids >= 0) & (ids < _MOST_EXACT)].astype(np.int64)
