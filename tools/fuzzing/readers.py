"""Every reader of mvguide: good files for it, how it is called, and what an accepted value must be like."""

import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mvguide import (
    Camera,
    LambdaTable,
    SigmaSchedule,
    karras_sigmas,
    load_sigmas,
    read_cameras,
    read_depth,
    save_sigmas,
)
from mvguide.backbones import EMBEDDED, load_backbone
from mvguide.backbones.native_size import known_native_size
from mvguide.config.parsing import packaged_scene_files, read_scene_file
from mvguide.diffusion.sampler import LoopState, Progress
from mvguide.diffusion.solvers import DpmPp2M, FirstOrder, Step
from mvguide.evaluation.rendered import read_result
from mvguide.evaluation.report import FORMAT, read_evaluation
from mvguide.files.images import read_image_and_alpha, write_png
from mvguide.files.video import read_video, write_video
from mvguide.pipeline.calibration import Measured
from mvguide.pipeline.checkpoint import Checkpoint, read_checkpoint
from mvguide.pipeline.latents import LATENTS, DenoisedRun, load_latents
from mvguide.pipeline.magnitudes import load_magnitudes, save_magnitudes
from mvguide.scenes import packaged_scene
from mvguide.views.warps import warp_views
from tests.cameras.camera_cases import GIVEN, some_cameras, write_all
from tests.depth.test_maps import encoded as write_depths
from tests.files.test_images import ENCODED

