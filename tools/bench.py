"""Figures of speed, each against a plain program written here, in one run on one machine.

    make bench        # or: python -m tools.bench search|warp|loop|preview|post --out out/bench.json

Ratios are medians over pairs of runs made in turn, so that a machine whose speed drifts does not favour either side.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvguide.diffusion.schedule import load_sigmas
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import orbit
from mvguide.geometry.warp import splat
from mvguide.guidance.search import V1_GRID, V2_GRID, V3_GRID, search_hypers

WARP_FRAMES = 24


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], runs: int) -> tuple[float, float, float]:
    """Median seconds of each and median of the ratios ours / theirs of pairs, after one uncounted pair."""
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


# --- search_hypers against the triple loop -------------------------------------------------------------------------


def plain_lambda(v1: float, q: float) -> float | None:
    """First admissible root of one cell, as one writes it down from the published rule."""
    k, b = 0.8, -0.2
    for sign in (1, -1):
        a = sign * v1
        square = (2 * k * a + k * q) ** 2 - 4 * k * a * (k * a + b * q)
        if square < 0:
            continue
        for way in (1, -1):
            root = (-(2 * a + k * q) + way * math.sqrt(square)) / (2 * k * a)
            if (sign > 0 and root > 1) or (sign < 0 and 0 < root <= 1):
                return root
    return None


def plain_search(sigmas: list[float], num_frames: int) -> tuple[float, float, float]:
    """The triple loop over the grids, leaving a triple at its first cell without a root."""
    best, best_count = (0.0, 0.0, 0.0), -1
    for v1 in V1_GRID:
        for v2 in V2_GRID:
            for v3 in V3_GRID:
                count = 0
                for sigma in sigmas:
                    for frame in range(1, num_frames):
                        found = plain_lambda(v1, v3 * frame / (num_frames - 1) - v2 * sigma / sigmas[0])
                        if found is None:
                            break
                        count += found / (1 + found) > 0.5
                    else:
                        continue
                    break
                else:
                    if count > best_count:
                        best, best_count = (v1, v2, v3), count
    return best


def bench_search() -> dict[str, Any]:
    schedule = load_sigmas("sigmas_100")
    sigmas = schedule.levels.tolist()
    plain = []

    def run_plain() -> None:
        plain.append(plain_search(sigmas, 25))

    ours = statistics.median(seconds(lambda: search_hypers(schedule, num_frames=25)) for _ in range(20))
    theirs = seconds(run_plain)
    found = search_hypers(schedule, num_frames=25)
    if (found.v1, found.v2, found.v3) != plain[0]:
        raise RuntimeError(f"the two searches disagree: {found} and {plain[0]}")
    return {
        "name": "search_hypers (sigmas_100, 25 frames, released)",
        "baseline": "triple loop in plain Python",
        "ours_s": ours,
        "baseline_s": theirs,
        "ratio": theirs / ours,
        "asked": "at least 500 times faster",
        "reached": theirs / ours >= 500,
    }


# --- splat against np.add.at ---------------------------------------------------------------------------------------


def warp_inputs() -> tuple[torch.Tensor, torch.Tensor, Camera, Camera]:
    """A 1024 x 576 picture over a smooth hill, and an orbit of 24 cameras."""
    height, width = 576, 1024
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    depth = 3 - 1.2 * torch.exp(-6 * (rows**2 + columns**2))
    image = torch.stack([torch.sin(20 * columns), torch.cos(17 * rows), rows * columns]) * 0.5 + 0.5
    camera = Camera.from_fov(60, width, height)
    return image, depth, camera, orbit(camera, WARP_FRAMES + 1, degrees=20, target_depth=2.5)[1:]


def numpy_splat(image: np.ndarray, depth: np.ndarray, source: Camera, target: Camera) -> np.ndarray:
    """Z-buffer with ``np.minimum.at``, then the four corners with ``np.add.at``."""
    channels, height, width = image.shape
    k, k_target = source.intrinsics.numpy(), target.intrinsics.numpy()
    motion = target.world_to_camera.numpy() @ np.linalg.inv(source.world_to_camera.numpy())
    v, u = np.mgrid[0:height, 0:width] + 0.5
    points = np.linalg.inv(k) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)]) * depth.ravel()
    points = k_target @ (motion[:3, :3] @ points + motion[:3, 3:])
    z = points[2]
    x, y = points[0] / z - 0.5, points[1] / z - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    corners = []
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (z > 0)
            corners.append(((row * width + column)[inside], weight[inside], inside))
    front = np.full(height * width, np.inf)
    for index, _, inside in corners:
        np.minimum.at(front, index, z[inside])
    total, colour = np.zeros(height * width), np.zeros((height * width, channels))
    flat = image.reshape(channels, -1).T
    for index, weight, inside in corners:
        weight = weight * (z[inside] <= front[index] * 1.02)
        np.add.at(total, index, weight)
        np.add.at(colour, index, weight[:, None] * flat[inside])
    return (colour / np.maximum(total, 1e-6)[:, None]).T.reshape(channels, height, width)


def bench_warp() -> dict[str, Any]:
    image, depth, camera, targets = warp_inputs()
    array, depth_array = image.numpy(), depth.numpy()

    def theirs() -> np.ndarray:
        return np.stack([numpy_splat(array, depth_array, camera, targets[i]) for i in range(WARP_FRAMES)])

    ours = splat(image, depth, camera, targets)
    seen = ours.visible.expand_as(ours.image) > 0
    difference = float((ours.image - torch.from_numpy(theirs()))[seen].abs().median())
    if difference > 1e-3:
        raise RuntimeError(f"the two splats disagree by {difference:g} in the median")
    ours_s, theirs_s, ratio = alternate(lambda: splat(image, depth, camera, targets), theirs, 3)
    few, many = peak_megabytes(12), peak_megabytes(96)
    return {
        "name": "warp of one 1024 x 576 view into 24 cameras",
        "baseline": "numpy: np.minimum.at z-buffer, np.add.at four corners",
        "ours_s": ours_s,
        "baseline_s": theirs_s,
        "ratio": 1 / ratio,
        "asked": "at least 4 times faster, memory flat in the number of frames",
        "reached": 1 / ratio >= 4 and abs(many - few) < 64,
        "peak_mb_besides_result_12_frames": few,
        "peak_mb_besides_result_96_frames": many,
    }


def peak_megabytes(frames: int) -> float:
    """Peak memory of a fresh process that warps into so many cameras, less the result's own size."""
    code = f"import tools.bench as b; b.WARP_FRAMES = {frames}; b.print_peak()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def print_peak() -> None:
    image, depth, camera, targets = warp_inputs()
    result = splat(image, depth, camera, targets)
    own = sum(t.numel() * t.element_size() for t in (result.image, result.visible, result.depth))
    # Not ru_maxrss, which a process inherits from the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024 - own / 2**20)


