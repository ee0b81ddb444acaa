"""What mvguide knows of diffusers' schedulers: noise path, kind of prediction, levels and timesteps of each class.

All of it is declared here, class by class, and a class that is not listed is refused. The schedulers themselves keep
their noise in different units (a ratio to the signal, a share, a row of a table): here it is the sigma of the path.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvguide.backbones.stock_solver import ALTERNATIVES, StockSolver, copy_scheduler
from mvguide.diffusion.path import DiscreteVP, FlowMatching, NoisePath, Prediction, VarianceExploding
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import FirstOrder, Solver
from mvguide.errors import ConfigError, InputError, ModelError

FIRST_ORDER = ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "DDIMScheduler", "CogVideoXDDIMScheduler")
"""Schedulers whose step is :func:`mvguide.diffusion.solvers.first_order`; they step between any levels."""
PREDICTIONS: dict[str, Prediction] = {"v_prediction": "v", "epsilon": "epsilon", "sample": "denoised"}


class StockScheduler(ABC):
    """A diffusers scheduler, read: what it samples on, where its steps are, and what the network is told at a level.

    Args:
        scheduler: the stock scheduler; it is copied for every schedule, and stays as it is.
        model: name of the model, for messages.

    Raises:
        ModelError: for a configuration that mvguide cannot follow.
    """

    path: NoisePath
    prediction: Prediction

    def __init__(self, scheduler: Any, model: str) -> None:
        self.scheduler = scheduler
        self.model = model
        self.name = type(scheduler).__name__
        self.num_train_timesteps = int(scheduler.config.num_train_timesteps)
        self._made: list[tuple[Any, Tensor]] = []  # a scheduler for each schedule, with its levels

    @abstractmethod
    def levels(self, scheduler: Any) -> Tensor:
        """Sigmas of the path ``[N + 1]``, float64, of a scheduler of this class whose timesteps are set."""

    @abstractmethod
    def continuous_timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told at any sigma: the formula behind the scheduler's own timesteps."""

    def schedule(self, num_steps: int, **arguments: Any) -> SigmaSchedule:
        """Sigmas that the scheduler gives for this number of steps, in the unit of the path.

        Args:
            num_steps: N, at least 1.
            arguments: for the scheduler's ``set_timesteps``, as the model's stock pipeline passes them (``sigmas``,
                ``mu``, ``device``).

        Raises:
            InputError: a number of steps that the scheduler cannot take to sigma 0.
            ModelError: arguments that the scheduler does not take.
        """
        scheduler = self.prepared(num_steps, **arguments)
        schedule = self.read(scheduler)
        self._made = [(scheduler, schedule.levels)] + [
            made for made in self._made if not torch.equal(made[1], schedule.levels)
        ]
        return schedule

    def solver(self, schedule: SigmaSchedule) -> Solver:
        """The scheduler's own steps: :class:`FirstOrder` where they are that, else the scheduler itself.

        Args:
            schedule: one that :meth:`schedule` made; any for schedulers of first order.

        Raises:
            ConfigError: a schedule of other levels.
        """
        stochastic = self.scheduler.config.get("stochastic_sampling", False)
        return FirstOrder() if self.name in FIRST_ORDER and not stochastic else self.stock_solver(schedule)

    def stock_solver(self, schedule: SigmaSchedule) -> StockSolver:
        """The scheduler itself as a solver, whatever its order; arguments and errors as for :meth:`solver`."""
        for scheduler, levels in self._made:
            if torch.equal(levels, schedule.levels):
                return StockSolver(scheduler, levels, self.prediction)
        raise ConfigError(
            f"{self.name} of model {self.model} steps only through levels that it made itself, and {schedule.name} has "
            f"others; leave sigmas to the model, or {ALTERNATIVES}"
        )

    def prepared(self, num_steps: int, **arguments: Any) -> Any:
        """A copy of the scheduler with its timesteps set; arguments as for :meth:`schedule`."""
        if num_steps < 1:
            raise InputError(f"num_steps is {num_steps}; a schedule needs at least 1 step")
        scheduler = copy_scheduler(self.scheduler)
        missing = [name for name in arguments if name not in inspect.signature(scheduler.set_timesteps).parameters]
        if missing:
            raise ModelError(
                f"{self.name} takes no {' or '.join(missing)}, which model {self.model} needs; give the model a "
                "FlowMatchEulerDiscreteScheduler or UniPCMultistepScheduler"
            )
        if "sigmas" in arguments:
            arguments["sigmas"] = np.asarray(arguments["sigmas"], dtype=np.float64)  # some classes take no list
        elif "timesteps" not in arguments:
            arguments["num_inference_steps"] = num_steps
        try:
            scheduler.set_timesteps(**arguments)
        except ValueError as error:
            raise InputError(f"{self.name} of model {self.model} cannot take {num_steps} steps: {error}") from error
        return scheduler

    def read(self, scheduler: Any) -> SigmaSchedule:
        """Schedule of a scheduler of this class whose timesteps are set. Raises as :meth:`schedule`."""
        return SigmaSchedule(self.levels(scheduler), name=f"{self.model} scheduler")

    def timestep(self, sigma: Tensor) -> Tensor:
        """What the network is told at a sigma, 0-d.

        At a level of a schedule that was made here it is the scheduler's own value, in its dtype and on its device;
        elsewhere it is :meth:`continuous_timestep` in float32.
        """
        sigma = torch.as_tensor(sigma, dtype=torch.float64).cpu()
        for scheduler, levels in self._made:
            nearest = int((levels - sigma).abs().argmin())
            if torch.isclose(levels[nearest], sigma, rtol=1e-9, atol=0):
                return scheduler.timesteps[nearest]
        return self.continuous_timestep(sigma).float()

    def index(self, scheduler: Any, timestep: Tensor) -> int:
        """Which step a scheduler of this class will do next, given the timestep that its ``step`` gets."""
        if hasattr(scheduler, "step_index"):
            if scheduler.step_index is None:
                scheduler._init_step_index(timestep)  # as its own step does
            return int(scheduler.step_index)
        places = (scheduler.timesteps.cpu() == torch.as_tensor(timestep).cpu()).nonzero()
        if not len(places):
            raise InputError(f"timestep {timestep} is not one of those that {self.name} has set")
        return int(places[0])


