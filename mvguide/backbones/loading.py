"""Find and load a backbone by name: the embedded one, a folder, or a hub id."""

import json
import logging
import textwrap
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from mvguide.backbones.base import Backbone, ModelNotes
from mvguide.decoding import is_file, is_folder
from mvguide.errors import ConfigError, ModelError

EMBEDDED = {"tiny": Path(str(files("mvguide"))) / "backbones" / "assets" / "tiny"}
"""Models that come with the package, by name."""


def find_model(name: str | Path) -> Path:
    """Folder of an embedded model, or the name as a path."""
    return EMBEDDED.get(str(name), Path(name))


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(device: str = "auto") -> torch.device:
    """``auto`` = CUDA where there is one, else the CPU. Raises ConfigError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is not known; use auto, cpu, cuda or cuda:0") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for, but this torch sees no CUDA device; use auto or cpu")
    return chosen


def load_backbone(
    name: str | Path, *, device: str = "auto", dtype: str = "auto", variant: str | None = None, offload: bool = False
) -> Backbone:
    """Load a model: ``tiny`` (embedded), a folder in diffusers layout, or a hub id.

    Args:
        name: anything that ``StableVideoDiffusionPipeline.from_pretrained`` takes, or ``tiny``.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: ``auto`` (float16 on CUDA, float32 on the CPU), ``float32``, ``float16`` or ``bfloat16``.
        variant: which weights of the folder or hub id to read, such as ``fp16`` (a smaller download).
        offload: keep only the module at work on the GPU (diffusers' model offload).

    Raises:
        ModelError: no such model, or not one that mvguide has a backbone for.
        ConfigError: an unknown device or dtype.
    """
    target = choose_device(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not known; use auto or one of {', '.join(DTYPES)}")
    if offload and target.type != "cuda":
        raise ConfigError("offload moves modules between a GPU and memory, but the device is the CPU; drop it")
    chosen = DTYPES[dtype] if dtype != "auto" else torch.float16 if target.type == "cuda" else torch.float32
    folder = find_model(name)
    if is_folder(folder):
        _check_pipeline_class(folder)
    _quiet_libraries()
    from diffusers import StableVideoDiffusionPipeline

    from mvguide.backbones.svd import SvdBackbone

    source = str(folder) if is_folder(folder) else str(name)
    try:
        pipe = StableVideoDiffusionPipeline.from_pretrained(source, dtype=chosen, variant=variant, use_safetensors=True)
    except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"model {str(name)!r} cannot be loaded ({_first_line(error)}); give {', '.join(EMBEDDED)}, a folder in "
            "diffusers layout, or a hub id that is in the local cache or can be downloaded from here"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    if offload:
        pipe.enable_model_cpu_offload(device=target)
    else:
        pipe.to(target)
    return SvdBackbone(pipe, str(name), _read_notes(folder))


def _check_pipeline_class(folder: Path) -> None:
    """Say early, and in words, that a folder holds another kind of model."""
    index = folder / "model_index.json"
    try:
        found = json.loads(index.read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"folder {folder} is not a model in diffusers layout (its model_index.json is missing or unreadable); "
            "give the folder that save_pretrained wrote"
        ) from error
    if found != "StableVideoDiffusionPipeline":
        raise ModelError(f"folder {folder} holds a {found}; mvguide has a backbone for StableVideoDiffusionPipeline")


def _read_notes(folder: Path) -> ModelNotes:
    """Notes of a model that was trained or measured for mvguide; empty for others."""
    path = folder / "mvguide.json"
    if not is_file(path):
        return ModelNotes()
    try:
        notes = json.loads(path.read_text())
        bucket = notes.get("motion_bucket_per_width")
        hypers, scale = _floats(notes.get("hypers"), 3), _floats(notes.get("guidance_scale"), 2)
        return ModelNotes(None if bucket is None else float(bucket), hypers, scale)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read ({_first_line(error)}); mend it or remove it") from error


def _floats(values: Any, count: int) -> Any:
    """``count`` numbers, or None. Raises ValueError for another count."""
    if values is None:
        return None
    if len(values) != count:
        raise ValueError(f"{values} should be {count} numbers")
    return tuple(float(value) for value in values)


def _quiet_libraries() -> None:
    """Without bars for reading local files, notes on torchvision (not needed), and a second telling of a failure."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return textwrap.shorten(text.splitlines()[0], 160, placeholder=" ...") if text else type(error).__name__
