"""How much a render computes, for published models: counted on the meta device, without weights and without a GPU.

    python -m tools.speed.flops [NAME ...]

A multiplication and an addition are two operations. Counted are the network's calls of a run of 25 steps, two a step
with classifier-free guidance, and the VAE, which encodes the targets and decodes the result. Text and image encoders
and the warps are less than a hundredth of it.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mvguide.backbones.model_configs import ModelConfigs, published_models, read_model_configs
from mvguide.backbones.network_calls import INPUTS

STEPS = 25
ALONE = {"hunyuanvideo", "hunyuanvideo-33ch"}
"""Models that are told their guidance scale: one call a step."""


def count(configs: ModelConfigs) -> tuple[float, float, float]:
    """Operations of one call of the network, of encoding a video and of decoding it, at the published size."""
    frames, width, height = configs.size
    native = configs.native_size
    parts: dict[str, Any] = {part: configs.build(part, configs.dtype) for part in (configs.main, "vae")}
    network, vae = parts[configs.main], parts["vae"]
    channels = vae.config.get("latent_channels") or vae.config.get("z_dim")
    factor, latent_frames = native.vae_scale_factor, native.grid.latent_frames(frames)
    x = torch.zeros(1, channels, latent_frames, height // factor, width // factor, device="meta")
    inputs = INPUTS[configs.pipeline](network.config, x, configs.dtype, 1)
    call = _operations(lambda: network(**inputs, return_dict=False))
    if native.grid.ratio == 1:
        one = torch.zeros(1, channels, *x.shape[3:], device="meta", dtype=vae.dtype)
        picture = torch.zeros(1, 3, height, width, device="meta", dtype=vae.dtype)
        encode = frames * _operations(lambda: vae.encode(picture))
        return call, encode, frames * _operations(lambda: vae.decode(one, num_frames=1))
    lead = native.grid.lead
    video = torch.zeros(1, 3, frames, height, width, device="meta", dtype=vae.dtype)
    options = (
        {"temb": torch.zeros(1, dtype=vae.dtype, device="meta")} if vae.config.get("timestep_conditioning") else {}
    )
    encode = _operations(lambda: vae.encode(video))
    return call, encode, _operations(lambda: vae.decode(x[:, :, lead:].to(vae.dtype), **options))


def _operations(function: Callable[[], Any]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="models, as mvguide plan names them; all by default")
    for name in parser.parse_args().names or published_models():
        configs = read_model_configs(name)
        frames, width, height = configs.size
        try:
            call, encode, decode = (value / 1e12 for value in count(configs))
        except RuntimeError as error:  # some networks look at numbers, which tensors on the meta device have not
            print(f"{name:18} {frames:4} of {width} x {height}: cannot be counted ({error})", flush=True)
            continue
        calls = STEPS if name in ALONE else 2 * STEPS
        print(
            f"{name:18} {frames:4} of {width} x {height}: a call {call:.1f} Tflop, {calls} calls, encode {encode:.1f}, "
            f"decode {decode:6.1f}; a render {(calls * call + encode + decode) / 1000:.2f} Pflop",
            flush=True,
        )


if __name__ == "__main__":
    main()
