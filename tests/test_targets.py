"""Targets: what guidance aims at, and where it may."""

import torch

from mvguide.targets import encode_targets
from mvguide.warps import Warps


class MeanBackbone:
    """Encodes by averaging 4 x 4 pixels."""

    factor = 4
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
    warps = Warps(image * visible, visible, pinned, torch.zeros(3), nothing, nothing, torch.ones(1, 3))
    targets = encode_targets(MeanBackbone(), warps)  # type: ignore[arg-type]
    assert targets.latents.shape == (3, 3, 4, 4)
    assert targets.visible[1, 0, 0, 0] == 0
    assert targets.visible.sum() == 3 * 16 - 1
    torch.testing.assert_close(targets.latents[2], torch.nn.functional.avg_pool2d(image[2:], 4)[0])
    assert (targets.latents[1, :, 0, 1] - image[1, :, :4, 4:8].mean((1, 2))).abs().max() < 0.1, "filled, not black"
