"""What a model's configs say, read with care, and the sizes that it was trained for, known without loading it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvguide.decoding import is_file, is_folder
from mvguide.diffusion.time_grid import TimeGrid
from mvguide.errors import InputError, ModelError

MOST_FRAMES, MOST_SIDE, MOST_LEVELS = 1024, 4096, 8
_MOST_BYTES, _MOST_DEPTH, _MOST_ENTRIES = 2**20, 16, 64
_MOST = {"layers": 128, "channels": 8192, "vocab": 2**20, "token": 2**20, "position": 2**20, "theta": 2**27}
_MOST_NUMBER = 2**16
_ADVICE = "give a model folder in diffusers layout, as save_pretrained writes it"
_INDEX, _SVD_CONFIGS, _CONFIGS = (
    "model_index.json",
    ("unet/config.json", "vae/config.json"),
    ("transformer/config.json", "vae/config.json"),
)


@dataclass(frozen=True)
class NativeSize:
    """What a model's configs say about its videos.

    Args:
        frames: that the network was trained on.
        side: the trained area is ``side ** 2`` latent cells (SVD's ``sample_size``: 96^2 = 72 x 128).
        vae_scale_factor: pixels along a latent cell.
        multiple: latent sizes that the network takes without padding are multiples of this.
        grid: which frames are one latent frame.
        only: (width, height) of a model that knows one size alone.
    """

    frames: int
    side: float
    vae_scale_factor: int
    multiple: int
    grid: TimeGrid = field(default_factory=TimeGrid)
    only: tuple[int, int] | None = None

    def default_size(self, width: int, height: int) -> tuple[int, int]:
        """The trained area in the picture's shape, rounded to what VAE and network take without padding."""
        if self.only is not None:
            return self.only
        unit = self.vae_scale_factor * self.multiple
        scale = self.side * self.vae_scale_factor / math.sqrt(width * height)
        return max(1, round(width * scale / unit)) * unit, max(1, round(height * scale / unit)) * unit

    def check(self, name: str, num_frames: int, height: int, width: int, *, pads: bool = False) -> None:
        """Refuse a video that VAE and network cannot take.

        Args:
            name: of the model.
            num_frames: F.
            height: of the video, pixels.
            width: of the video.
            pads: the network takes cells that are no multiple of its own, padded; then the VAE alone counts.

        Raises:
            InputError: a number of frames or a size that does not fit, with the nearest that does.
        """
        self.grid.latent_frames(num_frames)
        if num_frames < 2:
            raise InputError(f"num_frames is {num_frames}; a video of model {name} has at least {self.grid.ratio + 1}")
        unit, what = self.vae_scale_factor * (1 if pads else self.multiple), "a latent cell" if pads else "a token"
        if height < 1 or width < 1 or height % unit or width % unit:
            nearest = [max(1, round(size / unit)) * unit for size in (width, height)]
            raise InputError(
                f"video size {width} x {height} (width x height) is not divisible by {unit}, the pixels of {what} of "
                f"model {name}; use {nearest[0]} x {nearest[1]}"
            )
        if self.only is not None and (width, height) != self.only:
            raise InputError(
                f"video size is {width} x {height}, but model {name} knows {self.only[0]} x {self.only[1]} alone; "
                "leave width and height out"
            )


@dataclass(frozen=True)
class _Family:
    """What the configs of a family leave out: the videos that its published models were trained on.

    Args:
        frames: of those videos.
        width, height: pixels.
        factor: pixels along a latent cell, where the VAE's config leaves it to the class.
        ratio: frames of a latent frame, likewise.
        patch: latent cells along a side of a token, likewise.
    """

    frames: int
    width: int
    height: int
    factor: int
    ratio: int
    patch: int


_FAMILIES = {
    "WanPipeline": _Family(121, 1280, 704, 16, 4, 2),
    "WanImageToVideoPipeline": _Family(81, 832, 480, 8, 4, 2),
    "WanVACEPipeline": _Family(81, 832, 480, 8, 4, 2),
    "CogVideoXImageToVideoPipeline": _Family(49, 720, 480, 8, 4, 2),
    "LTXPipeline": _Family(161, 704, 512, 32, 8, 1),
    "LTXImageToVideoPipeline": _Family(161, 704, 512, 32, 8, 1),
    "HunyuanVideoImageToVideoPipeline": _Family(129, 1280, 720, 8, 4, 2),
    "HunyuanVideo15ImageToVideoPipeline": _Family(121, 832, 480, 16, 4, 1),
}


def known_native_size(name: str | Path) -> NativeSize | None:
    """Sizes of a model folder in diffusers layout, or of a hub id whose configs are in the local cache.

    Args:
        name: folder or hub id.

    Returns:
        None for a hub id that is not in the cache: nothing is known of it yet.

    Raises:
        ModelError: configs that cannot be read, or sizes that no model has.
    """
    folder = Path(name)

    def find(config: str) -> Path | None:
        if is_folder(folder):
            return folder / config
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(folder.as_posix(), config)
        except HFValidationError:
            return None
        return Path(found) if isinstance(found, str) else None

    index = find(_INDEX)
    kind = read_config(index).get("_class_name") if index is not None and is_file(index) else None
    configs = [find(config) for config in (_CONFIGS if kind in _FAMILIES else _SVD_CONFIGS)]
    if None in configs:
        return None
    network, vae = (read_config(config) for config in configs if config is not None)
    return native_size(network, vae, str(name), kind)


def read_native_size(name: str | Path) -> NativeSize:
    """Sizes of a model, as :func:`known_native_size`; of a hub id that is not in the cache its configs are fetched.

    Args:
        name: folder or hub id.

    Raises:
        ModelError: configs that cannot be read or fetched, or sizes that no model has.
    """
    known = known_native_size(name)
    if known is not None:
        return known
    from huggingface_hub import hf_hub_download, model_info

    def fetch(config: str) -> dict[str, Any]:
        return read_config(Path(hf_hub_download(Path(name).as_posix(), config)))

    try:
        model_info(Path(name).as_posix(), timeout=10)  # unlike a download, it does not try again and again
        kind = fetch(_INDEX).get("_class_name")
        network, vae = (fetch(config) for config in (_CONFIGS if kind in _FAMILIES else _SVD_CONFIGS))
    except ModelError:
        raise
    except Exception as error:  # the hub's client raises errors of several network libraries
        raise ModelError(
            f"model {str(name)[:200]!r} is neither a folder nor in the local cache, and its configs cannot be fetched "
            f"({type(error).__name__}), so its number of frames and its size are not known; check the name, or give "
            "num_frames, width and height"
        ) from error
    return native_size(network, vae, str(name), kind)


def native_size(
    network: Mapping[str, Any], vae: Mapping[str, Any], name: str, pipeline_class: str | None = None
) -> NativeSize:
    """Sizes out of the configs of network and VAE.

    Args:
        network: config of the UNet or transformer.
        vae: config of the VAE.
        name: of the model, for messages.
        pipeline_class: diffusers' class of the model's pipeline; None or any unknown one is read as SVD's.

    Raises:
        ModelError: sizes that no model has.
    """
    family = _FAMILIES.get(str(pipeline_class))
    if family is None:
        return NativeSize(
            frames=_whole(network, "num_frames", MOST_FRAMES, name),
            side=_whole(network, "sample_size", MOST_SIDE, name),
            vae_scale_factor=2 ** (_levels(vae, name) - 1),
            multiple=2 ** (_levels(network, name) - 1),
        )
    factor, ratio = _compression(vae, family, name)
    frames, width, height, grid, only = family.frames, family.width, family.height, TimeGrid(ratio), None
    if pipeline_class == "CogVideoXImageToVideoPipeline":
        is_15 = network.get("patch_size_t") is not None
        grid = TimeGrid(ratio, lead=int(is_15), unit=2 * ratio)
        if is_15:
            frames, width, height = 81, 1360, 768
        if network.get("use_learned_positional_embeddings"):
            sides = (_whole(network, f"sample_{side}", MOST_SIDE, name) * factor for side in ("width", "height"))
            only = width, height = next(sides), next(sides)
    if network.get("image_condition_type") == "latent_concat":  # HunyuanVideo's first models
        grid = TimeGrid(ratio, lead=1)
    if network.get("target_size"):
        width = height = _whole(network, "target_size", MOST_SIDE, name)
    side = math.sqrt(width * height) / factor
    return NativeSize(frames, side, factor, _patch(network, family, name), grid, only)


def _compression(vae: Mapping[str, Any], family: _Family, name: str) -> tuple[int, int]:
    """Pixels along a latent cell, and frames of a latent frame."""
    factor, ratio = family.factor, family.ratio
    for key in ("scale_factor_spatial", "spatial_compression_ratio"):
        factor = factor if vae.get(key) is None else _whole(vae, key, 64, name)
    for key in ("scale_factor_temporal", "temporal_compression_ratio"):
        ratio = ratio if vae.get(key) is None else _whole(vae, key, 64, name)
    return factor, ratio


def _patch(network: Mapping[str, Any], family: _Family, name: str) -> int:
    patch = network.get("patch_size", family.patch)
    return _whole({"patch_size": patch[-1] if isinstance(patch, list | tuple) else patch}, "patch_size", 16, name)


def read_config(path: Path, advice: str = _ADVICE) -> dict[str, Any]:
    """A model's JSON file, none of whose numbers or lists is beyond what a model can have.

    Args:
        path: the file.
        advice: the way out, the end of the sentence.

    Raises:
        ModelError: missing, not JSON, nested too deep, not an object, or numbers out of range.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        _check(document, "", _MOST_NUMBER, _MOST_DEPTH)
    except RecursionError as error:
        raise ModelError(f"{path} cannot be read (it is nested too deep); {advice}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except ValueError as error:
        raise ModelError(f"{path} cannot be read ({str(error)[:160]}); {advice}") from error
    return document


def _check(value: Any, key: str, most: int, depth: int) -> None:
    """Raises ValueError for numbers, lists and nesting that would take all memory or time."""
    if depth < 0:
        raise ValueError("it is nested too deep")
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= most):
        raise ValueError(f"{key} is {value:.4g}; the most is {most}")
    if isinstance(value, list | dict) and len(value) > (
        _MOST_ENTRIES if isinstance(value, list) else 4 * _MOST_ENTRIES
    ):
        raise ValueError(f"{key or 'it'} has {len(value)} entries")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(
                inner,
                name,
                min([limit for word, limit in _MOST.items() if word in name], default=_MOST_NUMBER),
                depth - 1,
            )
    elif isinstance(value, list):
        for inner in value:
            _check(inner, key, most, depth - 1)


def _whole(config: Mapping[str, Any], key: str, most: int, name: str) -> int:
    value = config.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= most or value != int(value):
        raise ModelError(f"model {name} has {key} = {value!r} in its config; it is a whole number from 1 to {most}")
    return int(value)


def _levels(config: Mapping[str, Any], name: str) -> int:
    blocks = config.get("block_out_channels")
    if not isinstance(blocks, list | tuple) or not 1 <= len(blocks) <= MOST_LEVELS:
        count = len(blocks) if isinstance(blocks, list | tuple) else "no"
        raise ModelError(f"model {name} has {count} block_out_channels in a config; a model has 1 to {MOST_LEVELS}")
    return len(blocks)
