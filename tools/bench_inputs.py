"""Figures on real images, through the readers and the public API: warps, merged views, plane sweeps, alignment.

    python -m tools.bench_inputs --data ../shared/data

The folder holds redwood_rgbd, 7scenes_rgbd, nerf_lego and nvs_dtu_scan1, each in its source's own layout.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mvguide.config.input_options import InputConfig
from mvguide.depth.align import align_to_points
from mvguide.depth.kind import disparity_to_depth
from mvguide.depth.maps import Depth
from mvguide.depth.plane_sweep import plane_sweep
from mvguide.evaluation.metrics import psnr
from mvguide.geometry.camera import stack
from mvguide.inputs.loading import load_inputs
from mvguide.views.view import View
from mvguide.views.warps import Warps, warp_views

AGREE = 0.05
"""A pixel is seen by both where the depth of the warp is within this share of the target's own."""


def captures(data: Path) -> dict[str, InputConfig]:
    """How each capture is read; nothing is corrected by hand."""
    return {
        "redwood": InputConfig(
            cameras=str(data / "redwood_rgbd" / "trajectory.log"),
            images=str(data / "redwood_rgbd" / "color"),
            depth=str(data / "redwood_rgbd" / "depth"),
            depth_unit=0.001,
            intrinsics=[525, 525, 319.5, 239.5],
            pixel_center=0.0,
        ),
        "7scenes": InputConfig(
            cameras=str(data / "7scenes_rgbd"),
            depth=str(data / "7scenes_rgbd" / "{stem}.depth.png"),
            depth_unit=0.001,
            intrinsics=[585, 585, 320, 240],
        ),
        "lego": InputConfig(
            cameras=str(data / "nerf_lego" / "transforms_test.json"),
            depth=str(data / "nerf_lego" / "test" / "{stem}_depth_0001.png"),
            depth_unit=-8 / 255,
            depth_offset=8,
        ),
        "dtu": InputConfig(
            cameras=str(data / "nvs_dtu_scan1"),
            images=str(data / "nvs_dtu_scan1"),
            depth=str(data / "nvs_dtu_scan1" / "{stem}.pfm"),
            resize=[800, 600],
            crop=[80, 44, 640, 512],
            camera_size=[160, 128],
            already_cropped=True,
        ),
    }


WARPS = [
    ("redwood", "00000", "00004", 32.6),
    ("7scenes", "frame-000000", "frame-000005", 30.1),
    ("7scenes", "frame-000000", "frame-000020", 23.1),
    ("7scenes", "frame-000000", "frame-000040", 19.1),
    ("lego", "r_0", "r_1", 24.0),
    ("dtu", "0", "1", 15.5),
]
"""Capture, view, target, and the PSNR that a correct warp is known to reach within 1 dB."""


def load(config: InputConfig, *names: str) -> list[View]:
    """Images of a capture by name or number."""
    return load_inputs(replace(config, use=list(names))).views


def covisible(warps: Warps, target: View) -> Tensor:
    """Pixels of one warp [1, H, W] whose depth agrees with the target's own."""
    there = target.require_depth().values[None]
    return (warps.visible[0] > 0) & (there > 0) & ((warps.depth[0] - there).abs() < AGREE * there)


def warp_rows(found: dict[str, InputConfig]) -> list[str]:
    rows = []
    for name, first, second, known in WARPS:
        view, target = load(found[name], first, second)
        warps = warp_views([view], stack([target.camera]))
        reached = float(psnr(warps.image[0], target.image, covisible(warps, target)))
        rows.append(f"| {name} {first} -> {second} | {known} dB | {reached:.1f} dB |")
    return rows


def merge_rows(config: InputConfig) -> list[str]:
    """7-Scenes frame 20 from frames 0 and 40, alone and together, on the pixels that the better one sees."""
    near, far, target = load(config, "frame-000000", "frame-000040", "frame-000020")
    path = stack([target.camera])
    warps = {name: warp_views(views, path) for name, views in {"0": [near], "40": [far], "both": [near, far]}.items()}
    better = max(("0", "40"), key=lambda name: float(warps[name].seen))
    rows = []
    for name, warp in warps.items():
        own = float(psnr(warp.image[0], target.image, warp.visible[0]))
        common = (warps[better].visible[0] > 0) & (warp.visible[0] > 0)
        same = float(psnr(warp.image[0], target.image, common))
        rows.append(f"| {name} | {float(warp.seen):.1%} | {own:.2f} dB | {same:.2f} dB |")
    return rows


def sweep_row(name: str, views: list[View], width: int) -> str:
    """Median relative error of the sweep's depth, of all pixels and of the more confident half."""
    height = round(views[0].camera.height * width / views[0].camera.width)
    images = torch.stack([interpolate(view.image[None], (height, width), mode="area")[0] for view in views])
    cameras = stack([view.camera.resize(width, height) for view in views])
    truth = views[0].require_depth().resize(width, height)
    depth, confidence = plane_sweep(images, cameras)
    error = ((depth.values - truth.values).abs() / truth.values)[truth.valid]
    sure = confidence[truth.valid] >= confidence[truth.valid].median()
    return f"| {name} | {float(error.median()):.1%} | {float(error[sure].median()):.1%} |"


def alignment_row(view: View, scale: float, shift: float) -> str:
    """Worst error of depth brought back from `disparity = scale / z + shift` by 200 points, 20% of them wrong."""
    truth = view.require_depth()
    disparity = torch.where(truth.valid, scale / truth.values.clamp(min=1e-6) + shift, 0).double()
    values = torch.from_numpy(disparity_to_depth(disparity[truth.valid].numpy())).float()
    relative = Depth(torch.zeros_like(truth.values).masked_scatter(truth.valid, values), truth.valid, False)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(int(truth.valid.sum()), generator=generator)[:200]
    z = truth.values[truth.valid][chosen].double()
    z[:40] *= 0.3 + 3 * torch.rand(40, generator=generator)
    points = view.camera.unproject(view.camera.pixel_grid()[truth.valid][chosen], z)
    aligned = align_to_points(relative, view.camera, points).depth
    error = float(((aligned.values - truth.values).abs() / truth.values)[truth.valid].quantile(0.999))
    return f"| {view.name}, {scale:g} / z + {shift:g} | {error:.2%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    data = parser.parse_args().data
    if not data.is_dir():
        parser.error(f"folder {data} does not exist; give the one with redwood_rgbd, 7scenes_rgbd, ... as --data")
    found = captures(data)
    print("| warp, PSNR where both see | known | reached |\n|---|---|---|")
    print("\n".join(warp_rows(found)))
    print("\n| 7-Scenes frame 20 from | seen | PSNR there | PSNR where the better one sees |\n|---|---|---|---|")
    print("\n".join(merge_rows(found["7scenes"])))
    print("\n| plane sweep | median error | confident half |\n|---|---|---|")
    print(sweep_row("7-Scenes 0, 20", load(found["7scenes"], "frame-000000", "frame-000020"), 320))
    print(sweep_row("lego 0, 1 (object)", load(found["lego"], "r_0", "r_1"), 320))
    print(sweep_row("redwood 0, 4", load(found["redwood"], "00000", "00004"), 320))
    print("\n| relative inverse depth aligned to 200 points, 20% wrong | error (99.9% of pixels) |\n|---|---|")
    view = load(found["redwood"], "00000")[0]
    print(alignment_row(view, 7.0, 0.3))
    print(alignment_row(view, 0.02, 4.0))


if __name__ == "__main__":
    main()
