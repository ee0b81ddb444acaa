"""The preview against writing its video."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from mvguide.geometry.trajectory import orbit
from tools.speed.timing import alternate
from tools.speed.warp import warp_inputs


def bench_preview() -> dict[str, Any]:
    from mvguide.depth.maps import Depth
    from mvguide.files.video import write_video
    from mvguide.pipeline.prepare import warp_path
    from mvguide.pipeline.preview import write_preview
    from mvguide.views.view import View

    image, depth, camera, _ = warp_inputs()
    view = View(image.clamp(0, 1), camera, Depth(depth, torch.ones_like(depth, dtype=torch.bool), True))
    path = orbit(camera, 25, degrees=20, target_depth=2.5)
    frames = warp_path([view], path, (camera.width, camera.height)).warps.image
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def ours() -> None:
            write_preview(place / "preview", [view], path, (camera.width, camera.height))

        ours_s, theirs_s, ratio = alternate(ours, lambda: write_video(place / "plain.mp4", frames, 7), 3)
    return {
        "name": "preview of one 1024 x 576 view, 25 frames: warps, judgement, video, sheet and plot",
        "baseline": "writing the same 25 frames as mp4",
        "ours_s": ours_s,
        "baseline_s": theirs_s,
        "ratio": ratio,
        "asked": "at most 6 times",
        "reached": ratio <= 6,
    }
