"""Cameras found again from the frames alone, by COLMAP's structure from motion (the extra ``eval``: pycolmap)."""

import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvguide.errors import ConfigError, InputError
from mvguide.evaluation.camera_error import PathError, path_error
from mvguide.files.images import write_png
from mvguide.geometry.camera import Camera

FEWEST = 3
"""Fewer registered frames than these have no camera error: two centres can be aligned with any other two."""


@dataclass(frozen=True)
class Recovered:
    """What structure from motion found in a video.

    Args:
        frames: frames that were given.
        registered: numbers of those whose camera was found.
        error: errors of these against the true cameras; None where fewer than 3 were found.
    """

    frames: int
    registered: list[int]
    error: PathError | None

    def text(self) -> str:
        """One line for a report."""
        found = f"{len(self.registered)} of {self.frames} frames registered"
        return found if self.error is not None else f"not recovered: {found}"


def recover_cameras(frames: Tensor, cameras: Camera, *, seed: int = 0) -> Recovered:
    """Estimate the cameras of a video from its frames, with the known lens, and compare them with the true ones.

    COLMAP (Schoenberger and Frahm, CVPR 2016): SIFT, exhaustive matching, incremental mapping, focal lengths held at
    the true ones, one thread and a fixed seed. A video in which it finds too few cameras is no error.

    Args:
        frames: ``[F, 3, H, W]`` in [0, 1].
        cameras: F true cameras of the frames' size.
        seed: of its random choices.

    Returns:
        the frames registered, and their camera error where there are at least 3.

    Raises:
        ConfigError: pycolmap is not installed; the sentence says how to install it.
        InputError: counts or sizes that differ.
    """
    colmap = load_pycolmap()
    if len(cameras) != len(frames) or (cameras.height, cameras.width) != tuple(frames.shape[-2:]):
        raise InputError(
            f"{len(frames)} frames of {frames.shape[-1]} x {frames.shape[-2]} need as many cameras of that size, got "
            f"{len(cameras)} of {cameras.width} x {cameras.height}"
        )
    poses = _reconstruct(colmap, frames, cameras, seed)
    registered = sorted(poses)
    if len(registered) < FEWEST:
        return Recovered(len(frames), registered, None)
    estimated = Camera(
        cameras.intrinsics[registered], torch.stack([poses[k] for k in registered]), cameras.width, cameras.height
    )
    return Recovered(len(frames), registered, path_error(estimated, cameras[registered]))


def load_pycolmap() -> Any:
    """The pycolmap package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("pycolmap")
    except ImportError as error:
        raise ConfigError(
            "finding cameras in the frames needs pycolmap, which is not installed; run pip install 'mvguide[eval]'"
        ) from error


def _reconstruct(colmap: Any, frames: Tensor, cameras: Camera, seed: int) -> dict[int, Tensor]:
    """world_to_camera ``[4, 4]`` of every registered frame of the largest model; the world is COLMAP's own."""
    colmap.logging.minloglevel = 3  # its own words say nothing that the count does not
    colmap.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        pictures, database = Path(folder) / "images", Path(folder) / "database.db"
        for index, (frame, camera) in enumerate(zip(frames, cameras.intrinsics.tolist(), strict=True)):
            name = f"{index:05d}.png"
            write_png(pictures / name, frame)
            lens = colmap.ImageReaderOptions()
            lens.camera_model = "PINHOLE"
            lens.camera_params = f"{camera[0][0]:.10g},{camera[1][1]:.10g},{camera[0][2]:.10g},{camera[1][2]:.10g}"
            features = colmap.FeatureExtractionOptions()
            features.use_gpu, features.num_threads = False, 1
            # One by one: each frame may have a lens of its own (a zoom).
            colmap.extract_features(
                database,
                pictures,
                image_names=[name],
                camera_mode=colmap.CameraMode.PER_IMAGE,
                reader_options=lens,
                extraction_options=features,
                device=colmap.Device.cpu,
            )
        matching = colmap.FeatureMatchingOptions()
        matching.use_gpu, matching.num_threads = False, 1
        verification = colmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = seed
        colmap.match_exhaustive(
            database, matching_options=matching, verification_options=verification, device=colmap.Device.cpu
        )
        options = _mapping_options(colmap, len(frames), seed)
        try:
            models = colmap.incremental_mapping(database, pictures, Path(folder) / "models", options)
        except RuntimeError:  # it has nothing to start from
            return {}
        largest = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
        return {} if largest is None else _poses(largest)


def _mapping_options(colmap: Any, frames: int, seed: int) -> Any:
    """Incremental mapping of a short video with a known lens and little parallax."""
    options = colmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = 1, seed
    options.min_model_size = min(FEWEST, frames)
    options.multiple_models = False
    options.extract_colors = False
    options.ba_refine_focal_length = False
    options.ba_refine_extra_params = False
    # Neighbouring frames of one camera move: COLMAP's own 16 degrees, for photo collections, is never reached.
    options.mapper.init_min_tri_angle = 1.0
    options.mapper.init_min_num_inliers = 30
    options.mapper.abs_pose_min_num_inliers = 15
    options.mapper.abs_pose_refine_focal_length = False
    options.mapper.abs_pose_refine_extra_params = False
    options.mapper.filter_min_tri_angle = 0.2
    options.mapper.ba_local_min_tri_angle = 0.5
    options.triangulation.min_angle = 0.2
    options.triangulation.ignore_two_view_tracks = False
    return options


def _poses(model: Any) -> dict[int, Tensor]:
    found = {}
    for image in model.images.values():
        if image.has_pose:
            matrix = torch.eye(4, dtype=torch.float64)
            matrix[:3] = torch.from_numpy(image.cam_from_world().matrix())
            found[int(Path(image.name).stem)] = matrix
    return found
