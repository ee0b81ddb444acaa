"""Stock schedulers are read as they are: levels of the path, timesteps of the network, and refusals."""

from typing import Any

import diffusers
import pytest
import torch

from mvguide.backbones.schedulers import StockScheduler, stock_scheduler
from mvguide.diffusion.path import DiscreteVP, FlowMatching, VarianceExploding
from mvguide.errors import InputError, ModelError

SVD = {
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
}
COGVIDEOX = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "svd": (diffusers.EulerDiscreteScheduler, SVD),
    "euler": (diffusers.EulerDiscreteScheduler, {"prediction_type": "epsilon"}),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
    "unipc flow": (diffusers.UniPCMultistepScheduler, FLOW),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "dpm flow": (diffusers.DPMSolverMultistepScheduler, FLOW),
    "dpm": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpm zero": (diffusers.DPMSolverMultistepScheduler, ZERO_SNR),
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "cogvideox ddim": (diffusers.CogVideoXDDIMScheduler, COGVIDEOX),
    "cogvideox dpm": (diffusers.CogVideoXDPMScheduler, COGVIDEOX),
}
each_case = pytest.mark.parametrize("case", CASES)


def known(case: str, **changes: Any) -> StockScheduler:
    kind, config = CASES[case]
    return stock_scheduler(kind(**{**config, **changes}), "m")


def alphas(scheduler: Any, index: int) -> tuple[float, float]:
    """Signal and noise factors at a step, from what the scheduler itself uses."""
    if hasattr(scheduler, "alphas_cumprod") and not hasattr(scheduler, "sigmas"):
        square = float(scheduler.alphas_cumprod[scheduler.timesteps[index]])
        return square**0.5, (1 - square) ** 0.5
    sigma = scheduler.sigmas[index].double()
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(sigma)
        return float(alpha), float(sigma)
    flow = isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
    return 1 - float(sigma) if flow else 1.0, float(sigma)


@each_case
def test_levels_are_the_sigmas_of_the_path(case: str) -> None:
    kind, config = CASES[case]
    scheduler = kind(**config)
    scheduler.set_timesteps(10)
    reader = stock_scheduler(kind(**config), "m")
    schedule = reader.schedule(10)
    assert len(schedule) == 10
    for index, level in enumerate(schedule.levels):
        alpha, sigma = alphas(scheduler, index)
        assert float(level) == pytest.approx(sigma, rel=1e-7)
        assert float(reader.path.alpha(level)) == pytest.approx(alpha, rel=1e-5, abs=1e-7)


@each_case
def test_at_its_levels_the_network_is_told_what_the_stock_scheduler_says(case: str) -> None:
    kind, config = CASES[case]
    scheduler = kind(**config)
    scheduler.set_timesteps(10)
    reader = stock_scheduler(kind(**config), "m")
    for level, expected in zip(reader.schedule(10).levels, scheduler.timesteps, strict=True):
        told = reader.timestep(level)
        assert told.dtype == expected.dtype
        assert told.shape == ()
        assert told == expected


@each_case
def test_between_its_levels_timesteps_follow_the_same_formula(case: str) -> None:
    reader = known(case)
    levels = reader.schedule(50).levels[5:-5]
    coarse = known(case)
    told = torch.stack([coarse.timestep(level) for level in levels])
    expected = torch.stack([reader.timestep(level) for level in levels])
    # UniPC and DPM-Solver cut off the fraction.
    torch.testing.assert_close(
        told, expected.float(), atol=1.0 if "flow" in case and case != "flow" else 2e-3, rtol=1e-5
    )
    halves = (levels[1:] + levels[:-1]) / 2
    between = torch.stack([reader.timestep(level) for level in halves])
    assert bool((between < told[:-1]).all())
    assert bool((between > told[1:]).all())


def test_paths_and_predictions() -> None:
    assert isinstance(known("svd").path, VarianceExploding)
    assert known("svd").prediction == "v"
    assert known("euler", prediction_type="sample").prediction == "denoised"
    assert isinstance(known("flow").path, FlowMatching)
    assert known("unipc flow").prediction == "flow"
    assert isinstance(known("cogvideox dpm").path, DiscreteVP)


def test_cogvideox_starts_without_signal() -> None:
    reader = known("cogvideox ddim")
    schedule = reader.schedule(10)
    assert schedule.sigmas[0] == 1
    assert reader.path.alpha(schedule.sigmas[0]) == 0


@pytest.mark.parametrize("case", ["flow", "unipc flow"])
def test_arguments_of_the_pipeline_are_passed_on(case: str) -> None:
    reader = known(case)
    schedule = reader.schedule(2, sigmas=[1.0, 0.5], device="cpu")
    torch.testing.assert_close(schedule.sigmas, torch.tensor([1, 0.75, 0], dtype=torch.float64), atol=2e-6, rtol=0)


def test_the_scheduler_stays_as_it_is() -> None:
    scheduler = diffusers.UniPCMultistepScheduler(**FLOW)
    before = dict(vars(scheduler))
    stock_scheduler(scheduler, "m").schedule(7)
    assert all(value is before[name] for name, value in vars(scheduler).items())


@pytest.mark.parametrize(
    ("steps", "nearest"), [(6, "5 or 8"), (300, "250 or 500"), (3, "2 or 4"), (999, "500 or 1000")]
)
@pytest.mark.parametrize("case", ["cogvideox ddim", "cogvideox dpm"])
def test_steps_that_would_end_above_zero_are_refused_with_the_nearest(case: str, steps: int, nearest: str) -> None:
    with pytest.raises(InputError, match=f"use {nearest} steps"):
        known(case).schedule(steps)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("ddim", {"clip_sample": True}, "clip_sample=False"),
        ("ddim", {"thresholding": True}, "thresholding=False"),
        ("cogvideox ddim", {"set_alpha_to_one": False}, "set_alpha_to_one=True"),
        ("flow", {"invert_sigmas": True}, "invert_sigmas=False"),
        ("unipc flow", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='zero'"),
        ("unipc flow", {"lower_order_final": False}, "lower_order_final=True"),
        ("unipc flow", {"prediction_type": "v_prediction"}, "flow_prediction"),
        ("unipc", {"prediction_type": "flow_prediction"}, "epsilon"),
        ("dpm flow", {"prediction_type": "epsilon"}, "flow_prediction"),
        ("euler", {"final_sigmas_type": "sigma_min"}, "final_sigmas_type='zero'"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(case: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        known(case, **changes)


def test_an_unknown_class_is_refused_by_name_even_if_it_is_a_subclass() -> None:
    class Shifted(diffusers.DDIMScheduler):
        pass

    for scheduler in (diffusers.LCMScheduler(), Shifted()):
        with pytest.raises(ModelError, match=f"{type(scheduler).__name__}.*FlowMatchEulerDiscreteScheduler"):
            stock_scheduler(scheduler, "m")


def test_bad_requests_are_one_sentence() -> None:
    with pytest.raises(InputError, match="at least 1"):
        known("flow").schedule(0)
    with pytest.raises(InputError, match="mu"):
        known("flow", use_dynamic_shifting=True).schedule(4)
    with pytest.raises(ModelError, match="takes no sigmas"):
        known("dpm flow").schedule(4, sigmas=[1.0])
    with pytest.raises(ModelError, match="trailing"):
        known("cogvideox ddim", timestep_spacing="linspace").schedule(4)
    with pytest.raises(ModelError, match="use_karras_sigmas"):
        known("dpm flow", use_karras_sigmas=True).schedule(4)
