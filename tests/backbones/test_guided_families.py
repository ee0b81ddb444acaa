"""Every family's stock pipeline with a guided scheduler."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline

from mvguide import Blend, GuidedScheduler, LambdaTable, TopShare
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.guides import Guide
from mvguide.guidance.targets import Targets
from tests.backbones.tiny_families import FAMILIES, HEIGHT, WIDTH, picture, run

PUT_IN = {"ltx": 1, "ltx_noisy_decoder": 1, "hunyuan_replace": 1, "wan22_5b": 1, "wan22_5b_euler": 1}
"""Latent frames at the start that the pipeline puts in itself: it does not step them, or overwrites them at the end."""
LEFT_OUT = {"hunyuan_concat": 1}
"""Latent frames at the start that the pipeline denoises, and leaves out of the latents that it returns."""

each_kind = pytest.mark.parametrize("kind", FAMILIES)


@pytest.fixture
def pipe(kind: str, tiny_pipeline: Callable[[str], Any]) -> Iterator[Any]:
    pipe = tiny_pipeline(kind)
    scheduler = pipe.scheduler
    yield pipe
    pipe.scheduler = scheduler


def latents(kind: str, pipe: Any, **changes: Any) -> torch.Tensor:
    """What the pipeline returns as latents, ``[B, L, C, h, w]``."""
    returned = run(kind, pipe, output_type="latent", **changes)
    if kind.startswith("ltx"):
        family = FAMILIES[kind]
        returned = pipe._unpack_latents(returned, family.latent_frames, HEIGHT // family.factor, WIDTH // family.factor)
    return returned if kind.startswith("cogvideox") else returned.movedim(2, 1)


def targets(kind: str, plain: torch.Tensor, more: int = 0) -> Targets:
    """Random targets, all seen, for a pipeline that returned these latents."""
    _, frames, channels, *cells = plain.shape
    frames += LEFT_OUT.get(kind, 0) + more
    values = torch.randn(frames, channels, *cells, generator=torch.Generator().manual_seed(3))
    return Targets(values, torch.ones(frames, 1, *cells), torch.zeros(frames, dtype=torch.bool))


def full(scheduler: Any, weight: float) -> LambdaTable:
    """One weight everywhere, on the schedule that the guided scheduler had last."""
    levels = scheduler.guidance.schedule.levels
    return LambdaTable(torch.full((len(levels), len(scheduler.guidance.targets.latents)), weight), levels)


@each_kind
def test_without_weight_nothing_changes_and_with_it_the_video_is_the_target(kind: str, pipe: Any) -> None:
    stock, plain = pipe.scheduler, latents(kind, pipe)
    given = targets(kind, plain)
    pipe.scheduler = GuidedScheduler(stock, given, 1.0)
    whole = latents(kind, pipe)
    kept = PUT_IN.get(kind, 0)
    assert torch.equal(whole[0, kept:], given.latents[LEFT_OUT.get(kind, 0) + kept :])
    torch.testing.assert_close(whole[:, :kept], plain[:, :kept], atol=1e-6, rtol=0)
    pipe.scheduler = GuidedScheduler(stock, given, full(pipe.scheduler, 0.0))
    assert torch.equal(latents(kind, pipe), plain)
    pipe.scheduler = GuidedScheduler(stock, given, 1.0, "none")
    assert torch.equal(latents(kind, pipe), plain)


@pytest.mark.parametrize(
    ("kind", "videos"),
    # The stock pipelines of the others cannot make two videos of one prompt at this version.
    [("wan21", 1), ("wan22_a14b", 2), ("cogvideox_dpm", 1), ("ltx", 2), ("hunyuan_replace", 1)],
)
@pytest.mark.parametrize("guide", [Blend(), TopShare()], ids=["blend", "top_share"])
def test_half_the_weight_comes_nearer_to_the_target(kind: str, videos: int, pipe: Any, guide: Guide) -> None:
    plain = latents(kind, pipe, num_videos_per_prompt=videos)
    given = targets(kind, plain)
    pipe.scheduler = GuidedScheduler(pipe.scheduler, given, 0.5, guide)
    guided = latents(kind, pipe, num_videos_per_prompt=videos)
    assert len(guided) == videos
    far, near = ((values - given.latents).abs().mean(dim=(2, 3, 4)) for values in (plain, guided))
    assert bool((near[:, 1:] < 0.9 * far[:, 1:]).all())
    assert bool((near[:, 1:] > 0).all())
    assert videos == 1 or not torch.equal(guided[0], guided[1])


@each_kind
@pytest.mark.parametrize("more", [-2, 1])
def test_targets_of_another_number_of_frames_are_refused(kind: str, more: int, pipe: Any) -> None:
    pipe.scheduler = GuidedScheduler(pipe.scheduler, targets(kind, latents(kind, pipe), more), 0.5)
    with pytest.raises(InputError, match="make targets and table for the frames that it denoises"):
        run(kind, pipe)


@pytest.mark.parametrize("kind", ["cogvideox_dpm"])
def test_cogvideox_dpm_keeps_its_generator(kind: str, pipe: Any) -> None:
    given = targets(kind, latents(kind, pipe))
    pipe.scheduler = GuidedScheduler(pipe.scheduler, given, 0.5)
    results = [run(kind, pipe, seed=seed, output_type="latent") for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("kind", ["ltx"])
def test_ltx_condition_is_refused(kind: str, pipe: Any) -> None:
    components = pipe.components | {"scheduler": FlowMatchEulerDiscreteScheduler()}
    other: Any = LTXConditionPipeline(**components)
    other.set_progress_bar_config(disable=True)
    given = targets(kind, latents(kind, pipe))
    other.scheduler = GuidedScheduler(other.scheduler, given, 0.5)
    with pytest.raises(ConfigError, match="use LTXImageToVideoPipeline"):
        other(image=picture(), prompt="a", height=HEIGHT, width=WIDTH, num_frames=17, num_inference_steps=2)
