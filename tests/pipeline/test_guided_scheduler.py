"""A guided scheduler in a stock script: nothing changes without weight, and with it all is as in mvguide's own loop."""

import copy
import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline

import mvguide
from mvguide import Blend, GuidedScheduler, LambdaTable, PosteriorGradient, TopShare
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.schedulers import stock_scheduler
from mvguide.backbones.svd import SvdBackbone
from mvguide.diffusion.sampler import initial_noise, sample
from mvguide.diffusion.solvers import Guided
from mvguide.errors import ConfigError, InputError, ModelError
from mvguide.guidance.guides import Guide, bind
from mvguide.guidance.targets import Targets
from tests.backbones.test_schedulers import CASES, SVD, each_case
from tests.backbones.test_svd import FRAMES, HEIGHT, WIDTH, as_tensor, picture, stock
from tests.backbones.tiny_svd import build_pipeline

STEPS = 5
CELLS = (FRAMES, 4, HEIGHT // 2, WIDTH // 2)


@pytest.fixture
def pipe() -> Any:
    return build_pipeline()


def targets(shape: tuple[int, ...] = CELLS, *, pinned: bool = False, seen: float | None = None) -> Targets:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(shape, generator=generator)
    visible = (
        torch.rand(shape[0], 1, *shape[2:], generator=generator) if seen is None else torch.full_like(latents, seen)
    )
    pins = torch.zeros(shape[0], dtype=torch.bool)
    pins[0] = pinned
    return Targets(latents, visible[:, :1], pins)


def table(scheduler: Any, frames: int = FRAMES, steps: int = STEPS, weight: float | None = None) -> LambdaTable:
    schedule = stock_scheduler(scheduler, "m").schedule(steps)
    weights = torch.linspace(0.9, 0.1, steps * frames).view(steps, frames)
    return LambdaTable(weights if weight is None else torch.full_like(weights, weight), schedule.levels)


def test_it_is_the_scheduler_in_everything_but_its_step(pipe: Any) -> None:
    scheduler = pipe.scheduler
    guided: Any = GuidedScheduler(scheduler, targets(), table(scheduler))
    assert isinstance(guided, diffusers.EulerDiscreteScheduler)
    assert isinstance(guided, GuidedScheduler)
    assert guided.config == scheduler.config
    for method in ("step", "set_timesteps"):
        assert inspect.signature(getattr(guided, method)) == inspect.signature(getattr(scheduler, method))


@pytest.mark.parametrize("guide", ["none", "no weight"])
def test_without_guidance_the_video_is_the_same_bit_for_bit(pipe: Any, guide: str) -> None:
    expected = stock(pipe, 7, num_inference_steps=STEPS)
    known = table(pipe.scheduler, weight=0.0 if guide == "no weight" else None)
    pipe.scheduler = GuidedScheduler(pipe.scheduler, targets(), known, "none" if guide == "none" else Blend())
    assert torch.equal(stock(pipe, 7, num_inference_steps=STEPS), expected)


@pytest.mark.parametrize("guide", [Blend(), TopShare(floor=0.2), Blend(hole_weight=0.3)], ids=["blend", "top", "holes"])
def test_equals_the_loop_of_mvguide(pipe: Any, guide: Guide) -> None:
    backbone, scheduler = SvdBackbone(pipe, "test"), pipe.scheduler
    schedule, known = backbone.schedule(STEPS), table(scheduler)
    generator = torch.Generator().manual_seed(7)
    condition = backbone.prepare(as_tensor(picture()), ConditioningOptions(FRAMES), generator)
    x = initial_noise(backbone.latent_shape(FRAMES, HEIGHT, WIDTH), backbone.path, schedule, generator)
    with torch.no_grad():
        ours = sample(backbone.denoiser(condition), x, schedule, guidance=bind(guide, targets(pinned=True), known))
    pipe.scheduler = GuidedScheduler(scheduler, targets(pinned=True), known, guide)
    theirs = stock(pipe, 7, num_inference_steps=STEPS)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    assert torch.equal(theirs[0, 0], targets().latents[0])  # the pinned first frame


def test_weight_one_ends_exactly_at_the_targets_for_every_video_of_a_batch(pipe: Any) -> None:
    pipe.scheduler = GuidedScheduler(pipe.scheduler, targets(seen=1.0), table(pipe.scheduler, weight=1.0))
    latents = stock(pipe, 7, num_inference_steps=STEPS, num_videos_per_prompt=2)
    assert torch.equal(latents, targets().latents.expand(2, *CELLS))


def test_one_number_is_a_table_with_the_first_frame_at_one(pipe: Any) -> None:
    scheduler = pipe.scheduler
    constant = LambdaTable.constant(0.4, stock_scheduler(scheduler, "m").schedule(STEPS), FRAMES)
    results = []
    for given in (0.4, constant):
        pipe.scheduler = GuidedScheduler(scheduler, targets(), given)
        results.append(stock(pipe, 7, num_inference_steps=STEPS))
    assert torch.equal(*results)


def test_the_same_scheduler_serves_run_after_run_and_can_be_guided_anew(pipe: Any) -> None:
    first = GuidedScheduler(pipe.scheduler, targets(), 0.4)
    pipe.scheduler = first
    results = [stock(pipe, 7, num_inference_steps=steps) for steps in (STEPS, 3, STEPS)]
    assert torch.equal(results[0], results[2])
    pipe.scheduler = GuidedScheduler(pipe.scheduler, targets(), table(first.stock, weight=0.0))
    assert pipe.scheduler.stock is first.stock
    unguided = stock(pipe, 7, num_inference_steps=STEPS)
    pipe.scheduler = first.stock
    assert torch.equal(unguided, stock(pipe, 7, num_inference_steps=STEPS))


def test_copies_are_guided_and_configurations_are_not(pipe: Any, tmp_path: Path) -> None:
    guided = GuidedScheduler(pipe.scheduler, targets(), 0.4)
    pipe.scheduler = guided
    expected = stock(pipe, 7, num_inference_steps=STEPS)
    pipe.scheduler = copy.deepcopy(guided)
    assert torch.equal(stock(pipe, 7, num_inference_steps=STEPS), expected)
    assert type(type(guided).from_config(guided.config)) is diffusers.EulerDiscreteScheduler
    pipe.save_pretrained(tmp_path)
    assert type(DiffusionPipeline.from_pretrained(tmp_path).scheduler) is diffusers.EulerDiscreteScheduler


def run(scheduler: Any, frames_first: bool, held: int = 0) -> torch.Tensor:
    """A stock loop around a network that says nothing; returns the last latents, frames first."""
    generator = torch.Generator().manual_seed(0)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(2, FRAMES, *CELLS[1:], generator=generator)
    x = x if frames_first else x.movedim(1, 2).contiguous()
    before = None
    for index, timestep in enumerate(scheduler.timesteps):
        part = x[:, held:] if frames_first else x[:, :, held:]
        output = 0.1 * part
        if "old_pred_original_sample" in inspect.signature(scheduler.step).parameters:
            last = scheduler.timesteps[index - 1] if index else None
            part, before = scheduler.step(output, before, timestep, last, part, generator=generator)
        else:
            part = scheduler.step(output, timestep, part, return_dict=False)[0]
        x = torch.cat([x[:, :held], part], 1) if frames_first else torch.cat([x[:, :, :held], part], 2)
    return x if frames_first else x.movedim(2, 1)


@pytest.mark.parametrize("frames_first", [True, False])
@each_case
def test_every_known_scheduler_with_either_layout(case: str, frames_first: bool) -> None:
    kind, config = CASES[case]
    scheduler = kind(**config)
    expected = run(copy.deepcopy(scheduler), frames_first)
    weightless = GuidedScheduler(scheduler, targets(), table(scheduler, weight=0.0))
    assert torch.equal(run(weightless, frames_first), expected)
    full = GuidedScheduler(scheduler, targets(seen=1.0), table(scheduler, weight=1.0))
    assert torch.equal(run(full, frames_first), targets().latents.expand(2, *CELLS))
    half = run(GuidedScheduler(scheduler, targets(), 0.5), frames_first)
    assert torch.isfinite(half).all()
    assert not torch.allclose(half, expected)


@pytest.mark.parametrize("frames_first", [True, False])
def test_leading_frames_that_the_pipeline_keeps_are_left_out(frames_first: bool) -> None:
    kind, config = CASES["flow"]
    scheduler = kind(**config)
    kept = run(GuidedScheduler(scheduler, targets(), table(scheduler)), frames_first, held=1)
    rest = Targets(targets().latents[1:], targets().visible[1:], targets().pinned[1:])
    columns = LambdaTable(table(scheduler).weights[:, 1:], table(scheduler).sigmas)
    assert torch.equal(run(GuidedScheduler(scheduler, rest, columns), frames_first, held=1), kept)
    with pytest.raises(InputError, match="1 latent frames, but the targets have 2"):
        run(GuidedScheduler(scheduler, rest, columns), frames_first, held=2)


def test_where_both_layouts_fit_flow_matching_has_channels_first() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    square = targets((4, 4, 2, 2))
    weights = torch.zeros(1, 4)
    weights[0, 1] = 1  # frame 1 alone
    guided = GuidedScheduler(scheduler, square, LambdaTable(weights, torch.tensor([1.0])))
    guided.set_timesteps(1)
    x = torch.randn(1, 4, 4, 2, 2)
    after = guided.step(torch.zeros_like(x), guided.timesteps[0], x, return_dict=False)[0]
    changed = (after != x).flatten(3).any(-1)[0]
    assert changed.all(dim=0).tolist() == [False, True, False, False]  # over channels, which come first


def test_low_precision_stays_low() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    guided = GuidedScheduler(scheduler, targets(seen=1.0), table(scheduler, weight=1.0))
    guided.set_timesteps(STEPS)
    x = torch.randn(1, *CELLS, dtype=torch.bfloat16).movedim(1, 2)
    for timestep in guided.timesteps:
        x = guided.step(torch.zeros_like(x), timestep, x).prev_sample
        assert x.dtype == torch.bfloat16
    assert torch.equal(x.movedim(2, 1)[0], targets().latents.bfloat16())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": targets((FRAMES + 1, *CELLS[1:]))}, "targets have 4"),
        ({"table": table(diffusers.EulerDiscreteScheduler(**SVD), frames=2)}, "2 columns"),
        ({"table": table(diffusers.EulerDiscreteScheduler(**SVD), steps=4)}, "4 rows"),
        ({"table": table(diffusers.EulerDiscreteScheduler())}, "made for sigmas"),
        ({"targets": targets((FRAMES, 4, 3, 3))}, "3 x 3 cells"),
        ({"table": 1.5}, "weight is 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(pipe: Any, given: dict[str, Any], message: str) -> None:
    def script() -> None:
        arguments: dict[str, Any] = {"targets": targets(), "table": 0.5} | given
        pipe.scheduler = GuidedScheduler(pipe.scheduler, **arguments)
        stock(pipe, 7, num_inference_steps=STEPS)

    with pytest.raises(InputError, match=message):
        script()


def test_guides_that_need_the_network_are_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match="posterior_gradient needs the network"):
        GuidedScheduler(pipe.scheduler, targets(), 0.5, PosteriorGradient())
    scheduler = pipe.scheduler

    def move(denoiser: Any, x: torch.Tensor, step: Any, targets: Any, table: Any) -> Guided:
        return Guided(x + 1, denoiser(x, step.sigma))

    def ask_again(denoiser: Any, x: torch.Tensor, step: Any, targets: Any, table: Any) -> Guided:
        return Guided(x, denoiser(x + 1, step.sigma))

    for guide, message in ((move, "moves x"), (ask_again, "asks the network again")):
        pipe.scheduler = GuidedScheduler(scheduler, targets(), 0.5, guide)
        with pytest.raises(ConfigError, match=message):
            stock(pipe, 7, num_inference_steps=STEPS)


def test_steps_that_would_be_silently_wrong_are_refused(pipe: Any) -> None:
    flow = GuidedScheduler(diffusers.FlowMatchEulerDiscreteScheduler(), targets(), 0.5)
    x = torch.randn(1, *CELLS).movedim(1, 2)
    with pytest.raises(InputError, match="after set_timesteps"):
        flow.step(x, flow.timesteps[0], x)
    flow.set_timesteps(STEPS)
    with pytest.raises(ConfigError, match="LTXConditionPipeline"):
        flow.step(x, flow.timesteps[0], x, per_token_timesteps=torch.ones(1, 5))
    with pytest.raises(InputError, match="packed tokens"):
        flow.step(x[..., 0, 0], flow.timesteps[0], x[..., 0, 0])
    euler = GuidedScheduler(pipe.scheduler, targets(), 0.5)
    euler.set_timesteps(STEPS)
    with pytest.raises(ConfigError, match="s_churn"):
        euler.step(x, euler.timesteps[0], x, s_churn=1.0)
    with pytest.raises(ModelError, match="LCMScheduler"):
        GuidedScheduler(diffusers.LCMScheduler(), targets(), 0.5)
    kind, config = CASES["cogvideox ddim"]
    with pytest.raises(InputError, match="use 5 or 8 steps"):
        GuidedScheduler(kind(**config), targets(), 0.5).set_timesteps(6)


def test_mvguide_does_not_guide_twice(pipe: Any) -> None:
    with pytest.raises(ModelError, match="pipe.scheduler.stock"):
        stock_scheduler(GuidedScheduler(pipe.scheduler, targets(), 0.5), "m")


def test_it_is_public() -> None:
    assert mvguide.GuidedScheduler is GuidedScheduler
