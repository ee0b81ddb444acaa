"""Training of the UNet: score matching on encoded videos, with the errors on held-out scenes beside it."""

import math
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.schedule import karras_sigmas
from mvguide.diffusion.training import gamma_v, score_matching_loss
from tools.scenes import HELD_OUT, render_scenes
from tools.tiny.attention import use_fast_attention
from tools.tiny.compute import Compute
from tools.tiny.latents import encode_scenes
from tools.tiny.models import SCALING_FACTOR
from tools.tiny.optim import Optimizer, trapezoid
from tools.tiny.run import Run
from tools.tiny.settings import Settings
from tools.tiny.sources import EncodedVideos, Latents, LatentSource, StoredLatents

UNET_ENDS = ("conv_in.weight", "conv_out.weight")
SIGMA_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, math.inf)
SIGMAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 300.0)
"""Levels at which held-out errors are measured."""
CONDITION_NOISE = 0.05
"""Standard deviation added to the conditioning latents: what noise_aug_strength 0.02 does to them, roughly."""


class ConditionedUnet:
    """The UNet as a denoiser on the VE path, with the condition of one batch (SVD's parametrisation)."""

    def __init__(self, unet: Any, latents: Tensor, embeddings: Tensor, buckets: Tensor) -> None:
        self.unet, self.path = unet, VarianceExploding()
        self.latents, self.embeddings = latents, embeddings
        fps, augmentation = torch.full_like(buckets, 6.0), torch.full_like(buckets, 0.02)
        self.ids = torch.stack([fps, buckets, augmentation], dim=1)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        scaled = x / (sigma.view(-1, 1, 1, 1, 1) ** 2 + 1).sqrt()
        inputs = torch.cat([scaled, self.latents[:, None].expand_as(x)], dim=2)
        v = self.unet(
            inputs, 0.25 * sigma.log(), encoder_hidden_states=self.embeddings[:, None], added_time_ids=self.ids
        ).sample
        return self.path.to_denoised(v, x, sigma, "v")


def draw_sigmas(count: int, settings: Settings, generator: torch.Generator) -> Tensor:
    """Three in four log-normal, one in four from the Karras grid that sampling uses (sigma 0.002 to 700, rho 7)."""
    grid = karras_sigmas(1000)[:-1].float()
    even = grid[torch.randint(len(grid), (count,), generator=generator)]
    normal = torch.exp(settings.sigma_mean + settings.sigma_std * torch.randn(count, generator=generator))
    return torch.where(torch.rand(count, generator=generator) < 0.25, even, normal.clamp(0.002, 700))


