"""The two trainings. Both run in one process or in several (gloo), and continue from their last checkpoint."""

import csv
import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.schedule import karras_sigmas
from mvguide.diffusion.training import gamma_v, score_matching_loss
from tools.tiny.data import load_shards
from tools.tiny.latents import load_latents
from tools.tiny.models import SCALING_FACTOR
from tools.tiny.optim import Optimizer, cosine
from tools.tiny.settings import Settings

VAE_ENDS = (
    "encoder.conv_in.weight",
    "encoder.conv_out.weight",
    "quant_conv.weight",
    "decoder.conv_in.weight",
    "decoder.conv_out.weight",
    "decoder.time_conv_out.weight",
)
UNET_ENDS = ("conv_in.weight", "conv_out.weight")
SIGMA_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, math.inf)
CONDITION_NOISE = 0.05
"""Standard deviation added to the conditioning latents: what noise_aug_strength 0.02 does to them, roughly."""


def rank_and_world() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


class Run:
    """One training: its optimiser, its generator, its log, its checkpoint (one file for each rank)."""

    def __init__(self, optimizer: Optimizer, settings: Settings, name: str, columns: tuple[str, ...]) -> None:
        self.rank, self.world = rank_and_world()
        self.optimizer, self.settings, self.name = optimizer, settings, name
        self.generator = torch.Generator().manual_seed(settings.seed * 1000 + self.rank)
        torch.manual_seed(settings.seed * 1000 + 500 + self.rank)
        self.checkpoint = settings.root / f"{name}.rank{self.rank}.safetensors"
        self.log = settings.root / f"{name}.csv"
        self.columns = ("step", "seconds", "gradient", *columns)
        self.started = time.perf_counter()
        if self.checkpoint.exists():
            optimizer.load(self.checkpoint, self.generator)
        elif self.rank == 0:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("w", newline="") as stream:
                csv.writer(stream).writerow(self.columns)

    @property
    def step(self) -> int:
        return self.optimizer.step_count

    def end_of_step(self, gradient: float, values: dict[str, float], last: bool) -> None:
        """Log every tenth step, save now and then."""
        if self.rank == 0 and (self.step % 10 == 0 or last):
            seconds = time.perf_counter() - self.started
            row = [self.step, round(seconds, 1), round(gradient, 4)]
            row += [round(values.get(column, math.nan), 5) for column in self.columns[3:]]
            with self.log.open("a", newline="") as stream:
                csv.writer(stream).writerow(row)
            print(self.name, *row, flush=True)
        if self.step % self.settings.save_every == 0 or last:
            self.optimizer.save(self.checkpoint, self.generator)


def train_vae(vae: Any, settings: Settings, steps: int | None = None) -> None:
    """L1 + L1 of gradients / 4 + MSE / 2 + a little KL; crops first, whole pictures in the last third.

    Ends with the averaged weights in ``vae``.
    """
    total = settings.vae_steps
    run = Run(Optimizer(vae, settings.vae_lr, VAE_ENDS, settings.vae_ema), settings, "vae", ("loss", "psnr"))
    videos = load_shards(settings.root / "videos", ("video",))["video"]
    stop = total if steps is None else min(total, steps)
    while run.step < stop:
        cropping = run.step < total * 2 // 3
        pixels = sample_pixels(videos, settings, cropping, run)
        latents = vae.encode(pixels).latent_dist
        decoded = vae.decode(latents.sample(), num_frames=2 if cropping else 4).sample
        error = decoded - pixels
        gradients = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        square = error.square().mean()
        loss = (
            error.abs().mean() + 0.25 * gradients + 0.5 * square + 3e-4 * latents.kl().mean() / latents.mean[0].numel()
        )
        loss.backward()
        norm = run.optimizer.step(cosine(run.step, total))
        values = {"loss": float(loss.detach()), "psnr": float(-10 * torch.log10(square.detach() / 4))}
        run.end_of_step(norm, values, run.step == stop)
    run.optimizer.use_ema()


