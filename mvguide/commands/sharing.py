"""What renders of one process have in common, so that it is read, loaded and computed once."""

import gc
import inspect
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from mvguide.backbones.acceleration import AccelerationOptions
from mvguide.backbones.base import Backbone
from mvguide.commands.job import Job, Plan, load_model
from mvguide.commands.speaking import Say
from mvguide.config.input_options import InputConfig
from mvguide.config.render_options import ModelOptions, RenderConfig
from mvguide.decoding import is_file
from mvguide.errors import MvguideError
from mvguide.files.atomic import atomic_path
from mvguide.guidance.guides import GUIDES
from mvguide.guidance.targets import MaskOptions
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.pipeline.calibration import CALIBRATION
from mvguide.pipeline.pipeline import MultiViewPipeline
from mvguide.pipeline.prepare import Context
from mvguide.tables.table import LambdaTable

_MODEL = {"model", *inspect.signature(ModelOptions).parameters, *inspect.signature(AccelerationOptions).parameters}
_MODEL -= {"chunk"}
_PATH = ("trajectory", "num_frames", "width", "height", "hole_radius")
# What is not named here counts: with an option that it does not know, a key is too strict, not too loose.
_NOT_OF_THE_INPUTS = (*_PATH, "fps", "model", "quiet")
_NOT_OF_THE_CONTEXT = ("guidance", "solver", "checkpoint_every", "resume", "out", "quiet")
_GUIDES_OPTIONS = {name for guide in GUIDES.values() for name in inspect.signature(guide).parameters}
_NOT_OF_THE_TABLE = {"kind", "preset", "resample", "resample_until", *_GUIDES_OPTIONS} - set(
    inspect.signature(MaskOptions).parameters
)


class Shared:
    """The model, the inputs, the context and its tables of the last render, for the next one that has the same.

    Nothing older is kept: memory does not grow with the number of renders. What is used again is what would be made
    again, so a result is the same with and without.
    """

    def __init__(self) -> None:
        self._model: tuple[str, MultiViewPipeline] | None = None
        self._failed: dict[str, MvguideError] = {}
        self._inputs: tuple[str, Inputs] | None = None
        self._context: tuple[str, Context] | None = None
        self._tables: dict[str, tuple[LambdaTable, Path]] = {}

    def inputs(self, config: InputConfig, say: Say) -> Inputs:
        """The inputs of settings; see :func:`mvguide.inputs.loading.load_inputs`."""
        key = inputs_key(config)
        if self._inputs is None or self._inputs[0] != key:
            self._inputs = None  # make room first
            self._inputs = key, load_inputs(config, say)
        return self._inputs[1]

    def available(self, device: torch.device) -> int | None:
        """Memory of a GPU that a render can take: what is free, and what its model has, or the one that it replaces."""
        if device.type != "cuda":
            return None
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)

    def load(self, plan: Plan) -> Job:
        """The job of a plan, with its model."""
        return plan.load(self.load_model(plan.config))

    def load_model(self, config: RenderConfig) -> MultiViewPipeline:
        """The model of settings. One that could not be loaded is not tried again."""
        key = _key(config, _MODEL)
        if key in self._failed:
            raise type(self._failed[key])(str(self._failed[key]))
        if self._model is not None and self._model[0] != key:
            self.forget()
            self._model = None
            free_memory_of_models()
        if self._model is None:
            try:
                self._model = key, load_model(config)
            except MvguideError as error:
                self._failed[key] = error
                raise
        return self._model[1]

    @property
    def backbone(self) -> Backbone | None:
        """The network that is loaded."""
        return None if self._model is None else self._model[1].backbone

    def context(self, job: Job) -> Context:
        """The context of a job: the last one, one with its warps and encoded targets, or a new one."""
        key, last = _key(job.config, _NOT_OF_THE_CONTEXT, without=True), self._context
        if last is not None and last[1].views is not job.inputs.views:
            last = None
            self.forget()
        if last is None or last[0] != key or not _is_of(last[1], job):
            self._tables.clear()
            self._context = key, job.context(None if last is None else last[1])
            return self._context[1]
        last[1].seconds.clear()  # they are in the report of the job before
        return last[1]

    def table(self, job: Job, context: Context) -> LambdaTable | None:
        """The table of a job, which may have been made for an earlier one with the same context."""
        options = asdict(job.config.guidance)
        key = repr([(name, value) for name, value in options.items() if name not in _NOT_OF_THE_TABLE])
        known = self._tables.get(key) if job.config.guidance.kind != "none" and job.given is None else None
        if known is None:
            table = job.table(context)
            if table is not None and self._context is not None and context is self._context[1]:
                self._tables[key] = table, Path(job.config.out)
            return table
        table, folder = known
        if table.source.startswith("calibrated") and is_file(folder / CALIBRATION) and folder != Path(job.config.out):
            with atomic_path(Path(job.config.out) / CALIBRATION) as temporary:
                shutil.copyfile(folder / CALIBRATION, temporary)
        return table

    def forget(self) -> None:
        """Drop the context and its tables: after a failure, and before another model."""
        self._context = None
        self._tables.clear()

    def keep_model(self) -> None:
        """Drop everything but the model; one that could not be loaded is tried again."""
        self.forget()
        self._inputs = None
        self._failed.clear()


def inputs_key(config: InputConfig) -> str:
    """What reading the inputs depends on."""
    known = inspect.signature(InputConfig).parameters
    return _key(config, [name for name in known if name not in _NOT_OF_THE_INPUTS])


def in_order(configs: Sequence[RenderConfig]) -> list[list[int]]:
    """Groups of settings that have model, inputs and path in common, by number; those of one model side by side.

    Within a group, those that have a context in common are side by side. Otherwise the order stays.
    """
    keys = [
        (
            _key(config, _MODEL),
            inputs_key(config),
            _key(config, _PATH),
            _key(config, _NOT_OF_THE_CONTEXT, without=True),
        )
        for config in configs
    ]
    ranks: list[dict[str, int]] = [{} for _ in range(4)]
    for key in keys:
        for rank, part in zip(ranks, key, strict=True):
            rank.setdefault(part, len(rank))
    ranked = [tuple(rank[part] for rank, part in zip(ranks, key, strict=True)) for key in keys]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in sorted(range(len(configs)), key=lambda number: ranked[number]):
        groups.setdefault(ranked[number][:3], []).append(number)
    return list(groups.values())


def free_memory_of_models() -> None:
    """Give memory of what is no longer used back, that of the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_of(context: Context, job: Job) -> bool:
    size = context.trajectory.width, context.trajectory.height
    moments = job.inputs.moments(len(job.trajectory))
    return context.backbone is job.pipe.backbone and context.has_warps_of(
        job.inputs.views, job.trajectory, size, moments, context.hole_radius
    )


def _key(config: InputConfig, names: Collection[str], without: bool = False) -> str:
    """Settings by name, or all but these, as a text."""
    return repr([(name, value) for name, value in sorted(vars(config).items()) if (name in names) != without])
