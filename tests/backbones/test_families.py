"""Every family: guided by the same loop, and without guidance equal to its stock pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mvguide.backbones.base import Backbone, ConditioningOptions, KnownFrames
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import DpmPp2M, FirstOrder, Heun
from mvguide.guidance.guides import Blend, bind
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable
from tests.backbones.tiny_families import FAMILIES, HEIGHT, PROMPT, STEPS, WIDTH, make_backbone, picture, run


def as_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def frames_of(kind: str) -> int:
    return FAMILIES[kind].frames - FAMILIES[kind].dropped


def known_frames(kind: str) -> KnownFrames:
    """A video as the tiny families' own calls have it: the last frame, or the left half, is known."""
    count = frames_of(kind)
    video = torch.stack([as_tensor(picture(seed)) for seed in range(count)])
    video[-1] = as_tensor(picture(1)) if "last" in kind else video[-1]
    visible, pinned = torch.zeros(count, 1, HEIGHT, WIDTH), torch.zeros(count, dtype=torch.bool)
    visible[..., : WIDTH // 2] = 1.0
    pinned[0] = True
    pinned[-1] = "last" in kind
    return KnownFrames(video, visible, pinned)


def options_of(kind: str) -> ConditioningOptions:
    scale = {"hunyuan_replace": 1.0, "hunyuan15": None}.get(kind, 3.0)  # as the stock calls have them
    return ConditioningOptions(frames_of(kind), prompt=PROMPT, negative_prompt="blurred", cfg_max=scale)


def prepared(backbone: Backbone, kind: str, schedule: SigmaSchedule, seed: int = 7) -> tuple[Any, Tensor, Any]:
    options = options_of(kind)
    generator = torch.Generator().manual_seed(seed)
    conditioning = backbone.prepare(as_tensor(picture()), options, generator, known_frames(kind))
    x = backbone.first_x(conditioning, shape_of(backbone, kind), schedule, generator)
    return conditioning, x, generator


def shape_of(backbone: Backbone, kind: str) -> tuple[int, ...]:
    return backbone.latent_shape(frames_of(kind), HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", FAMILIES)
def test_without_guidance_it_is_the_stock_pipeline(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    pipe = tiny_pipeline(kind)
    backbone = make_backbone(pipe)
    changes = backbone.arguments(options_of(kind), known_frames(kind)) if "vace" in kind else {}
    video = {name: changes[name] for name in ("video", "mask") if name in changes}
    expected = run(kind, pipe, output_type="latent", **video)
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
    conditioning, x, generator = prepared(backbone, kind, schedule)
    solver = backbone.solver(schedule)
    with torch.no_grad():
        x = sample(backbone.denoiser(conditioning), x, schedule, solver, generator=generator)
    if expected.ndim == 3:  # tokens
        expected = backbone.unpack(expected, tuple(x.shape))
    elif backbone.channel_axis == 1:
        expected = expected.transpose(1, 2)
    found = x[:, x.shape[1] - expected.shape[1] :]
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_weight_1_decodes_to_the_targets(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    backbone = make_backbone(tiny_pipeline(kind))
    schedule = backbone.schedule(STEPS, shape_of(backbone, kind))
    conditioning, x, generator = prepared(backbone, kind, schedule)
    latents = backbone.encode(known_frames(kind).video)
    assert tuple(latents.shape) == shape_of(backbone, kind)[1:]
    count = len(latents)
    targets = Targets(latents, torch.ones(count, 1, *latents.shape[-2:]), torch.zeros(count, dtype=torch.bool))
    guidance = bind(Blend(), targets, LambdaTable.constant(1.0, schedule, count))
    denoiser, expected = backbone.denoiser(conditioning), backbone.decode(latents[None])
    assert expected.shape == (frames_of(kind), 3, HEIGHT, WIDTH)
    for solver in (backbone.solver(schedule), FirstOrder(), FirstOrder(eta=1.0), Heun(), DpmPp2M()):
        with torch.no_grad():
            found = sample(denoiser, x, schedule, solver, guidance, generator)
        torch.testing.assert_close(backbone.decode(found), expected, atol=0, rtol=0, msg=f"{solver}")
