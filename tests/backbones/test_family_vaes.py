"""Which latent frames a frame reaches in each family's VAE, and which frames a latent frame: grouping and leaks."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from tests.backbones.tiny_families import FAMILIES, HEIGHT, WIDTH, run

Pipelines = Callable[[str], Any]
RELATIVE = 1e-6

STRICT = [("wan21", 17), ("wan22_5b", 17), ("ltx", 25), ("hunyuan15", 17)]
"""Encoders that see no later frame: frame j reaches latent frame ceil(j / ratio) first."""

LEAKS = {
    # GroupNorm over the frames of a chunk: the first of 9 (and of what 8 does not divide), the others of 8 frames.
    ("cogvideox", 17): {0: 0, 1: 0, 4: 0, 5: 0, 8: 0, 9: 3, 12: 3, 13: 3, 16: 3},
    ("cogvideox", 21): {1: 0, 9: 0, 12: 0, 13: 4, 20: 4},
    # GroupNorm over all frames. Beyond 17 of them the VAE encodes pieces of 17 that begin 12 apart, each as a video of
    # its own, so that the later latent frames depend on nothing before their piece.
    ("hunyuan_replace", 17): {0: 0, 1: 0, 8: 0, 9: 0, 16: 0},
    ("hunyuan_replace", 33): {1: 0, 16: 0, 17: 5, 28: 5, 29: 8, 32: 8},
}
"""Encoders that do: where a frame gets first."""


def first_latents(vae: Any, frames: int, changed: Iterable[int]) -> dict[int, int]:
    """The first latent frame that changes with each of the ``changed`` frames."""
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, frames, HEIGHT, WIDTH, generator=generator) * 2 - 1
    firsts = {}
    with torch.no_grad():
        latents = vae.encode(video).latent_dist.mode()
        for j in changed:
            other = video.clone()
            other[:, :, j] = torch.rand(3, HEIGHT, WIDTH, generator=generator) * 2 - 1
            change = (vae.encode(other).latent_dist.mode() - latents).abs().amax((0, 1, 3, 4))
            firsts[j] = int((change > RELATIVE * latents.std()).int().argmax())
    return firsts


def first_frames(vae: Any, kind: str, latent_frames: int) -> list[int]:
    """First frame that changes with each of the latent frames."""
    family = FAMILIES[kind]
    generator = torch.Generator().manual_seed(0)
    shape = (1, family.channels, latent_frames, HEIGHT // family.factor, WIDTH // family.factor)
    latents = torch.randn(shape, generator=generator)
    firsts = []
    with torch.no_grad():
        frames = vae.decode(latents).sample
        assert frames.shape == (1, 3, (latent_frames - 1) * family.ratio + 1, HEIGHT, WIDTH)
        for i in range(latent_frames):
            other = latents.clone()
            other[:, :, i] = torch.randn(latents[:, :, i].shape, generator=generator)
            change = (vae.decode(other).sample - frames).abs().amax((0, 1, 3, 4))
            firsts.append(int((change > RELATIVE * frames.std()).int().argmax()))
    return firsts


@pytest.mark.parametrize(("kind", "frames"), STRICT)
def test_a_frame_reaches_its_own_latent_frame_first(kind: str, frames: int, tiny_pipeline: Pipelines) -> None:
    ratio = FAMILIES[kind].ratio
    ends = [j for j in range(frames) if j % ratio in (0, 1)]  # the first and the last frame of each latent frame
    assert first_latents(tiny_pipeline(kind).vae, frames, ends) == {j: -(-j // ratio) for j in ends}


@pytest.mark.parametrize(("kind", "frames"), list(LEAKS))
def test_known_leaks_into_earlier_latent_frames(kind: str, frames: int, tiny_pipeline: Pipelines) -> None:
    expected = LEAKS[kind, frames]
    assert first_latents(tiny_pipeline(kind).vae, frames, expected) == expected


@pytest.mark.parametrize(
    ("kind", "firsts"),
    [
        ("wan21", [0, 1, 5, 9, 13]),
        ("wan22_5b", [0, 1, 5, 9, 13]),
        ("hunyuan15", [0, 1, 5, 9, 13]),
        ("cogvideox", [0, 0, 0, 9, 9]),  # three latent frames, then two by two
        ("hunyuan_replace", [0, 0, 0, 0, 0]),
        ("ltx", [0, 0, 0, 0, 0]),  # the decoder looks ahead
    ],
)
def test_where_a_latent_frame_is_seen_first(kind: str, firsts: list[int], tiny_pipeline: Pipelines) -> None:
    assert first_frames(tiny_pipeline(kind).vae, kind, 5) == firsts


def test_stills_do_not_replace_a_video(tiny_pipeline: Pipelines) -> None:
    """Neither the last nor the mean of its frames' own latents is a latent frame: a video is encoded whole."""
    for kind in ("wan21", "wan22_5b", "cogvideox", "ltx", "hunyuan_replace", "hunyuan15"):
        vae, ratio = tiny_pipeline(kind).vae, FAMILIES[kind].ratio
        picture = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 2 - 1
        video = torch.stack([picture.roll(shift, -1) for shift in range(ratio + 1)], dim=1)[None]
        with torch.no_grad():
            latent = vae.encode(video).latent_dist.mode()[0, :, 1]
            stills = torch.cat([vae.encode(frame).latent_dist.mode()[:, :, 0] for frame in video.split(1, dim=2)[1:]])
        for still in (stills[-1], stills.mean(0)):
            assert (latent - still).std() > 0.2 * latent.std(), kind


def test_the_vae_of_hunyuan15_takes_one_video_at_a_time(tiny_pipeline: Pipelines) -> None:
    vae = tiny_pipeline("hunyuan15").vae
    for call, shape in ((vae.encode, (2, 3, 5, HEIGHT, WIDTH)), (vae.decode, (2, 32, 2, 2, 4))):
        with pytest.raises(RuntimeError, match="broadcast shape"), torch.no_grad():
            call(torch.zeros(shape))


def test_the_noisy_decoder_of_ltx_draws_from_the_global_generator(tiny_pipeline: Pipelines) -> None:
    pipe = tiny_pipeline("ltx_noisy_decoder")
    latents = torch.randn(1, 128, 2, 1, 2, generator=torch.Generator().manual_seed(0))

    def decode(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return pipe.vae.decode(latents, torch.tensor([0.05])).sample

    assert torch.equal(decode(0), decode(0))
    assert (decode(0) - decode(1)).abs().max() > 1e-3
    with pytest.raises((TypeError, AttributeError)), torch.no_grad():
        pipe.vae.decode(latents)  # it must be told how much noise is left
    run_without = run("ltx_noisy_decoder", pipe, decode_timestep=0.0)
    assert not torch.equal(run("ltx_noisy_decoder", pipe, decode_timestep=0.05), run_without)
