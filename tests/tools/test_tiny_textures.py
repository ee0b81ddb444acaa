"""Images like photographs, made from nothing."""

import pytest
import torch

from tools.tiny.textures import blur, noise_field, textured_clips


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clips_follow_from_the_seed() -> None:
    clips = textured_clips(2, 3, 32, generator())
    assert clips.shape == (2, 3, 3, 32, 32)
    assert clips.dtype == torch.uint8
    assert torch.equal(clips, textured_clips(2, 3, 32, generator()))
    assert not torch.equal(clips, textured_clips(2, 3, 32, generator(1)))
    assert textured_clips(0, 3, 32, generator()).shape == (0, 3, 3, 32, 32)


def test_clips_have_contrast_and_neighbouring_frames_are_alike() -> None:
    clips = textured_clips(6, 2, 48, generator()).float() / 255
    assert clips.flatten(1).std(1).min() > 0.03
    assert (clips.diff(dim=1).abs().mean()) < 0.5 * (clips - clips.roll(1, 0)).abs().mean()


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.5])
def test_noise_has_the_spectrum_asked_for(slope: float) -> None:
    field = torch.stack([noise_field(128, slope, generator(seed))[0] for seed in range(8)])
    power = torch.fft.rfft2(field).abs().square().mean(0)
    frequency = torch.fft.fftfreq(128)
    radius = (frequency[:, None] ** 2 + frequency[:65].abs() ** 2).sqrt()
    low, high = (power[(radius > r / 1.2) & (radius < r * 1.2)].mean() for r in (0.05, 0.4))
    assert float((low / high).log() / torch.tensor(8.0).log()) == pytest.approx(2 * slope, abs=0.3)


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    picture = torch.rand(3, 64, 64, generator=generator())
    soft = blur(picture, 2.0)
    assert soft.mean() == pytest.approx(float(picture.mean()), abs=0.01)
    assert soft.std() < 0.3 * picture.std()
    assert torch.equal(blur(picture, 0.0), picture)
