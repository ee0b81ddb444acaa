"""A diffusers scheduler as a solver: its ``step`` takes mvguide's guided estimate, and a copy of it is the state."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mvguide.diffusion.path import NoisePath, Prediction
from mvguide.diffusion.solvers import Evaluate, Noise, Step
from mvguide.errors import ConfigError

ALTERNATIVES = "use solver euler, heun or dpmpp_2m"


@dataclass(frozen=True)
class StockState:
    """The scheduler as the last step left it, and that step's estimate."""

    scheduler: Any
    denoised: Tensor | None = None


@dataclass(frozen=True, repr=False)
class StockSolver:
    """Steps of a stock scheduler, on the schedule that it made itself.

    The guided estimate is turned back into what the network would have said, and the scheduler's own ``step`` does the
    rest. It is called on a copy, so that an older state stays valid; fresh noise comes from the run's generator. The
    last step, to sigma 0, is the estimate itself: every known scheduler ends there, up to rounding.

    Args:
        scheduler: of a known class, with its timesteps set; made by ``StockScheduler.solver``.
        levels: ``[N]`` its sigmas, in the unit of the path.
        prediction: what its network predicts.
    """

    scheduler: Any
    levels: Tensor
    prediction: Prediction
    evaluations: int = 1

    def __repr__(self) -> str:
        """One line: the scheduler and its settings."""
        config = {name: value for name, value in self.scheduler.config.items() if not name.startswith("_")}
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in config.items())})"

    @property
    def name(self) -> str:
        """Class of the scheduler."""
        return type(self.scheduler).__name__

    @property
    def order(self) -> int:
        """Order of convergence; 1 for solvers that add noise. UniPC's corrector adds one to the order of its steps."""
        config = self.scheduler.config
        if self.name == "UniPCMultistepScheduler":
            return int(config.solver_order) + 1
        if self.name == "DPMSolverMultistepScheduler" and config.algorithm_type == "dpmsolver++":
            return int(config.solver_order)
        return 1

    def init(self) -> StockState:
        """The scheduler before its first step."""
        scheduler = copy_scheduler(self.scheduler)
        if hasattr(scheduler, "is_scale_input_called"):
            scheduler.is_scale_input_called = True  # the denoiser scales; without it each step prints a warning
        return StockState(scheduler)

    def step(
        self, evaluate: Evaluate, x: Tensor, step: Step, path: NoisePath, state: StockState, noise: Noise
    ) -> tuple[Tensor, StockState, Tensor]:
        """One evaluation, and the scheduler's own update.

        Raises:
            ConfigError: another schedule than the scheduler's own, or a guide that moves x under a scheduler that goes
                back on its last step.
        """
        self._check(step)
        guided = evaluate(x, step.sigma)
        if step.sigma_next == 0:
            return guided.denoised, state, guided.denoised
        scheduler = copy_scheduler(state.scheduler)
        if getattr(scheduler, "step_index", 0) is None:
            scheduler.set_begin_index(step.index)
        elif guided.x is not x and self.name == "UniPCMultistepScheduler":
            raise ConfigError(
                "UniPCMultistepScheduler corrects each x by its own last step, and would undo what posterior_gradient "
                f"moved; {ALTERNATIVES}"
            )
        output = path.from_denoised(guided.denoised, guided.x, step.sigma, self.prediction)
        timestep = scheduler.timesteps[step.index]
        arguments: tuple[Any, ...] = (output, timestep, guided.x)
        if self.name == "CogVideoXDPMScheduler":
            before = scheduler.timesteps[step.index - 1] if state.denoised is not None else None
            arguments = (output, state.denoised, timestep, before, guided.x)
        with _NoiseFrom(noise):
            following = scheduler.step(*arguments, return_dict=False)[0]
        return following, StockState(scheduler, guided.denoised), guided.denoised

    def pack(self, state: StockState) -> dict[str, Tensor]:
        """The last estimate, and all that steps have changed in the scheduler: numbers, tensors, and lists of these.

        Raises:
            ConfigError: a scheduler that keeps something else.
        """
        packed = {} if state.denoised is None else {"denoised": state.denoised}
        fresh = vars(self.init().scheduler)
        for name, value in vars(state.scheduler).items():
            if isinstance(value, list):
                packed |= {f"item.{name}.{place}": item for place, item in enumerate(value) if item is not None}
            elif isinstance(value, int) and value != fresh.get(name):
                packed[f"number.{name}"] = torch.tensor(value)
            elif not isinstance(value, int) and value is not fresh.get(name):
                packed[f"tensor.{name}"] = value
        others = [name for name, value in packed.items() if not isinstance(value, Tensor)]
        if others:
            raise ConfigError(f"{self.name} keeps {', '.join(others)}, which cannot be written; {ALTERNATIVES}")
        return packed

    def unpack(self, tensors: dict[str, Tensor], device: torch.device) -> StockState:
        """The scheduler as it was."""
        scheduler, denoised = self.init().scheduler, None
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "denoised":
                denoised = tensor.to(device)
            elif kind == "tensor":
                setattr(scheduler, name, tensor.to(device))
            elif kind == "number":
                setattr(scheduler, name, int(tensor))
            else:
                name, _, place = name.partition(".")
                getattr(scheduler, name)[int(place)] = tensor.to(device)
        return StockState(scheduler, denoised)

    def _check(self, step: Step) -> None:
        own = len(self.levels) == step.num_steps and bool(
            torch.isclose(self.levels[step.index], step.sigma.double().cpu(), rtol=1e-6, atol=0)
        )
        if not own:
            raise ConfigError(
                f"{self.name} steps only through the {len(self.levels)} levels that it made itself, and this schedule "
                f"has others; leave the schedule to the model, or {ALTERNATIVES}"
            )


class _NoiseFrom(TorchFunctionMode):
    """Context in which ``torch.randn`` is the run's noise: schedulers draw on their own, and take no noise."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.randn:
            return self.noise()
        return function(*args, **(kwargs or {}))


def copy_scheduler(scheduler: Any) -> Any:
    """Copy that can be stepped on its own: schedulers replace their tensors, and change only lists in place."""
    twin = copy.copy(scheduler)
    for name, value in vars(scheduler).items():
        if isinstance(value, list):
            setattr(twin, name, list(value))
    return twin