class _Euler(StockScheduler):
    """``x = x0 + sigma n``; the network sees ``x / sqrt(sigma^2 + 1)`` and ``log(sigma) / 4``, or a step of a table."""

    def __init__(self, scheduler: Any, model: str) -> None:
        super().__init__(scheduler, model)
        self.prediction = _prediction(scheduler, model, PREDICTIONS)
        self.path = VarianceExploding(t_max=float(scheduler.config.get("sigma_max") or scheduler.sigmas.max()))
        kinds = scheduler.config.get("timestep_type"), scheduler.config.prediction_type
        self._is_continuous = kinds == ("continuous", "v_prediction")
        table = scheduler.alphas_cumprod.double().cpu()
        self._log_table = ((1 - table) / table).sqrt().log()

    def levels(self, scheduler: Any) -> Tensor:
        """As they are."""
        return scheduler.sigmas.double().cpu()

    def continuous_timestep(self, sigma: Tensor) -> Tensor:
        """``log(sigma) / 4``, or the place in the table of log sigmas."""
        if self._is_continuous:
            return 0.25 * sigma.log()
        return _place(self._log_table, sigma.log())


class _Flow(StockScheduler):
    """``x = (1 - sigma) x0 + sigma n``; the network is told sigma times the number of training steps."""

    path = FlowMatching()
    prediction: Prediction = "flow"

    def levels(self, scheduler: Any) -> Tensor:
        """As they are; refused if they are not shares of noise."""
        sigmas = scheduler.sigmas.double().cpu()
        if bool((sigmas > 1).any()):
            raise ModelError(
                f"model {self.model} has {self.name} with sigmas up to {float(sigmas.max()):.3g}, but flow matching "
                "ends at 1; leave out use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and use_lu_lambdas"
            )
        return sigmas

    def continuous_timestep(self, sigma: Tensor) -> Tensor:
        """``sigma T``."""
        return sigma * self.num_train_timesteps


class _Table(StockScheduler):
    """``x = alpha x0 + sqrt(1 - alpha^2) n`` with alpha from a table; the network is told the step of the table."""

    path: DiscreteVP

    def __init__(self, scheduler: Any, model: str) -> None:
        super().__init__(scheduler, model)
        self.prediction = _prediction(scheduler, model, PREDICTIONS)
        table = scheduler.alphas_cumprod.clone()
        if scheduler.config.get("rescale_betas_zero_snr"):
            table[-1] = 0  # some classes write 2^-24, which can lie above the level before it
        self.path = DiscreteVP(table)

    def levels(self, scheduler: Any) -> Tensor:
        """Levels of its timesteps. Refused where the scheduler's steps do not lead from each to the next, and to 0."""
        if not self._arrives(scheduler):
            self._refuse(scheduler)
        return torch.cat([self.path.levels[scheduler.timesteps.cpu()], torch.zeros(1, dtype=torch.float64)])

    def continuous_timestep(self, sigma: Tensor) -> Tensor:
        """Fractional step of the table."""
        return _place(self.path.levels, sigma)

    def _arrives(self, scheduler: Any) -> bool:
        """Whether each step ends where the next begins; these schedulers always step by ``T // N``."""
        ends = scheduler.timesteps.cpu() - self.num_train_timesteps // scheduler.num_inference_steps
        return bool((ends[:-1] == scheduler.timesteps[1:].cpu()).all()) and int(ends[-1]) < 0

    def _refuse(self, scheduler: Any) -> None:
        steps, total = int(scheduler.num_inference_steps), self.num_train_timesteps
        if scheduler.config.timestep_spacing == "linspace":
            raise ModelError(
                f"{self.name} of model {self.model} has timestep_spacing 'linspace', with which its steps do not lead "
                f"from each to the next; use {self.name}.from_config(scheduler.config, timestep_spacing='trailing')"
            )
        nearest = [
            next((n for n in counts if self._arrives(self.prepared(n))), None)
            for counts in (range(steps - 1, 0, -1), range(steps + 1, total + 1))
        ]
        counts = " or ".join(str(n) for n in nearest if n is not None)
        raise InputError(
            f"{self.name} of model {self.model} would not end at sigma 0 with {steps} steps, since they do not divide "
            f"its {total} training steps evenly; use {counts} steps"
        )


