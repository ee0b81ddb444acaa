"""Guides that look at the agreement of model and warp: they trust where the two agree, and less where they do not."""

import pytest
import torch
from torch import Tensor

from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import Step
from mvguide.guidance.guides import Blend
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable
from tools.quality.agreement import AgreementBlend, FlowGatedBlend, channel_flow

FRAMES, CHANNELS, SIDE = 4, 4, 16
SCHEDULE = SigmaSchedule(karras_sigmas(3))
STEP = Step(1, 3, SCHEDULE.sigmas[1], SCHEDULE.sigmas[2])


def texture(shift: float, seed: int = 0) -> Tensor:
    """Smooth waves that move right by ``shift`` cells a frame, ``[F, C, h, w]``."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(SIDE).float(), torch.arange(SIDE).float(), indexing="ij")
    phase = 6.3 * torch.rand(CHANNELS, 2, generator=generator)
    frames = []
    for frame in range(FRAMES):
        x = u - shift * frame
        waves = [torch.sin(0.7 * x + phase[c, 0]) + torch.sin(0.6 * v + 0.2 * x + phase[c, 1]) for c in range(CHANNELS)]
        frames.append(torch.stack(waves))
    return torch.stack(frames)


class Model:
    """A denoiser whose estimate is always the same."""

    path = VarianceExploding()

    def __init__(self, estimate: Tensor) -> None:
        self.estimate = estimate

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.estimate


def targets(latents: Tensor) -> Targets:
    pinned = torch.zeros(FRAMES, dtype=torch.bool)
    pinned[0] = True
    return Targets(latents, torch.ones(FRAMES, 1, SIDE, SIDE), pinned)


def table(weight: float) -> LambdaTable:
    return LambdaTable.constant(weight, SCHEDULE, FRAMES)


def test_flow_of_a_texture_that_moves() -> None:
    flow = channel_flow(texture(0.4)[None])
    assert flow.shape == (1, FRAMES - 1, CHANNELS, SIDE, SIDE, 2)
    inner = flow[..., 3:-3, 3:-3, :]
    assert inner[..., 0].median() == pytest.approx(0.4, abs=0.08)
    assert inner[..., 1].median() == pytest.approx(0.0, abs=0.08)


@pytest.mark.parametrize("guide", [AgreementBlend, FlowGatedBlend])
def test_where_all_agree_it_is_nearly_blend(guide: type) -> None:
    wanted = texture(0.4)
    own = wanted[None] + 1e-3
    plain = Blend()(Model(own), own, STEP, targets(wanted), table(0.8)).denoised
    found = guide()(Model(own), own, STEP, targets(wanted), table(0.8)).denoised
    assert (found - plain).abs().max() < 1e-3
    assert torch.allclose(found[:, 0], wanted[0])


def test_a_cell_that_disagrees_is_left_to_the_model() -> None:
    wanted, own = texture(0.4), texture(0.4)[None] + 0.05
    own[0, 2, :, 4:7, 4:7] += 3
    found = AgreementBlend()(Model(own), own, STEP, targets(wanted), table(1.0)).denoised
    trust = 1 - (found - wanted)[0].abs() / (own - wanted)[0].abs()
    assert trust[2, :, 5, 5].max() < 0.3
    assert trust[2, :, 12:, 12:].min() > 0.9
    assert trust[0].min() == 1, "a pinned frame is the image"


def test_a_channel_that_moves_otherwise_is_left_to_the_model() -> None:
    wanted, own = texture(0.4), texture(0.4)[None].clone()
    own[0, :, 2] = texture(-0.5)[:, 2]
    found = FlowGatedBlend()(Model(own), own, STEP, targets(wanted), table(1.0)).denoised
    torch.testing.assert_close(found[0, 1:, 2], own[0, 1:, 2])
    others = [0, 1, 3]
    torch.testing.assert_close(found[0, :, others], wanted[:, others])
    torch.testing.assert_close(found[0, 0], wanted[0])
