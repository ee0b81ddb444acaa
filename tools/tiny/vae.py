"""Training of the VAE."""

from typing import Any

import torch
from torch import Tensor

from tools.tiny.compute import Compute, keep_float32
from tools.tiny.optim import Optimizer, trapezoid
from tools.tiny.run import Run
from tools.tiny.settings import Settings
from tools.tiny.sources import RenderedVideos, StoredVideos, VideoSource
from tools.tiny.textures import textured_clips

VAE_ENDS = (
    "encoder.conv_in.weight",
    "encoder.conv_out.weight",
    "quant_conv.weight",
    "decoder.conv_in.weight",
    "decoder.conv_out.weight",
    "decoder.time_conv_out.weight",
)
LONG = 4
"""Frames of the longer clips."""


def train_vae(vae: Any, settings: Settings, steps: int | None = None) -> None:
    """L1 + L1 of gradients / 4 + MSE / 2 + a little KL, on crops of pairs of frames, in the last third of longer clips.

    Ends with the averaged weights in ``vae``.
    """
    if settings.vae_part == "decoder":
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    compute = Compute.of(settings)
    compute.prepare(vae.to(compute.device).encoder, vae.decoder)
    if compute.device.type == "cpu" and compute.bfloat16:
        keep_float32(vae.decoder.time_conv_out)
        torch.set_num_threads(1)  # with more, a gradient of 2 frames is now and then wrong; see docs/training.md
    total = settings.vae_steps
    run = Run(
        Optimizer(vae, settings.vae_lr, VAE_ENDS, (settings.vae_ema,)), settings, compute, "vae", ("loss", "psnr")
    )
    source: VideoSource = RenderedVideos(settings, compute) if compute.rendered else StoredVideos(settings)
    textures = make_textures(settings, run.rank)
    stop = total if steps is None else min(total, steps)
    while run.step < stop:
        frames = 2 if run.step < total * 2 // 3 else LONG
        (pixels,) = compute.move(sample_pixels(source, textures, settings, frames, run))
        with compute.autocast():
            latents = vae.encode(pixels).latent_dist
            decoded = vae.decode(latents.sample(), num_frames=frames).sample.float()
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


def make_textures(settings: Settings, rank: int) -> Tensor:
    """Clips ``[N, 4, 3, S, S]`` uint8 of images like photographs, this process's own."""
    count = settings.texture_clips if settings.vae_textures > 0 else 0
    generator = torch.Generator().manual_seed(settings.seed * 1000 + 100 + rank)
    return textured_clips(count, LONG, settings.size, generator)


def sample_pixels(source: VideoSource, textures: Tensor, settings: Settings, frames: int, run: Run) -> Tensor:
    """Frames ``[B * f, 3, h, w]`` in [-1, 1]: neighbouring frames of some scenes, and of some textures."""
    share = max(1, settings.vae_batch * 2 // frames // run.world)

    def draw(high: int, count: int = 1) -> Tensor:
        return torch.randint(high, (count,), generator=run.generator)

    first = int(draw(settings.frames - frames + 1))
    videos = source.draw(run.step, share, run.generator)
    videos = videos[:, first : first + frames]
    if len(textures):
        some = (torch.rand(share, generator=run.generator) < settings.vae_textures).view(-1, 1, 1, 1, 1)
        picked = textures[draw(len(textures), share), :frames]
        videos = torch.where(some.to(videos.device), picked.to(videos.device), videos)
    pixels = videos.float() / 127.5 - 1
    crop = min(settings.vae_crop, settings.size)
    top, left = draw(settings.size - crop + 1, 2).tolist()
    pixels = pixels[..., top : top + crop, left : left + crop]
    return pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last)