# --- the guided loop against the stock pipeline ----------------------------------------------------------------------


def bench_loop() -> dict[str, Any]:
    from PIL import Image

    from mvguide.backbones.base import Conditioning
    from mvguide.guidance.table import LambdaTable
    from mvguide.pipeline import MultiViewPipeline
    from mvguide.scenes import packaged_scene

    pipe = MultiViewPipeline.from_pretrained("tiny", device="cpu")
    backbone: Any = pipe.backbone
    view, cameras = packaged_scene().load(num_frames=8)
    size = backbone.format.default_size(view.camera.width, view.camera.height)
    pixels = (view.fit(*size).image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    schedule = load_sigmas("sigmas_25")
    table = LambdaTable.constant(0.8, schedule, 8)

    def ours() -> None:
        pipe(
            [view],
            cameras,
            schedule=schedule,
            table=table,
            conditioning=Conditioning(8, motion_bucket_id=127, cfg_min=1.0, cfg_max=3.0),
            generator=torch.Generator().manual_seed(0),
        )

    def stock() -> None:
        backbone.pipe(
            picture,
            height=size[1],
            width=size[0],
            num_frames=8,
            sigmas=schedule.sigmas.float().tolist(),
            num_inference_steps=len(schedule),
            generator=torch.Generator().manual_seed(0),
            decode_chunk_size=8,
            output_type="pt",
        )

    ours_s, stock_s, ratio = alternate(ours, stock, 9)
    return {
        "name": "8 frames, 25 steps on the embedded model, blend, from picture to frames",
        "baseline": "stock StableVideoDiffusionPipeline, same modules and sigmas",
        "ours_s": ours_s,
        "baseline_s": stock_s,
        "ratio": ratio,
        "asked": "at most 1.05 times",
        "reached": ratio <= 1.05,
    }


# --- the preview against writing its film ----------------------------------------------------------------------------


def bench_preview() -> dict[str, Any]:
    from mvguide.depth.files import Depth
    from mvguide.files.video import write_video
    from mvguide.preview import preview
    from mvguide.view import View

    image, depth, camera, _ = warp_inputs()
    view = View(image.clamp(0, 1), camera, Depth(depth, torch.ones_like(depth, dtype=torch.bool), True))
    path = orbit(camera, 25, degrees=20, target_depth=2.5)
    frames = preview([view], path, (camera.width, camera.height)).warps.image
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def ours() -> None:
            preview([view], path, (camera.width, camera.height)).save(place / "preview")

        ours_s, theirs_s, ratio = alternate(ours, lambda: write_video(place / "plain.mp4", frames, 7), 3)
    return {
        "name": "preview of one 1024 x 576 view, 25 frames: warps, judgement, film, sheet and plot",
        "baseline": "writing the same 25 frames as mp4",
        "ours_s": ours_s,
        "baseline_s": theirs_s,
        "ratio": ratio,
        "asked": "at most 6 times",
        "reached": ratio <= 6,
    }


# --- a step of the posterior gradient against an unguided one ---------------------------------------------------------


POST_PIXELS = 64
"""Side of the picture that is timed; memory is measured at four times that, where activations outweigh the rest."""
POST_MODES = ("unguided", "unguided, CFG chunked", "post", "post, kept activations", "post, 4 tiles, CFG chunked")


def post_step(mode: str, pixels: int = POST_PIXELS) -> Callable[[], Any]:
    """One step of 8 frames with classifier-free guidance on the embedded network."""
    from mvguide.backbones.base import Conditioning
    from mvguide.backbones.loading import load_backbone
    from mvguide.diffusion.solvers import Step
    from mvguide.guidance.aim import Targets
    from mvguide.guidance.guides import GuidanceSettings, make_guidance
    from mvguide.guidance.table import LambdaTable

    backbone = load_backbone("tiny", device="cpu")
    told = Conditioning(8, motion_bucket_id=50, cfg_min=1.0, cfg_max=3.0, cfg_chunked="chunked" in mode)
    denoiser = backbone.denoiser(backbone.prepare(torch.rand(3, pixels, pixels), told))
    schedule = load_sigmas("sigmas_25")
    x = 20 * torch.randn(backbone.latent_shape(8, pixels, pixels))
    targets = Targets(torch.randn(x.shape[1:]), torch.ones_like(x[0, :, :1]), torch.zeros(8, dtype=torch.bool))
    settings = GuidanceSettings(
        kind="posterior_gradient" if "post" in mode else "none",
        checkpointing="kept" not in mode,
        tiles=4 if "tiles" in mode else 1,
    )
    guide = make_guidance(settings, targets, LambdaTable.constant(0.8, schedule, 8))
    step = Step(11, 25, schedule.sigmas[11], schedule.sigmas[12])

    @torch.no_grad()
    def run() -> None:
        guide(denoiser, x, step)

    return run


def print_post_peak(mode: str) -> None:
    """Megabytes of tensors alive at the peak of a step, besides the model and its inputs.

    Counted by torch's own profiler: a process's memory also holds what its allocator keeps for later.
    """
    run = post_step(mode, 4 * POST_PIXELS)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    recorded = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]")
    print(max(accumulate(size for _, size in changes)) / 2**20)