def sample_pixels(videos: Tensor, settings: Settings, cropping: bool, run: Run) -> Tensor:
    """Frames ``[B * f, 3, h, w]`` in [-1, 1]: neighbouring frames of random scenes."""
    share = max(1, (settings.vae_batch if cropping else settings.vae_batch // 8) // run.world)
    frames = 2 if cropping else 4

    def draw(high: int, count: int = 1) -> Tensor:
        return torch.randint(high, (count,), generator=run.generator)

    first = int(draw(videos.shape[1] - frames + 1))
    pixels = videos[draw(len(videos), share), first : first + frames].float() / 127.5 - 1
    if cropping:
        top, left = draw(settings.size - 31, 2).tolist()
        pixels = pixels[..., top : top + 32, left : left + 32]
    return pixels.flatten(0, 1)


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


def draw_batch(data: dict[str, Tensor], count: int, settings: Settings, generator: torch.Generator) -> tuple[Any, ...]:
    """Clean latents and conditions of random videos, half of them run backwards, some without a condition."""
    picked = torch.randint(len(data["latents"]), (count,), generator=generator)
    raw, embeddings = data["latents"][picked].float(), data["embeddings"][picked]
    backwards = torch.rand(count, generator=generator) < 0.5
    raw = torch.where(backwards.view(-1, 1, 1, 1, 1), raw.flip(1), raw)
    embedding = torch.where(backwards[:, None], embeddings[:, 1], embeddings[:, 0])
    condition = raw[:, 0] + CONDITION_NOISE * torch.randn(raw[:, 0].shape, generator=generator)
    kept = (torch.rand(count, generator=generator) >= settings.condition_dropout).float()
    return (
        raw * SCALING_FACTOR,
        condition * kept.view(-1, 1, 1, 1),
        embedding * kept[:, None],
        data["bucket"][picked],
    )


def train_unet(unet: Any, settings: Settings, steps: int | None = None) -> None:
    """Score matching (seed equation 3), weighted to be SVD's loss of v. Ends with the averaged weights."""
    columns = tuple(f"v_mse_sigma_{low:g}_{high:g}" for low, high in pairwise(SIGMA_EDGES))
    optimizer = Optimizer(unet, settings.unet_lr, UNET_ENDS, settings.unet_ema)
    run = Run(optimizer, settings, "unet", ("loss", *columns))
    data = load_latents(settings.root / "latents")
    total = settings.unet_steps
    stop = total if steps is None else min(total, steps)
    share = max(1, settings.unet_batch // run.world)
    sums, counts, losses = torch.zeros(len(columns)), torch.zeros(len(columns)), []
    unet.train()
    while run.step < stop:
        x0, condition, embedding, bucket = draw_batch(data, share, settings, run.generator)
        sigma = draw_sigmas(share, settings, run.generator)
        noise = torch.randn(x0.shape, generator=run.generator)
        loss = score_matching_loss(ConditionedUnet(unet, condition, embedding, bucket), x0, noise, sigma, gamma_v)
        loss.mean().backward()
        place = torch.bucketize(sigma, torch.tensor(SIGMA_EDGES[1:-1]))
        sums.index_add_(0, place, loss.detach())
        counts.index_add_(0, place, torch.ones_like(loss.detach()))
        losses.append(float(loss.detach().mean()))
        norm = run.optimizer.step(cosine(run.step, total))
        means = (sums / counts).tolist()
        values = {"loss": sum(losses) / len(losses), **dict(zip(columns, means, strict=True))}
        run.end_of_step(norm, values, run.step == stop)
        if run.step % 100 == 0:
            sums.zero_()
            counts.zero_()
            losses.clear()
    run.optimizer.use_ema()
    unet.eval()


def plot_losses(log: Path, out: Path) -> None:
    """Curves of a log: every column after the gradient, on a log scale."""
    from matplotlib.figure import Figure

    with log.open() as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for column in list(rows[0])[3:]:
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column] not in ("", "nan")]
        if points:
            axes.plot(*zip(*points, strict=True), label=column.replace("_", " "), linewidth=1)
    axes.set_xlabel("step")
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    figure.savefig(out, dpi=110)