class _SigmaTable(_Table):
    """The same path, by a scheduler that keeps ``sigma / alpha`` and steps to it from any level."""

    def levels(self, scheduler: Any) -> Tensor:
        """``s / sqrt(1 + s^2)``."""
        ratios = scheduler.sigmas.double().cpu()
        return ratios / (1 + ratios**2).sqrt()


def _multistep(scheduler: Any, model: str) -> StockScheduler:
    """UniPC and DPM-Solver++ sample on a table, or on flow matching if they are told so."""
    if not scheduler.config.get("use_flow_sigmas"):
        return _SigmaTable(scheduler, model)
    _prediction(scheduler, model, {"flow_prediction": "flow"})
    return _Flow(scheduler, model)


SCHEDULERS: dict[str, tuple[Callable[[Any, str], StockScheduler], dict[str, Any]]] = {
    "EulerDiscreteScheduler": (_Euler, {"final_sigmas_type": "zero"}),
    "FlowMatchEulerDiscreteScheduler": (_Flow, {"invert_sigmas": False}),
    "UniPCMultistepScheduler": (
        _multistep,
        {
            "final_sigmas_type": "zero",
            "thresholding": False,
            "predict_x0": True,
            "lower_order_final": True,
            "solver_p": None,
        },
    ),
    "DPMSolverMultistepScheduler": (
        _multistep,
        {"final_sigmas_type": "zero", "thresholding": False, "variance_type": None},
    ),
    "DDIMScheduler": (_Table, {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True}),
    "CogVideoXDDIMScheduler": (_Table, {"set_alpha_to_one": True}),
    "CogVideoXDPMScheduler": (_Table, {"set_alpha_to_one": True}),
}
"""How each class of scheduler is read, and the settings under which its last step gives the clean estimate itself."""


def stock_scheduler(scheduler: Any, model: str) -> StockScheduler:
    """What mvguide knows of a diffusers scheduler.

    Args:
        scheduler: of exactly one of the classes in :data:`SCHEDULERS`; a subclass may do anything else.
        model: name of the model, for messages.

    Raises:
        ModelError: a class or a configuration that mvguide does not know.
    """
    name = type(scheduler).__name__
    if getattr(scheduler, "is_guided", False):
        raise ModelError(
            f"model {model} has a GuidedScheduler, and would be guided twice; give it its own scheduler: "
            "pipe.scheduler = pipe.scheduler.stock"
        )
    if name not in SCHEDULERS:
        raise ModelError(
            f"model {model} has the scheduler {name}, which mvguide does not know; give it one of "
            f"{', '.join(SCHEDULERS)}"
        )
    read, needed = SCHEDULERS[name]
    for setting, value in needed.items():
        found = scheduler.config.get(setting, value)
        if found != value:
            raise ModelError(
                f"model {model} has a {name} with {setting} {found!r}, with which it cannot end at the clean estimate; "
                f"use {name}.from_config(scheduler.config, {setting}={value!r})"
            )
    return read(scheduler, model)


def _prediction(scheduler: Any, model: str, known: dict[str, Prediction]) -> Prediction:
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in known:
        raise ModelError(
            f"model {model} has a {type(scheduler).__name__} with prediction_type {kind!r}; its noise path goes with "
            f"{' or '.join(known)}"
        )
    return known[kind]


def _place(rising: Tensor, value: Tensor) -> Tensor:
    """Fractional index of a value in a rising row, held to its ends."""
    high = torch.searchsorted(rising, value).clamp(1, len(rising) - 1)
    share = (value - rising[high - 1]) / (rising[high] - rising[high - 1])
    return (high - 1 + share).clamp(0, len(rising) - 1)