def bench_post() -> dict[str, Any]:
    def peak(mode: str) -> float:
        code = f"import tools.bench as b; b.print_post_peak({mode!r})"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(run.stdout)

    peaks = {mode: peak(mode) for mode in POST_MODES}
    plain = post_step("unguided")
    ours_s, plain_s, ratio = alternate(post_step("post, kept activations"), plain, 7)
    recomputed = alternate(post_step("post"), plain, 5)[2]
    memory = peaks["post"] / peaks["unguided"]
    return {
        "name": f"a step of posterior_gradient with CFG, 8 frames of {POST_PIXELS} x {POST_PIXELS}, embedded model",
        "baseline": "an unguided step with CFG",
        "ours_s": ours_s,
        "baseline_s": plain_s,
        "ratio": ratio,
        "time_ratio_with_checkpointing": recomputed,
        "memory_ratio_with_checkpointing": memory,
        "asked": "at most 2.6 times the time; with checkpointing at most 1.6 times the peak memory",
        "reached": ratio <= 2.6 and memory <= 1.6,
        **{f"peak_mb_{mode.replace(', ', '_').replace(' ', '_')}": value for mode, value in peaks.items()},
    }


BENCHES = {"search": bench_search, "warp": bench_warp, "loop": bench_loop, "preview": bench_preview, "post": bench_post}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which figures; all by default")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    arguments = parser.parse_args()
    results = []
    for name in arguments.names or BENCHES:
        result = BENCHES[name]()
        results.append(result)
        print(f"{result['name']}\n  against {result['baseline']}")
        print(f"  ours {result['ours_s']:.4g} s, baseline {result['baseline_s']:.4g} s, ratio {result['ratio']:.4g}")
        for key, value in result.items():
            if key.startswith("peak"):
                print(f"  {key.replace('_', ' ')}: {value:.0f}")
            elif key.endswith("_checkpointing"):
                print(f"  {key.replace('_', ' ')}: {value:.2f}")
        print(f"  asked: {result['asked']}: {'reached' if result['reached'] else 'NOT reached'}", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
