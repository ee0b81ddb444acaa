"""Images with the statistics of photographs, made from nothing: what the rendered worlds lack and a VAE should know.

Dead leaves (opaque shapes of all sizes, one over the other), each with noise of a 1/f spectrum, under uneven light,
with rows of strokes like writing, out of focus or sharp, with a sensor's grain. Seen through a window that glides.
"""

import math

import torch
from torch import Tensor

LEAVES = 90
_GLIDE = 2.0
"""Largest glide of the window, pixels a frame."""


def noise_field(size: int, slope: float, generator: torch.Generator) -> Tensor:
    """Noise with amplitude 1 / f^slope, mean 0, spread 1: ``[3, S, S]``, the three channels mostly alike."""
    frequency = torch.fft.fftfreq(size)
    radius = (frequency[:, None] ** 2 + frequency[: size // 2 + 1].abs() ** 2).sqrt()
    radius[0, 0] = math.inf
    spectrum = torch.fft.rfft2(torch.randn(3, size, size, generator=generator)) / radius.clamp(min=1 / size) ** slope
    field = torch.fft.irfft2(spectrum, s=(size, size))
    field = field / field.flatten(1).std(1).clamp(min=1e-6)[:, None, None]
    mix = torch.eye(3) * float(torch.rand((), generator=generator)) * 0.4 + torch.tensor([1.0, 0.0, 0.0])
    return torch.einsum("ij,jhw->ihw", mix, field)


def dead_leaves(size: int, generator: torch.Generator, leaves: int = LEAVES) -> Tensor:
    """Opaque ellipses and boxes with textured faces, in painter's order: ``[3, S, S]``, mostly inside [0, 1]."""

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    textures = torch.stack([noise_field(size, 0.6 + 0.35 * k, generator) for k in range(4)])
    # Radii with density 1 / r^3: as many small shapes as an image of things at all distances has.
    low, high = 1.0 / size, 0.4
    radius = (low**-1.2 + draw(leaves) * (high**-1.2 - low**-1.2)) ** (-1 / 1.2)
    radius[: leaves // 6] = 0.12 + 0.3 * draw(leaves // 6)
    order = radius.argsort(descending=True) if draw(1) < 0.5 else torch.arange(leaves)
    grid = (torch.arange(size) + 0.5) / size
    base, spread = draw(1) + 0.4 * (draw(3) - 0.5), 0.05 + 0.8 * draw(1) ** 2
    picture = (base[:, None, None] + 0.15 * textures[2]).clone()
    for k in order.tolist():
        x, y, angle, aspect, softness, kind = draw(6).tolist()
        c, s = math.cos(math.tau * angle), math.sin(math.tau * angle)
        dx, dy = grid[None, :] - 1.2 * x + 0.1, grid[:, None] - 1.2 * y + 0.1
        u, v = (c * dx + s * dy) / radius[k], (c * dy - s * dx) / radius[k] * (1 + 12 * aspect**3)
        inside = 1 - (u.square() + v.square()).sqrt() if kind < 0.5 else 1 - torch.maximum(u.abs(), v.abs())
        edge = 0.7 + 6 * softness**6
        mask = (inside * radius[k] * size / edge + 0.5).clamp(0, 1)
        grey, tint = float(draw(1)), spread * (draw(3) - 0.5)
        colour = 0.5 * base + 0.5 * grey + tint
        strength = 0.2 * float(draw(1)) ** 2
        face = colour[:, None, None] + strength * textures[int(draw(1) * 4)] + 0.15 * float(draw(1) - 0.5) * v
        picture += mask * (face - picture)
    return picture


def add_strokes(picture: Tensor, generator: torch.Generator) -> None:
    """Rows of small dark or light strokes, like writing or shelves, somewhere in an image ``[3, S, S]``; in place."""
    size = picture.shape[-1]

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, max(high, low + 1), (), generator=generator))

    colour = torch.rand(3, generator=generator)
    height, width, rows = pick(2, 10), pick(1, 4), pick(1, 6)
    top, left, right = pick(0, size - 8), pick(0, size // 2), pick(size // 2, size)
    for row in range(rows):
        y = top + row * (height + pick(2, 4))
        x = left
        while x < right and y < size:
            stroke = picture[:, y + pick(0, 2) : y + height, x : x + pick(1, width + 1)]
            stroke += 0.85 * (colour[:, None, None] - stroke)
            x += pick(width + 1, 2 * width + 3)


def blur(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``[3, S, S]``."""
    if sigma < 0.15:
        return picture
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(picture[:, None], (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, -1, 1))[:, 0]


def textured_picture(size: int, generator: torch.Generator) -> Tensor:
    """One image ``[3, S, S]`` in [0, 1], without grain."""

    def draw() -> float:
        return float(torch.rand((), generator=generator))

    picture = dead_leaves(size, generator)
    while draw() < 0.5:
        add_strokes(picture, generator)
    light = 1 + 0.35 * draw() * noise_field(size, 1.8, generator)[:1]
    picture = blur(picture * light.clamp(0.2, 2), 1.2 * draw() ** 2)
    # Photographs are often dull: pull the contrast to a random share, about a random grey.
    share, grey = 0.45 + 0.65 * draw(), 0.2 + 0.6 * draw()
    return (grey + share * (picture - picture.mean())).clamp(0, 1)


def textured_clips(count: int, frames: int, size: int, generator: torch.Generator) -> Tensor:
    """Videos ``[B, F, 3, S, S]`` uint8 of a window that glides over a still image; every frame has its own grain."""
    margin = math.ceil(_GLIDE * frames)
    clips = torch.empty(count, frames, 3, size, size, dtype=torch.uint8)
    for clip in clips:
        picture = textured_picture(size + margin, generator)
        start, glide = torch.rand(2, 2, generator=generator) * torch.tensor([[margin], [_GLIDE]])
        goal = torch.rand(2, generator=generator) * margin
        step = (goal - start).clamp(-1, 1) * glide
        grain = 0.03 * float(torch.rand((), generator=generator)) ** 2
        for index in range(frames):
            y, x = (start + index * step).round().clamp(0, margin).int().tolist()
            seen = picture[:, y : y + size, x : x + size]
            noise = blur(torch.randn(seen.shape, generator=generator), 0.5)
            clip[index] = ((seen + grain * noise).clamp(0, 1) * 255).round().to(torch.uint8)
    return clips