def draw_batch(
    source: LatentSource, step: int, count: int, settings: Settings, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean latents and conditions of some videos, half of them run backwards, some without a condition.

    Returns:
        x0 ``[B, F, 4, h, w]``, conditioning latents ``[B, 4, h, w]``, embeddings ``[B, C]``, buckets ``[B]``.
    """
    data = source.draw(step, count, generator)
    raw, embeddings = data["latents"].float(), data["embeddings"]
    backwards = (torch.rand(count, generator=generator) < 0.5).to(raw.device)
    raw = torch.where(backwards.view(-1, 1, 1, 1, 1), raw.flip(1), raw)
    embedding = torch.where(backwards[:, None], embeddings[:, 1], embeddings[:, 0])
    noise = torch.randn(raw[:, 0].shape, generator=generator).to(raw.device)
    condition = raw[:, 0] + CONDITION_NOISE * noise
    kept = (torch.rand(count, generator=generator) >= settings.condition_dropout).float().to(raw.device)
    return raw * SCALING_FACTOR, condition * kept.view(-1, 1, 1, 1), embedding * kept[:, None], data["bucket"]


def train_unet(unet: Any, pipe: Any, settings: Settings, steps: int | None = None) -> None:
    """Score matching (seed equation 3), weighted to be SVD's loss of v. Ends with the averaged weights.

    Args:
        unet: to train, in place.
        pipe: holds the finished VAE and image encoder, for scenes rendered on the way and for held-out ones.
        settings: of the run.
        steps: stop here, for now.
    """
    columns = tuple(f"v_mse_sigma_{low:g}_{high:g}" for low, high in pairwise(SIGMA_EDGES))
    compute = Compute.of(settings)
    if compute.device.type == "cpu":
        use_fast_attention(unet)
    compute.prepare(unet)
    pipe.vae.to(compute.device), pipe.image_encoder.to(compute.device)
    optimizer = Optimizer(unet, settings.unet_lr, UNET_ENDS, tuple(settings.unet_averages), compute.bfloat16)
    run = Run(optimizer, settings, compute, "unet", ("loss", *columns))
    source: LatentSource = EncodedVideos(settings, compute, pipe) if compute.rendered else StoredLatents(settings)
    held_out = HeldOut(run, pipe)
    total = settings.unet_steps
    stop = total if steps is None else min(total, steps)
    share = max(1, settings.unet_batch // run.world)
    sums, counts, losses = torch.zeros(len(columns)), torch.zeros(len(columns)), []
    unet.train()
    while run.step < stop:
        x0, *condition = compute.move(*draw_batch(source, run.step, share, settings, run.generator))
        level = draw_sigmas(share, settings, run.generator)
        sigma, noise = compute.move(level, torch.randn(x0.shape, generator=run.generator))
        with compute.autocast():
            loss = score_matching_loss(ConditionedUnet(unet, *condition), x0, noise, sigma, gamma_v)
        loss.mean().backward()
        norm = run.optimizer.step(trapezoid(run.step, total))
        found = loss.detach().float().cpu()
        place = torch.bucketize(level, torch.tensor(SIGMA_EDGES[1:-1]))
        sums.index_add_(0, place, found)
        counts.index_add_(0, place, torch.ones_like(found))
        losses.append(float(found.mean()))
        means = (sums / counts).tolist()
        values = {"loss": sum(losses) / len(losses), **dict(zip(columns, means, strict=True))}
        run.end_of_step(norm, values, run.step == stop)
        if run.step % settings.held_out_every == 0 or run.step == stop:
            held_out.measure(unet)
            source.refresh()
        if run.step % 100 == 0:
            sums.zero_()
            counts.zero_()
            losses.clear()
    run.optimizer.use_ema()
    unet.eval()


@torch.no_grad()
def v_errors(unet: Any, data: Latents, scaling_factor: float = SCALING_FACTOR) -> dict[float, float]:
    """Mean squared error of v at each of SIGMAS on videos run forwards, with one fixed noise, not dropped."""
    latents, buckets = data["latents"], data["bucket"]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents.device)
    found: dict[float, float] = {}
    for level in SIGMAS:
        total = 0.0
        for rows in torch.arange(len(latents)).split(4):
            denoiser = ConditionedUnet(unet, latents[rows, 0], data["embeddings"][rows, 0], buckets[rows])
            sigma = torch.full((len(rows),), level, device=latents.device)
            loss = score_matching_loss(denoiser, latents[rows] * scaling_factor, noise[rows], sigma, gamma_v)
            total += float(loss.sum())
        found[level] = total / len(latents)
    return found


class HeldOut:
    """Errors of the averaged weights on scenes that are never trained on; ``unet_held_out.csv``."""

    def __init__(self, run: Run, pipe: Any) -> None:
        self.run, self.log = run, run.settings.root / "unet_held_out.csv"
        self.started = time.perf_counter()
        if run.rank != 0:
            return
        settings, device = run.settings, run.compute.device
        scenes = render_scenes(
            HELD_OUT[: settings.held_out_scenes], size=settings.size, frames=settings.frames, device=device
        )
        self.data = encode_scenes(pipe, (scenes.video * 255).round().to(torch.uint8), scenes.bucket)
        if run.step == 0 or not self.log.exists():
            names = ("step", "seconds", *(f"v_mse_sigma_{level:g}" for level in SIGMAS))
            run.write_row(self.log, names, new=True)
        else:
            run.forget_after(self.log)

    def measure(self, unet: Any) -> None:
        """Add a row, in the first process."""
        if self.run.rank != 0:
            return

        def averaged(*args: Any, **options: Any) -> Any:
            return functional_call(unet, self.run.optimizer.ema, args, options)

        with self.run.compute.autocast():
            errors = v_errors(averaged, self.data)
        seconds = round(time.perf_counter() - self.started, 1)
        row = [self.run.step, seconds, *(round(error, 4) for error in errors.values())]
        self.run.write_row(self.log, row)
        print("held out", *row, flush=True)
