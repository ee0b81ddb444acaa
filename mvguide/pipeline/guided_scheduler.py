"""Guidance for those who have their own diffusers script: a scheduler that steps with the guided estimate.

One line turns a stock script into a guided one::

    pipe.scheduler = GuidedScheduler(pipe.scheduler, targets, table)
"""

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mvguide.backbones.schedulers import StockScheduler, stock_scheduler
from mvguide.backbones.stock_solver import copy_scheduler
from mvguide.diffusion.path import FlowMatching, NoisePath
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.diffusion.solvers import Step
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.guides import Guide, PosteriorGradient, make_guide
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable

MODEL = "in this pipeline"  # the scheduler does not know which


class GuidedScheduler:
    """A diffusers scheduler whose ``step`` draws the clean estimate towards the targets, by the table's row.

    The object is an instance of the scheduler's own class as well, with the same methods and signatures. Where the
    weight is 0 it does exactly what the scheduler did; where it is 1 everywhere the video ends at the targets. Layouts
    ``[B, F, C, h, w]`` and ``[B, C, F, h, w]`` are told apart by the targets' shape. Leading latent frames that the
    pipeline keeps to itself and never steps (LTX, HunyuanVideo's ``token_replace``) are left out of targets and table.

    Args:
        scheduler: of a known class (``mvguide.backbones.schedulers.SCHEDULERS``); it stays as it is. A guided one is
            guided anew.
        targets: latent frames in the units of the pipeline's latents, as its VAE and its normalisation make them.
        table: ``[N, F]`` for the schedule of the run; or one weight in [0, 1] for all levels and frames but the first,
            which then has weight 1.
        guide: ``blend``, ``top_share`` or ``none``, or a guide with options that edits the estimate alone.

    Raises:
        ModelError: a scheduler that mvguide does not know.
        InputError: a table that does not fit the targets, or, in ``set_timesteps``, the schedule; in ``step``, latents
            that do not fit the targets.
        ConfigError: a guide that needs the network itself, or a pipeline that calls ``step`` in a way of its own.
    """

    if TYPE_CHECKING:  # what it has depends on the scheduler

        def __getattr__(self, name: str) -> Any: ...

    is_guided = True
    stock_class: Any

    def __new__(cls, scheduler: Any = None, *arguments: Any, **options: Any) -> Any:
        """An instance of a class made for the scheduler's."""
        if cls is not GuidedScheduler:
            return object.__new__(cls)  # a copy
        known = stock_scheduler(getattr(scheduler, "stock", scheduler), MODEL)
        stock = type(known.scheduler)
        body = {
            "__doc__": stock.__doc__,
            "__module__": stock.__module__,  # a saved pipeline names the stock class
            "stock_class": stock,
            "step": _wrap_step(stock),
            "set_timesteps": _wrap_set_timesteps(stock),
        }
        return object.__new__(type(stock.__name__, (GuidedScheduler, stock), body))

    def __init__(
        self, scheduler: Any, targets: Targets, table: LambdaTable | float, guide: str | Guide = "blend"
    ) -> None:
        self.stock = getattr(scheduler, "stock", scheduler)
        self.guidance = _Guidance(stock_scheduler(self.stock, MODEL), targets, table, make_guide(guide))
        vars(self).update(vars(copy_scheduler(self.stock)))

    @classmethod
    def from_config(cls, *arguments: Any, **options: Any) -> Any:
        """A stock scheduler of this configuration, without guidance."""
        return cls.stock_class.from_config(*arguments, **options)


class _Guidance:
    """What a guided scheduler adds to one step."""

    def __init__(self, known: StockScheduler, targets: Targets, table: LambdaTable | float, guide: Guide) -> None:
        if isinstance(guide, PosteriorGradient):
            raise ConfigError(
                "posterior_gradient needs the network, and a scheduler sees only what it said; use blend or top_share, "
                "or mvguide.MultiViewPipeline"
            )
        frames = len(targets.latents)
        if isinstance(table, LambdaTable) and table.num_frames != frames:
            raise InputError(
                f"lambda table has {table.num_frames} columns, but the targets have {frames} latent frames; give a "
                "table of one column for each"
            )
        self.known, self.targets, self.guide = known, targets, guide
        self.given = table
        self.schedule: SigmaSchedule | None = None
        self.table: LambdaTable | None = None

    def start(self, scheduler: Any) -> None:
        """Take over a schedule that was just set."""
        frames = len(self.targets.latents)
        self.schedule = self.known.read(scheduler)
        if isinstance(self.given, LambdaTable):
            self.given.check(self.schedule, frames)
            self.table = self.given
        else:
            self.table = LambdaTable.constant(self.given, self.schedule, frames)

    def edit(self, scheduler: Any, output: Tensor, timestep: Tensor, sample: Tensor) -> "_Edit":
        """What the scheduler should be told instead of the network's output; all in the sample's layout."""
        if self.schedule is None or self.table is None:
            raise InputError("a guided scheduler steps after set_timesteps; call it first")
        index = self.known.index(scheduler, timestep)
        step = Step(index, len(self.schedule), self.schedule.sigmas[index], self.schedule.sigmas[index + 1])
        path, kind = self.known.path, self.known.prediction
        wide = torch.promote_types(sample.dtype, torch.float32)
        estimate = path.to_denoised(output.to(wide), sample.to(wide), step.sigma, kind)
        layout = _Layout.of(sample, self.targets, path)
        self.targets = targets = Targets(
            self.targets.latents.to(estimate),
            self.targets.visible.to(estimate),
            self.targets.pinned.to(estimate.device),
        )
        x, video = layout.video(sample.to(wide), targets), layout.video(estimate, targets)
        guided = self.guide(_Known(video, x, step.sigma, path), x, step, targets, self.table)
        if guided.x is not x:
            raise ConfigError("this guide moves x, which only the pipeline can; use blend or top_share")
        denoised = layout.back(guided.denoised)
        # An output is linear in the estimate: where the estimate is left alone the output stays as it was, bit for bit.
        change = path.from_denoised(denoised - estimate, torch.zeros_like(estimate), step.sigma, kind)
        return _Edit(
            output + change.to(output.dtype), denoised, denoised != estimate, is_last=bool(step.sigma_next == 0)
        )


