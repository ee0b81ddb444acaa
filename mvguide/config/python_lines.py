"""From settings to the lines of Python that do the same, with the public names alone."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any

from mvguide.config.input_options import (
    CropOptions,
    DepthOptions,
    LensOptions,
    SourceOptions,
    TrajectoryOptions,
    ViewOptions,
)
from mvguide.config.render_options import RenderConfig

_CONDITIONING = (
    *("motion_bucket_id", "noise_aug_strength", "cfg_min", "cfg_max", "cfg_chunked"),
    *("negative_prompt", "embedded_guidance", "warp_condition"),
)


def python_lines(config: RenderConfig, num_frames: int) -> str:
    """Lines of Python that render the same video as ``mvguide render`` with these settings.

    Args:
        config: of the render.
        num_frames: F; the settings may leave it to the model.

    Returns:
        A program that uses the public names of mvguide alone. It has the settings of the inputs, the path, the model,
        steps, seed, prompt and size; guidance, tables and solver are the model's own.
    """
    conditioning = _call(
        "ConditioningOptions",
        {"num_frames": num_frames, "fps": config.fps, "prompt": config.prompt}
        | {name: value for name in _CONDITIONING if (value := getattr(config, name)) != _defaults()[name]},
    )
    sources = [_record(kind, config) for kind in (SourceOptions, DepthOptions, LensOptions, CropOptions)]
    path = config.trajectory if config.trajectory.kind in (None, "file") else replace(config.trajectory, file=None)
    model = {name: getattr(config, name) for name in ("device", "dtype", "variant", "offload")}
    loaded = {name: value for name, value in model.items() if value != _defaults()[name]}
    optional = {
        "size": None if config.width is None else (config.width, config.height),
        "hole_radius": config.hole_radius or 0,
        "chunk": config.chunk,
    }
    lines = [
        "import torch",
        "",
        "import mvguide",
        "",
        "inputs = mvguide.load_views(",
        *(f"    {source}," for source in _without_empty_end(sources)),
        ")",
        f"trajectory = inputs.trajectory({_record(TrajectoryOptions, path)}, {num_frames})",
        f"pipe = mvguide.MultiViewPipeline.from_pretrained({', '.join([repr(config.model), *_keywords(loaded)])})",
        "result = pipe(",
        "    inputs.views,",
        "    trajectory,",
        f"    moments=inputs.moments({num_frames}),",
        *([] if config.steps is None else [f"    schedule={config.steps},"]),
        '    solver="model",',
        f"    conditioning={conditioning},",
        *(f"    {word}," for word in _keywords({name: value for name, value in optional.items() if value})),
        f"    generator=torch.Generator().manual_seed({config.seed}),",
        ")",
        f"result.save({config.out!r}, fps={config.fps})",
    ]
    return "\n".join(lines) + "\n"


def _defaults(kind: type = RenderConfig) -> dict[str, Any]:
    """Default of every setting that has one."""
    found = {}
    for field in fields(kind):
        found[field.name] = field.default_factory() if field.default_factory is not MISSING else field.default
    return found


def _record(kind: type, settings: Any) -> str:
    """Settings of one record as a call of its class; a scene is written out."""
    given = {
        field.name: getattr(settings, field.name)
        for field in fields(kind)
        if field.name != "scene" and getattr(settings, field.name) != _defaults(kind)[field.name]
    }
    return _call(kind.__name__, given)


def _call(name: str, given: Mapping[str, Any]) -> str:
    return f"mvguide.{name}({', '.join(_keywords({key: value for key, value in given.items() if value is not None}))})"


def _keywords(given: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_literal(value)}" for name, value in given.items()]


def _literal(value: Any) -> str:
    if isinstance(value, ViewOptions):
        return _record(ViewOptions, value)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _without_empty_end(calls: list[str]) -> list[str]:
    """Arguments without the last ones that have nothing in them."""
    while len(calls) > 1 and calls[-1].endswith("()"):
        calls = calls[:-1]
    return calls
