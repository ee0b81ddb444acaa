"""Find and load a backbone by name: the embedded one, a folder, or a hub id."""

import logging
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from mvguide.backbones.acceleration import DENOISERS, AccelerationOptions
from mvguide.backbones.base import Backbone, ModelNotes
from mvguide.backbones.context_parallel import hush_splitting, join_ranks
from mvguide.backbones.native_size import known_native_size, read_config
from mvguide.backbones.offload import check_offload, place_networks
from mvguide.decoding import is_file, is_folder
from mvguide.errors import ConfigError, ModelError, MvguideError

_INDEX = "model_index.json"
_FAMILIES = "mvguide.backbones.families"
BACKBONES: dict[str, str | type[Any]] = {
    "StableVideoDiffusionPipeline": "mvguide.backbones.svd:SvdBackbone",
    "WanImageToVideoPipeline": f"{_FAMILIES}:WanBackbone",
    "WanPipeline": f"{_FAMILIES}:WanBackbone",
    "WanVACEPipeline": f"{_FAMILIES}:WanVaceBackbone",
    "CogVideoXImageToVideoPipeline": f"{_FAMILIES}:CogVideoXBackbone",
    "LTXPipeline": f"{_FAMILIES}:LtxBackbone",
    "LTXImageToVideoPipeline": f"{_FAMILIES}:LtxBackbone",
    "HunyuanVideoImageToVideoPipeline": f"{_FAMILIES}:HunyuanVideoBackbone",
    "HunyuanVideo15ImageToVideoPipeline": f"{_FAMILIES}:HunyuanVideo15Backbone",
}
"""Backbone for each pipeline class of diffusers: the class, or ``module:class`` where importing it takes long.

It has ``PIPELINE``, the class that is made of the folder; ``NETWORKS``, the classes of the networks by name; ``DTYPE``,
the number format on a GPU; and is made from pipeline, name and notes.
"""

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
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    offload: str = "none",
    acceleration: AccelerationOptions | None = None,
) -> Backbone:
    """Load a model: ``tiny`` (embedded), a folder in diffusers layout, or a hub id.

    Args:
        name: anything that ``StableVideoDiffusionPipeline.from_pretrained`` takes, or ``tiny``.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: ``auto`` (float16 on CUDA, float32 on the CPU), ``float32``, ``float16`` or ``bfloat16``.
        variant: which weights of the folder or hub id to read, such as ``fp16`` (a smaller download).
        offload: ``none``, or keep on the GPU only the network at work (``model``) or its layers at work (``group``);
            see :func:`mvguide.backbones.offload.place_networks`.
        acceleration: what makes it faster or smaller; nothing by default.

    Raises:
        ModelError: no such model, or not one that mvguide has a backbone for.
        ConfigError: an unknown device, dtype or offload, or an offload or an acceleration that the device or the model
            does not have.
    """
    target = choose_device(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not known; use auto or one of {', '.join(DTYPES)}")
    placing = check_offload(offload, target)
    options = AccelerationOptions(**(acceleration or AccelerationOptions()).given())
    options.check(target)
    folder = find_model(name)
    with _quiet_libraries():
        try:
            place = folder if is_folder(folder) else _download(str(name), variant)
            backbone = _find_backbone(place)
            options.check_model(
                str(name), next(backbone.NETWORKS[part] for part in DENOISERS if part in backbone.NETWORKS)
            )
            target = join_ranks(options.context_parallel, target)
            on_gpu = backbone.DTYPE if target.type == "cuda" else torch.float32
            pipe = _load_pipeline(place, backbone, on_gpu if dtype == "auto" else DTYPES[dtype], variant, options)
            options.apply(pipe, target)
        except MvguideError:
            raise
        except Exception as error:  # the libraries raise almost anything on damaged files
            raise ModelError(
                f"model {str(name)[:200]!r} cannot be loaded ({_first_line(error)}); give {', '.join(EMBEDDED)}, a "
                "folder in diffusers layout, or a hub id that is in the local cache or can be downloaded from here"
            ) from error
    pipe.set_progress_bar_config(disable=True)
    if options.context_parallel > 1:
        hush_splitting()
    place_networks(pipe, target, placing)
    loaded: Backbone = backbone(pipe, str(name), _read_notes(folder))
    loaded.acceleration = options
    return loaded


def _download(name: str, variant: str | None) -> Path:
    """Folder of a hub id in the local cache, downloaded where it is not there."""
    from diffusers import DiffusionPipeline

    return Path(DiffusionPipeline.download(name, variant=variant, use_safetensors=True))


def _load_pipeline(
    folder: Path, backbone: Any, dtype: torch.dtype, variant: str | None, options: AccelerationOptions
) -> Any:
    """The stock pipeline; its networks one by one, because only then do the libraries report what is missing."""
    import diffusers
    import transformers

    index = read_config(folder / _INDEX)
    networks = {part: kind for part, kind in backbone.NETWORKS.items() if index.get(part) not in (None, [None, None])}
    # As in diffusers, a network without files of the variant is read from its plain ones.
    having = [part for part in networks if variant and any((folder / part).glob(f"*.{variant}*.safetensors"))]
    if variant and not having:
        raise ModelError(f"folder {folder} has no weights of variant {variant!r}; leave variant out")
    loaded = {}
    for part, kind in networks.items():
        network = getattr(diffusers, kind, None) or getattr(transformers, kind)
        loaded[part], info = network.from_pretrained(
            str(folder),
            subfolder=part,
            dtype=backbone.DTYPES.get(part, dtype) if dtype != torch.float32 else dtype,
            variant=variant if part in having else None,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options.quantization(part, dtype),
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise ModelError(
                f"folder {folder} lacks {len(missing)} tensors in {part}, the first is {missing[0]}; download it again"
            )
    for part, kind in backbone.TOKENIZERS.items():
        loaded[part] = getattr(transformers, kind).from_pretrained(str(folder / part), local_files_only=True)
    return getattr(diffusers, backbone.PIPELINE).from_pretrained(str(folder), dtype=dtype, **loaded)


def _find_backbone(folder: Path) -> Any:
    """Backbone class of a model folder. Refuses other kinds of models, and configs that would take all memory."""
    index = folder / _INDEX
    if not index.is_file():
        raise ModelError(
            f"folder {folder} is not a model in diffusers layout (its {_INDEX} is missing); "
            "give the folder that save_pretrained wrote"
        )
    found = read_config(index).get("_class_name")
    if found not in BACKBONES:
        raise ModelError(f"folder {folder} holds a {found}; mvguide has a backbone for {', '.join(BACKBONES)}")
    for config in sorted(folder.glob("*/*config.json")):
        if not config.parent.name.startswith("tokenizer"):  # its vocabulary has more entries than any model's settings
            read_config(config)
    known_native_size(folder)
    scale = read_config(folder / "vae" / "config.json").get("scaling_factor", 1)
    if not isinstance(scale, int | float) or scale <= 0:
        raise ModelError(f"folder {folder} has scaling_factor = {scale!r} in vae/config.json; it must be positive")
    backbone = BACKBONES[str(found)]
    if isinstance(backbone, str):
        module, kind = backbone.split(":")
        return getattr(import_module(module), kind)
    return backbone


def _read_notes(folder: Path) -> ModelNotes:
    """Notes of a model that was trained or measured for mvguide; empty for others."""
    path = folder / "mvguide.json"
    if not is_file(path):
        return ModelNotes()
    notes = read_config(path, "correct it or remove it")
    try:
        bucket = notes.get("motion_bucket_per_width")
        hypers, scale = _floats(notes.get("hypers"), 3), _floats(notes.get("guidance_scale"), 2)
        return ModelNotes(None if bucket is None else float(bucket), hypers, scale)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({_first_line(error)}); correct it or remove it") from error


def _floats(values: Any, count: int) -> Any:
    """``count`` numbers, or None. Raises ValueError for another count."""
    if values is None:
        return None
    if len(values) != count:
        raise ValueError(f"{values} should be {count} numbers")
    return tuple(float(value) for value in values)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without bars for reading local files, notes on torchvision (not needed), and a second telling of a failure.

    These settings belong to the whole process: they are put back, because the caller may want to hear the libraries.
    """
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    loggers = [library.get_logger(name) for library, name in zip(libraries, ("diffusers", "transformers"), strict=True)]
    levels = [logger.level for logger in loggers]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    hub_was_disabled = are_progress_bars_disabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for library, logger in zip(libraries, loggers, strict=True):
                library.disable_progress_bar()
                logger.setLevel(logging.CRITICAL)
            yield
    finally:
        for library, logger, level, had_bars in zip(libraries, loggers, levels, bars, strict=True):
            logger.setLevel(level)
            if had_bars:
                library.enable_progress_bar()
        if are_progress_bars_disabled() != hub_was_disabled:
            (disable_progress_bars if hub_was_disabled else enable_progress_bars)()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return textwrap.shorten(text.splitlines()[0], 160, placeholder=" ...") if text else type(error).__name__
