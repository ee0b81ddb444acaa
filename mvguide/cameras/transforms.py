"""Cameras as nerfstudio's `transforms.json`, read and written.

Convention of the file: `transform_matrix` is camera_to_world with OpenGL axes (x right, y up, z backward);
`fl_x fl_y cx cy` are in pixels with the first pixel's centre at (0.5, 0.5), as everywhere in mvguide. Between the file
and a `Camera` only the axes change, in `flip_axes` and nowhere else. `transforms_frames` takes the file apart.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mvguide.cameras.posed import writable_batch
from mvguide.cameras.transforms_frames import INTRINSICS, RESERVED, flip_axes, read_posed_transforms
from mvguide.errors import FileError, InputError
from mvguide.files.atomic import atomic_path
from mvguide.geometry.camera import Camera

_FRAME_RESERVED = ("file_path", "transform_matrix")


@dataclass(frozen=True)
class Transforms:
    """What a `transforms.json` holds."""

    cameras: Camera
    """A batch of F cameras, float64."""
    image_names: list[str]
    """F paths of images as the file writes them: relative to its folder, in NeRF's own scenes without the suffix."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other entries at the top of the file."""


def write_transforms(
    path: str | os.PathLike[str],
    cameras: Camera,
    image_names: Sequence[str],
    extra: Mapping[str, Any] | None = None,
    frame_extra: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write cameras so that nerfstudio and gsplat read them; `read_transforms` gives the same back to 1e-12.

    Intrinsics stand once at the top where all cameras share them, and in each frame where they differ (a zoom).

    Args:
        path: the file, best named transforms.json; missing folders are made.
        cameras: one camera or a batch [F].
        image_names: F paths of the images, relative to the file's folder.
        extra: more entries for the top of the file, JSON types; nerfstudio ignores those that it does not know.
        frame_extra: F more entries, one for each frame: `mask_path`, `depth_file_path`, ...

    Raises:
        InputError: other counts, a skew (the format has none), cameras that are not finite, or an extra entry under a
            name that the format uses.
        OutputError: the file cannot be written.
    """
    batch = writable_batch(cameras, len(image_names), "image names")
    more = [{}] * len(batch) if frame_extra is None else list(frame_extra)
    if len(more) != len(batch):
        raise InputError(f"frame_extra of {path} has {len(more)} entries for {len(batch)} cameras; give one for each")
    clash = sorted((set(extra or {}) | {key for entries in more for key in entries}) & {*RESERVED, *_FRAME_RESERVED})
    if clash:
        raise InputError(f"extra entries {', '.join(clash)} of {path} are part of the format; rename them")
    intrinsics = [(k[0][0], k[1][1], k[0][2], k[1][2]) for k in batch.intrinsics.tolist()]
    poses = flip_axes(batch.camera_to_world).tolist()
    shared = all(row == intrinsics[0] for row in intrinsics)
    top: dict[str, Any] = {"camera_model": "OPENCV", "w": batch.width, "h": batch.height}
    if shared:
        top |= dict(zip(INTRINSICS, intrinsics[0], strict=True))
    frames = [
        {"file_path": str(name)}
        | ({} if shared else dict(zip(INTRINSICS, row, strict=True)))
        | {"transform_matrix": pose}
        | dict(entries)
        for name, row, pose, entries in zip(image_names, intrinsics, poses, more, strict=True)
    ]
    try:
        text = json.dumps(top | dict(extra or {}) | {"frames": frames}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"extra entries of {path} cannot be written as JSON ({error})") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_transforms(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Transforms:
    """Read a `transforms.json` as one batch of pinhole cameras; `read_posed_transforms` takes lenses and unlike sizes.

    Args:
        path: the file, of nerfstudio or of NeRF's own scenes (`camera_angle_x`).
        size: width and height of the images where the file does not have them; None: those of the first image that
            is there.

    Returns:
        Cameras of one size, names and other entries.

    Raises:
        FileError: missing, damaged or incomplete; a lens with distortion or no pinhole; images of unlike sizes; a
            singular, reflected or non-rigid matrix.
    """
    posed = read_posed_transforms(path, size=size)
    for index, image in enumerate(posed.images):
        bent = [entry.name for entry in fields(image.lens) if getattr(image.lens, entry.name)]
        if bent:
            raise FileError(
                f"camera file {path}, frame {index} has lens distortion ({', '.join(bent)}); "
                "undistort its images first and set it to 0"
            )
    sizes = sorted({(image.camera.width, image.camera.height) for image in posed.images})
    if len(sizes) > 1:
        listed = ", ".join(f"{w} x {h}" for w, h in sizes)
        raise FileError(f"camera file {path} has images of unlike sizes ({listed}); resize them to one size first")
    return Transforms(posed.trajectory(), posed.names, posed.extra)
