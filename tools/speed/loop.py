"""The guided loop against the stock pipeline."""

from typing import Any

import numpy as np
import torch

from mvguide.diffusion.schedule import load_sigmas
from tools.speed.timing import alternate


def bench_loop() -> dict[str, Any]:
    from PIL import Image

    from mvguide.backbones.base import ConditioningOptions
    from mvguide.pipeline.pipeline import MultiViewPipeline
    from mvguide.scenes import packaged_scene
    from mvguide.tables.table import LambdaTable

    pipe = MultiViewPipeline.from_pretrained("tiny", device="cpu")
    backbone: Any = pipe.backbone
    view, cameras = packaged_scene().load(num_frames=8)
    size = backbone.native_size.default_size(view.camera.width, view.camera.height)
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
            conditioning=ConditioningOptions(8, motion_bucket_id=127, cfg_min=1.0, cfg_max=3.0),
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
        "name": "8 frames, 25 steps on the embedded model, blend, from image to frames",
        "baseline": "stock StableVideoDiffusionPipeline, same modules and sigmas",
        "ours_s": ours_s,
        "baseline_s": stock_s,
        "ratio": ratio,
        "asked": "at most 1.05 times",
        "reached": ratio <= 1.05,
    }