_SCHEDULE = SigmaSchedule(karras_sigmas(6, 0.02, 80.0))
MOST_PIXELS = 10**6
"""More than any sample has, and any sample whose size was changed in place: no file here holds so many."""


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        read: takes the path that `target` names.
        samples: folder of good files, made once.
        files: names, in that folder, of the files to damage; one in each case.
        target: what to read when a file was damaged: the file itself, or a folder around it.
        check: raises AssertionError for an accepted value that makes no sense.
        share: of all cases, in parts.
        seconds: that one case may take.
        most_bytes: that one case may take. No sample is larger than 10 MB: a reader that takes more was told so by a
            damaged number.
    """

    read: Callable[[Path], Any]
    samples: Path
    files: list[str]
    target: Callable[[Path], Path]
    check: Callable[[Any], None]
    share: float
    seconds: float = 5
    most_bytes: int = 256 * 2**20


def make_readers(folder: Path) -> dict[str, Reader]:
    """All readers, with their samples written below a folder."""
    readers = {}
    for name, make in _MAKERS.items():
        place = folder / name
        place.mkdir()
        readers[name] = make(place)
    return readers


def _names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def _cameras(folder: Path) -> Reader:
    paths = write_all(folder)
    target = {str(path.relative_to(folder)): path.parent if "colmap" in case else path for case, path in paths.items()}

    def read(path: Path) -> Any:
        try:
            return read_cameras(path, **GIVEN)
        except ValueError as error:  # options that the format does not take: that is no fault of the file
            if "takes no" not in str(error):
                raise
        return read_cameras(path)

    return Reader(
        read,
        folder,
        list(target),
        lambda path: path.parent if path.parent.name in ("text", "binary") else path,
        _check_cameras,
        share=30,
    )


def _check_cameras(found: Any) -> None:
    assert len(found) >= 1
    for image in found.images:
        camera = image.camera
        assert 1 <= camera.width <= 10**6
        assert 1 <= camera.height <= 10**6
        _finite(camera.intrinsics, camera.world_to_camera)
        turn = camera.world_to_camera[..., :3, :3]
        assert float((turn @ turn.mT - torch.eye(3, dtype=turn.dtype)).abs().max()) < 0.01, "a rotation"
        assert all(math.isfinite(value) for value in vars(image.lens).values())
        assert len(image.name) < 10_000
    for points in (found.points, found.bounds, *(found.tracks or [])):
        if points is not None:
            _finite(points)
            assert points.ndim == 2
    assert found.tracks is None or len(found.tracks) == len(found.images)


def _depths(folder: Path) -> Reader:
    write_depths(folder)
    try:
        import OpenEXR

        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"Z": np.ones((6, 8), np.float32)}).write(str(folder / "a.exr"))
    except ImportError:
        pass
    return Reader(lambda path: read_depth(path, kind="depth"), folder, _names(folder), _itself, _check_depth, share=20)


def _check_depth(found: Any) -> None:
    assert found.values.dtype == torch.float32
    assert found.values.shape == found.valid.shape
    assert found.values.ndim == 2
    assert 1 <= found.values.numel() <= MOST_PIXELS
    _finite(found.values)
    assert bool((found.values[found.valid] > 0).all())
    assert bool((found.values[~found.valid] == 0).all())


def _pictures(folder: Path) -> Reader:
    for index, data in enumerate(ENCODED):
        (folder / f"{index}.png").write_bytes(data)
    for index, suffix in enumerate(("bmp", "ppm", "jp2", "avif")):
        buffer = io.BytesIO()
        shades = np.random.default_rng(index).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(shades).save(buffer, Image.registered_extensions()[f".{suffix}"])
        (folder / f"a.{suffix}").write_bytes(buffer.getvalue())
    return Reader(read_image_and_alpha, folder, _names(folder), _itself, _check_picture, share=20)


def _check_picture(found: Any) -> None:
    image, alpha = found
    for values, channels in ((image, 3), (alpha, 1)):
        if values is not None:
            assert values.dtype == torch.float32
            assert values.shape == (channels, *image.shape[1:])
            assert 1 <= values.numel() <= 3 * MOST_PIXELS
            assert 0 <= float(values.min()) <= float(values.max()) <= 1


def _videos(folder: Path) -> Reader:
    frames = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for suffix in ("mp4", "mkv"):
        write_video(folder / f"a.{suffix}", frames, 8)
    shades = [Image.new("L", (16, 16), shade) for shade in (0, 120, 240)]
    shades[0].save(folder / "a.gif", save_all=True, append_images=shades[1:], duration=50)
    return Reader(lambda path: read_video(path, max_frames=20), folder, _names(folder), _itself, _check_video, share=6)


def _check_video(found: Any) -> None:
    assert found.ndim == 4
    assert found.shape[1] == 3
    assert 1 <= len(found) <= 20
    assert found.numel() <= 60 * MOST_PIXELS
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def _scenes(folder: Path) -> Reader:
    for path in packaged_scene_files().values():
        shutil.copy(path, folder)
    return Reader(read_scene_file, folder, _names(folder), _itself, _check_scene, share=5)


def _check_scene(found: Any) -> None:
    assert len(repr(found)) < 10**6


def _tables(folder: Path) -> Reader:
    LambdaTable.constant(0.5, _SCHEDULE, 5).save(folder / "table.npz")
    return Reader(LambdaTable.load, folder, ["table.npz"], _itself, _check_table, share=6)


def _check_table(found: Any) -> None:
    assert found.weights.shape[0] == len(found.sigmas)
    assert found.weights.numel() <= 10**5
    assert 0 <= float(found.weights.min()) <= float(found.weights.max()) <= 1
    _check_decreasing(found.sigmas)


def _sigmas(folder: Path) -> Reader:
    save_sigmas(folder / "sigmas.npy", _SCHEDULE)
    return Reader(load_sigmas, folder, ["sigmas.npy"], _itself, _check_sigmas, share=6)


def _check_sigmas(found: Any) -> None:
    assert len(found) >= 1
    assert float(found.sigmas[-1]) == 0
    _check_decreasing(found.levels)


def _check_decreasing(sigmas: torch.Tensor) -> None:
    _finite(sigmas)
    assert bool((sigmas > 0).all())
    assert bool((sigmas.diff() < 0).all())


def _calibrations(folder: Path) -> Reader:
    frames = torch.linspace(0.1, 0.4, 5, dtype=torch.float64)
    levels = torch.tensor([0.7, 0.15], dtype=torch.float64)
    errors = Measured(levels, frames.repeat(2, 1) * 0.1, frames.repeat(2, 1), frames, frames, frames)
    errors.save(folder / "calibration.npz", "key")
    return Reader(Measured.load, folder, ["calibration.npz"], _itself, _check_calibration, share=6)


def _check_calibration(found: Any) -> None:
    measured, key = found
    assert len(key) < 10**5
    table = measured.table(_SCHEDULE)
    assert 0 <= float(table.weights.min()) <= float(table.weights.max()) <= 1


def _magnitudes(folder: Path) -> Reader:
    measured = {part: torch.linspace(0.9, 1.1, 25, dtype=torch.float64) for part in ("transformer", "transformer_2")}
    save_magnitudes(folder / "magnitudes.npz", measured, "model")
    return Reader(load_magnitudes, folder, ["magnitudes.npz"], _itself, _check_magnitudes, share=6)


def _check_magnitudes(found: Any) -> None:
    magnitudes, model = found
    assert len(model) < 10**5
    assert all(values.dim() == 1 and bool((values > 0).all()) for values in magnitudes.values())


def _checkpoints(folder: Path) -> Reader:
    x = _noise()
    step = Step(6, 25, torch.tensor(2.0), torch.tensor(1.0))
    state = LoopState(7, x, (x + 1, torch.tensor(0.5)), torch.Generator().get_state())
    for name, solver in (("euler", FirstOrder()), ("dpmpp_2m", DpmPp2M())):
        checkpoint = Checkpoint(folder / f"{name}.safetensors")
        checkpoint.write(Progress(step, state, x), {"steps": 25, "seed": 0}, solver)
    return Reader(read_checkpoint, folder, _names(folder), _itself, _check_checkpoint, share=6)


def _check_checkpoint(found: Any) -> None:
    assert (found.index, found.num_steps, found.settings) == (7, 25, {"steps": 25, "seed": 0})
    assert torch.equal(found.x, _noise()), "what was written, to the last bit"


def _noise() -> torch.Tensor:
    return torch.randn(1, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def _latents(folder: Path) -> Reader:
    view, path = packaged_scene("corner").load(2)
    small, path = view.resize(16, 16), path.resize(16, 16)
    run = DenoisedRun(
        warps=warp_views([small], path),
        views=[small],
        trajectory=path,
        schedule=_SCHEDULE,
        table=LambdaTable.constant(0.5, _SCHEDULE, 2),
        latents=torch.randn(1, 2, 4, 4, 4),
        settings={"model": "tiny", "conditioning": {"fps": 7}},
        seconds={"denoise": 1.5},
    )
    run.save_latents(folder / LATENTS, {"seed": 0})
    return Reader(load_latents, folder, [LATENTS], _itself, _check_latents, share=6)


def _check_latents(found: Any) -> None:
    run, command = found
    assert len(run.warps.image) == len(run.trajectory) == len(run.warps.seen) == run.warps.shares.shape[1]
    assert 1 <= run.settings["conditioning"]["fps"] <= 1000
    assert len(repr(command)) < 10**6
    assert run.view.image.shape == run.warps.image.shape[1:]
    run.view.require_depth()


def _results(folder: Path) -> Reader:
    from mvguide.cameras.transforms import write_transforms

    cameras = Camera(Camera.from_intrinsics((20, 20, 8, 6), 16, 12).intrinsics, some_cameras(2).world_to_camera, 16, 12)
    for part in ("images", "masks", "warps"):
        for index in range(2):
            write_png(folder / part / f"{index:04d}.png", torch.rand(3, 12, 16))
    write_transforms(folder / "transforms.json", cameras, ["images/0000.png", "images/0001.png"])
    report = {"settings": {"model": "tiny", "steps": 4}, "pinned": [0], "seconds": {"a": 1.5}, "table": "x"}
    (folder / "report.json").write_text(json.dumps(report))
    return Reader(read_result, folder, _names(folder), _root("report.json"), _check_result, share=6)


def _check_result(found: Any) -> None:
    assert len(found.frames) == len(found.visible) == len(found.cameras) == len(found.pinned) == len(found.names)
    _finite(found.frames, found.visible, found.cameras.intrinsics, found.cameras.world_to_camera)


def _evaluations(folder: Path) -> Reader:
    rows = {"result": {"psnr whole": 20.5, "ssim whole": 0.7}, "truth": {}}
    document = {"format": FORMAT, "result": "out", "truth": "x", "size": [8, 8], "frames": [0, 1], "given": [0]}
    (folder / "evaluation.json").write_text(json.dumps(document | {"settings": {}, "rows": rows, "notes": []}))
    return Reader(read_evaluation, folder, ["evaluation.json"], lambda path: path.parent, _check_evaluation, share=4)


def _check_evaluation(found: Any) -> None:
    assert all(type(number) is int and number >= 0 for number in found["frames"])
    assert isinstance(found["rows"]["result"], dict)


def _model_sizes(folder: Path) -> Reader:
    for part in ("unet", "vae"):
        (folder / part).mkdir()
        shutil.copy(EMBEDDED["tiny"] / part / "config.json", folder / part)
    return Reader(known_native_size, folder, _names(folder), lambda path: path.parent.parent, _check_size, share=6)


def _check_size(found: Any) -> None:
    assert 1 <= found.frames <= 1024
    width, height = found.default_size(640, 480)
    assert 1 <= width * height <= (4096 * 128) ** 2


def _models(folder: Path) -> Reader:
    shutil.copytree(EMBEDDED["tiny"], folder, dirs_exist_ok=True)
    files = [name for name in _names(folder) if name.endswith((".json", ".safetensors"))]
    # A config without its numbers means those of the libraries: a network of 350 MB.
    return Reader(
        lambda path: load_backbone(path, device="cpu"),
        folder,
        files,
        _root("model_index.json"),
        _check_model,
        share=0.5,
        seconds=30,
        most_bytes=2**30,
    )


def _check_model(found: Any) -> None:
    _check_size(found.native_size)
    notes = [found.notes.motion_bucket_per_width, *(found.notes.hypers or ()), *(found.notes.guidance_scale or ())]
    assert all(math.isfinite(value) for value in notes if value is not None)
    assert not any(parameter.is_meta for parameter in found.pipe.unet.parameters())


def _itself(path: Path) -> Path:
    return path


def _root(name: str) -> Callable[[Path], Path]:
    """The folder above a file that has a file of that name."""
    return lambda path: next((parent for parent in path.parents if (parent / name).exists()), path.parent)


def _finite(*tensors: torch.Tensor) -> None:
    for tensor in tensors:
        assert bool(torch.isfinite(tensor).all()), "finite"


_MAKERS: dict[str, Callable[[Path], Reader]] = {
    "cameras": _cameras,
    "depths": _depths,
    "pictures": _pictures,
    "videos": _videos,
    "scenes": _scenes,
    "tables": _tables,
    "sigmas": _sigmas,
    "calibrations": _calibrations,
    "magnitudes": _magnitudes,
    "checkpoints": _checkpoints,
    "latents": _latents,
    "results": _results,
    "evaluations": _evaluations,
    "model sizes": _model_sizes,
    "models": _models,
}
