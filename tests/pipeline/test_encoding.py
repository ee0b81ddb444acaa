"""Targets: what guidance aims at, and where it may."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mvguide.errors import ConfigError, InputError
from mvguide.geometry import hole_ramp
from mvguide.guidance.targets import MaskName, MaskOptions
from mvguide.pipeline.encoding import cell_weights, fill_holes
from mvguide.views.warps import Warps


class MeanBackbone:
    """Encodes by averaging 4 x 4 pixels."""

    vae_scale_factor = 4
    device = torch.device("cpu")

    def encode(self, frames: torch.Tensor, chunk: int = 8) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(frames, 4)


def test_targets_keep_invented_pixels_out() -> None:
    image = torch.rand(3, 3, 16, 16)
    visible = torch.ones(3, 1, 16, 16)
    visible[1, :, :4, :3] = 0  # three quarters of the first cell
    visible[1, :, 2, 6] = 0  # one pixel of the second
    pinned = torch.tensor([True, False, False])
    nothing = torch.zeros(3, 1, 16, 16)
    warps = Warps(image * visible, visible, pinned, torch.zeros(3), nothing, nothing, torch.ones(1, 3), nothing > 0)
    latents = MeanBackbone().encode(fill_holes(warps))
    cells = cell_weights(warps, 4, MaskOptions("hard"))
    assert latents.shape == (3, 3, 4, 4)
    assert cells[1, 0, 0, 0] == 0
    assert cells.sum() == 3 * 16 - 1
    torch.testing.assert_close(latents[2], torch.nn.functional.avg_pool2d(image[2:], 4)[0])
    assert (latents[1, :, 0, 1] - image[1, :, :4, 4:8].mean((1, 2))).abs().max() < 0.1, "filled, not black"


def test_holes_continue_what_lies_behind() -> None:
    image, depth = torch.zeros(1, 3, 16, 16), torch.full((1, 1, 16, 16), 4.0)
    image[..., 8:], depth[..., :8] = 1.0, 1.0  # black and near on the left, white and far on the right
    visible = torch.ones(1, 1, 16, 16)
    visible[..., 4:12] = 0
    nothing = visible < 0
    warps = Warps(image, visible, torch.tensor([False]), torch.zeros(1), depth, visible, torch.ones(1, 1), nothing)
    latents = MeanBackbone().encode(fill_holes(warps))
    assert latents[..., 1:3].mean() > 0.55, "half would be as much from either side"


def make_warps(visible: Tensor, confidence: Tensor | None = None) -> Warps:
    frames = len(visible)
    image = torch.zeros(frames, 3, *visible.shape[-2:])
    confidence = visible if confidence is None else confidence * visible
    pinned = torch.zeros(frames, dtype=torch.bool)
    return Warps(image, visible, pinned, torch.zeros(frames), visible, confidence, torch.ones(1, frames), visible < 0)


@pytest.mark.parametrize("ramp", [0.0, 1.5])
@pytest.mark.parametrize("mask", ["hard", "soft"])
def test_all_seen_is_one_and_all_hidden_is_zero(mask: MaskName, ramp: float) -> None:
    for value in (0.0, 1.0):
        found = cell_weights(
            make_warps(torch.full((2, 1, 16, 24), value)), 4, MaskOptions(mask, ramp=ramp, confidence=2.0)
        )
        torch.testing.assert_close(found, torch.full((2, 1, 4, 6), value))


def test_a_cell_that_is_partly_seen_keeps_the_share() -> None:
    visible = torch.ones(1, 1, 16, 16)
    for index, hidden in enumerate((1, 5, 8, 16)):
        visible[0, 0, :4, 4 * index : 4 * index + 4].view(4, 4).copy_((torch.arange(16).view(4, 4) >= hidden).float())
    soft = cell_weights(make_warps(visible), 4)
    torch.testing.assert_close(soft[0, 0, 0], torch.tensor([15 / 16, 11 / 16, 8 / 16, 0]))
    assert soft[0, 0, 1:].eq(1).all()
    hard = cell_weights(make_warps(visible), 4, MaskOptions("hard"))
    assert hard[0, 0, 0].tolist() == [1, 1, 1, 0]
    assert cell_weights(make_warps(visible), 4, MaskOptions(cell_coverage=1.0))[0, 0, 0].tolist() == [0, 0, 0, 0]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.floats(0, 3), st.floats(0, 2))
def test_seeing_more_never_lowers_a_weight(seed: int, ramp: float, confidence: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(1, 1, 16, 20, generator=generator)
    blocks = torch.rand(1, 1, 4, 5, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    less, more = ((0.5 * draw + 0.5 * blocks < share).float() for share in (0.5, 0.6))
    for mask in ("hard", "soft"):
        lower, upper = (
            cell_weights(make_warps(v), 4, MaskOptions(mask, ramp=ramp, confidence=confidence)) for v in (less, more)
        )
        assert (lower <= upper + 1e-6).all()
        assert 0 <= lower.min() <= upper.max() <= 1


def test_the_ramp_rises_linearly_with_the_distance_to_the_hole() -> None:
    cells = torch.ones(2, 1, 7, 12)
    cells[0, 0, :, 3] = 0
    line = hole_ramp(cells, 3.0)[0, 0, 2]
    expected = (torch.arange(12) - 3).abs() / 4
    torch.testing.assert_close(line, expected.clamp(max=1).float())
    assert hole_ramp(cells, 3.0)[1].eq(1).all(), "each frame has its own holes"
    assert torch.equal(hole_ramp(cells, 0.0), cells)
    cells[0] = 1
    cells[0, 0, 0, 0] = 0
    assert float(hole_ramp(cells, 9.0)[0, 0, 3, 4]) == pytest.approx(5 / 10)
    for width in (-1.0, float("inf")):
        with pytest.raises(InputError, match="ramp is"):
            hole_ramp(cells, width)


def test_confidence_scales_by_its_power_over_what_is_seen() -> None:
    visible = torch.ones(1, 1, 8, 8)
    visible[0, 0, :2, :4] = 0  # half of the first cell
    confidence = torch.full((1, 1, 8, 8), 0.25)
    confidence[0, 0, 4:, 4:] = 1
    warps = make_warps(visible, confidence)
    for exponent, low in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.25), (2.0, 0.0625)):
        hard = cell_weights(warps, 4, MaskOptions("hard", confidence=exponent))
        torch.testing.assert_close(hard[0, 0], torch.tensor([[low, low], [low, 1.0]]))
        soft = cell_weights(warps, 4, MaskOptions(confidence=exponent))
        torch.testing.assert_close(soft[0, 0], torch.tensor([[0.5 * low, low], [low, 1.0]]))


def test_unknown_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="mask 'blurred' is not known; use one of hard, soft"):
        MaskOptions("blurred")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="confidence is -1"):
        MaskOptions(confidence=-1)
    with pytest.raises(ConfigError, match="cell_coverage is 2"):
        MaskOptions(cell_coverage=2)
    with pytest.raises(InputError, match="mask is 8x8, which 3 does not divide"):
        cell_weights(make_warps(torch.ones(1, 1, 8, 8)), 3)
