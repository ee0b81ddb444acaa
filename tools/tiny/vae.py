"""Training of the VAE."""

from typing import Any

import torch
from torch import Tensor

from tools.tiny.compute import Compute
from tools.tiny.optim import Optimizer, trapezoid
from tools.tiny.run import Run
from tools.tiny.settings import Settings
from tools.tiny.sources import RenderedVideos, StoredVideos, VideoSource

VAE_ENDS = (
    "encoder.conv_in.weight",
    "encoder.conv_out.weight",
    "quant_conv.weight",
    "decoder.conv_in.weight",
    "decoder.conv_out.weight",
    "decoder.time_conv_out.weight",
)
CROP = 32
"""Pixels along a side of the crops that the first two thirds of the training see."""


def train_vae(vae: Any, settings: Settings, steps: int | None = None) -> None:
    """L1 + L1 of gradients / 4 + MSE / 2 + a little KL; crops first, whole pictures in the last third.

    Ends with the averaged weights in ``vae``.
    """
    compute = Compute.of(settings)
    compute.prepare(vae.to(compute.device).encoder, vae.decoder)
    total = settings.vae_steps
    run = Run(Optimizer(vae, settings.vae_lr, VAE_ENDS, settings.vae_ema), settings, compute, "vae", ("loss", "psnr"))
    source: VideoSource = RenderedVideos(settings, compute) if compute.rendered else StoredVideos(settings)
    stop = total if steps is None else min(total, steps)
    while run.step < stop:
        cropping = run.step < total * 2 // 3
        (pixels,) = compute.move(sample_pixels(source, settings, cropping, run))
        with compute.autocast():
            latents = vae.encode(pixels).latent_dist
            decoded = vae.decode(latents.sample(), num_frames=2 if cropping else 4).sample.float()
        error = decoded - pixels
        gradients = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        square = error.square().mean()
        kl = latents.kl().mean() / latents.mean[0].numel()
        loss = error.abs().mean() + 0.25 * gradients + 0.5 * square + 3e-4 * kl
        loss.backward()
        norm = run.optimizer.step(trapezoid(run.step, total))
        values = {"loss": float(loss.detach()), "psnr": float(-10 * torch.log10(square.detach() / 4))}
        run.end_of_step(norm, values, run.step == stop)
    run.optimizer.use_ema()


def sample_pixels(source: VideoSource, settings: Settings, cropping: bool, run: Run) -> Tensor:
    """Frames ``[B * f, 3, h, w]`` in [-1, 1]: neighbouring frames of some scenes."""
    share = max(1, (settings.vae_batch if cropping else settings.vae_batch // 8) // run.world)
    frames = 2 if cropping else 4

    def draw(high: int, count: int = 1) -> Tensor:
        return torch.randint(high, (count,), generator=run.generator)

    first = int(draw(settings.frames - frames + 1))
    videos = source.draw(run.step, share, run.generator)
    pixels = videos[:, first : first + frames].float() / 127.5 - 1
    if cropping:
        top, left = draw(settings.size - CROP + 1, 2).tolist()
        pixels = pixels[..., top : top + CROP, left : left + CROP]
    return pixels.flatten(0, 1)