@dataclass(frozen=True)
class _Edit:
    """Edited output of the network, the guided estimate, where it differs, and whether the step ends at sigma 0."""

    output: Tensor
    denoised: Tensor
    changed: Tensor
    is_last: bool


@dataclass(frozen=True)
class _Known:
    """A denoiser that knows one answer: what the network said at this step."""

    denoised: Tensor
    x: Tensor
    sigma: Tensor
    path: NoisePath

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate, at the x and sigma that it belongs to."""
        if x is not self.x or sigma != self.sigma:
            raise ConfigError("this guide asks the network again, which only the pipeline can; use blend or top_share")
        return self.denoised


@dataclass(frozen=True)
class _Layout:
    """How a pipeline's latents lie: where the frames are, and how many before them it keeps to itself."""

    frame_axis: int
    held: int

    @classmethod
    def of(cls, sample: Tensor, targets: Targets, path: NoisePath) -> "_Layout":
        """Layout of a sample. Raises InputError unless it fits the targets."""
        frames, channels, *cells = targets.latents.shape
        fitting = []
        # Both may fit: flow-matching models have channels first, and SVD and CogVideoX frames.
        for axis in (2, 1) if isinstance(path, FlowMatching) else (1, 2):
            if sample.ndim == 5 and [sample.shape[3 - axis], *sample.shape[3:]] == [channels, *cells]:
                held = frames - sample.shape[axis]
                if held == 0 or (held > 0 and held == _frames_before(sample, axis)):
                    return cls(axis, held)
                fitting.append(sample.shape[axis])
        if fitting:
            raise InputError(
                f"the pipeline denoises {fitting[0]} latent frames, but the targets have {frames}; make targets and "
                "table for the frames that it denoises (some denoise one more at the start, and leave it out)"
            )
        raise InputError(
            f"the pipeline denoises latents of shape {tuple(sample.shape)}, but the targets are {frames} frames of "
            f"{channels} channels, {cells[0]} x {cells[1]} cells; both must have the same size, and packed tokens "
            "cannot be guided"
        )

    def video(self, latents: Tensor, targets: Targets) -> Tensor:
        """As guides take it, ``[B, F, C, h, w]``; frames that the pipeline keeps are at their targets."""
        video = latents.movedim(self.frame_axis, 1)
        if not self.held:
            return video
        return torch.cat([targets.latents[: self.held].expand(len(video), -1, -1, -1, -1), video], dim=1)

    def back(self, video: Tensor) -> Tensor:
        """As the pipeline has it."""
        return video[:, self.held :].movedim(1, self.frame_axis)


def _frames_before(sample: Tensor, axis: int) -> int:
    """Frames of which a pipeline cut off the sample, as ``latents[:, :, 1:]``: the memory still holds them."""
    before, rest = divmod(int(sample.storage_offset()), max(sample.stride(axis), 1))
    whole = sample.untyped_storage().nbytes() // sample.element_size() * sample.shape[axis]
    return before if rest == 0 and whole == sample.numel() * (sample.shape[axis] + before) else 0


def _wrap_step(stock: type) -> Any:
    signature = inspect.signature(stock.step)  # type: ignore[attr-defined]

    @functools.wraps(stock.step)  # type: ignore[attr-defined]
    def step(self: Any, *arguments: Any, **options: Any) -> Any:
        call = signature.bind(self, *arguments, **options)
        given = call.arguments
        if given.get("per_token_timesteps") is not None:
            raise ConfigError(
                "this pipeline (LTXConditionPipeline is one) gives each token a timestep of its own and the negated "
                "prediction, which cannot be guided; use LTXImageToVideoPipeline"
            )
        if given.get("s_churn"):
            raise ConfigError(
                f"s_churn is {given['s_churn']:g}: it adds noise before the estimate is made; leave it at 0"
            )
        edit = self.guidance.edit(self, given["model_output"], given["timestep"], given["sample"])
        given["model_output"] = edit.output
        result = stock.step(*call.args, **call.kwargs)  # type: ignore[attr-defined]
        if not edit.is_last:
            return result
        # Every known scheduler ends at the estimate, up to the rounding of its way there.
        ended = torch.where(edit.changed, edit.denoised.to(result[0].dtype), result[0])
        if isinstance(result, tuple):
            return (ended, *result[1:])
        result.prev_sample = ended
        return result

    return step


def _wrap_set_timesteps(stock: type) -> Any:
    @functools.wraps(stock.set_timesteps)  # type: ignore[attr-defined]
    def set_timesteps(self: Any, *arguments: Any, **options: Any) -> None:
        stock.set_timesteps(self, *arguments, **options)  # type: ignore[attr-defined]
        self.guidance.start(self)

    return set_timesteps
