"""The choice, after a run, between the averages of its weights: a plain form of post-hoc EMA (Karras et al. 2024)."""

import math
from typing import Any

import torch
from safetensors import safe_open

from tools.scenes import HELD_OUT, render_scenes
from tools.tiny.compute import Compute
from tools.tiny.latents import encode_scenes
from tools.tiny.settings import Settings
from tools.tiny.unet import v_errors


@torch.no_grad()
def best_average(unet: Any, pipe: Any, settings: Settings) -> str:
    """Put into ``unet`` the average of the run's checkpoint with the least error on held-out scenes.

    Least in the mean of the errors' logarithms over the noise levels. The plain weights compete as well.

    Returns:
        Name of the group of tensors that was taken.
    """
    compute = Compute.of(settings)
    for module in (unet, pipe.vae, pipe.image_encoder):
        module.to(compute.device)
    scenes = render_scenes(
        HELD_OUT[: settings.held_out_scenes], size=settings.size, frames=settings.frames, device=compute.device
    )
    data = encode_scenes(pipe, (scenes.video * 255).round().to(torch.uint8), scenes.bucket)
    found: dict[str, float] = {}
    with safe_open(settings.root / "unet.rank0.safetensors", "pt") as stored:
        groups = sorted({name.split("/")[0] for name in stored.keys() if name.startswith(("ema", "weight/"))})  # noqa: SIM118

        def put(group: str) -> None:
            for name, p in unet.named_parameters():
                p.copy_(stored.get_tensor(f"{group}/{name}"))

        for group in groups:
            put(group)
            with compute.autocast():
                errors = v_errors(unet, data)
            found[group] = sum(math.log(error) for error in errors.values()) / len(errors)
            print(f"{group}: " + ", ".join(f"{level:g} {error:.4f}" for level, error in errors.items()), flush=True)
        best = min(found, key=lambda group: found[group])
        put(best)
    print(f"taken: {best}")
    return best
