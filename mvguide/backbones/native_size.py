"""What a model's configs say, read with care, and the sizes that it was trained for, known without loading it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvguide.decoding import is_folder
from mvguide.errors import ModelError

MOST_FRAMES, MOST_SIDE, MOST_LEVELS = 1024, 4096, 8
_MOST_BYTES, _MOST_DEPTH, _MOST_ENTRIES = 2**20, 16, 64
_MOST = {"layers": 128, "channels": 8192}
_MOST_NUMBER = 2**16
_ADVICE = "give a model folder in diffusers layout, as save_pretrained writes it"
_CONFIGS = ("unet/config.json", "vae/config.json")


@dataclass(frozen=True)
class NativeSize:
    """What a model's config says about its videos.

    Args:
        frames: that the UNet was trained on.
        side: ``unet.config.sample_size``: the trained area is ``side ** 2`` latent cells (SVD: 96^2 = 72 x 128).
        vae_scale_factor: pixels along a latent cell.
        multiple: latent sizes that the UNet takes without padding are multiples of this.
    """

    frames: int
    side: int
    vae_scale_factor: int
    multiple: int

    def default_size(self, width: int, height: int) -> tuple[int, int]:
        """The trained area in the picture's shape, rounded to what VAE and UNet take without padding."""
        unit = self.vae_scale_factor * self.multiple
        scale = self.side * self.vae_scale_factor / math.sqrt(width * height)
        return max(1, round(width * scale / unit)) * unit, max(1, round(height * scale / unit)) * unit


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
    files = [folder / config for config in _CONFIGS]
    if not is_folder(folder):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = [try_to_load_from_cache(folder.as_posix(), config) for config in _CONFIGS]
        except HFValidationError:
            return None
        files = [Path(path) for path in found if isinstance(path, str)]
    if len(files) != len(_CONFIGS):
        return None
    return native_size(read_config(files[0]), read_config(files[1]), str(name))


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

    try:
        model_info(Path(name).as_posix(), timeout=10)  # unlike a download, it does not try again and again
        unet, vae = (read_config(Path(hf_hub_download(Path(name).as_posix(), config))) for config in _CONFIGS)
    except ModelError:
        raise
    except Exception as error:  # the hub's client raises errors of several network libraries
        raise ModelError(
            f"model {str(name)[:200]!r} is neither a folder nor in the local cache, and its configs cannot be fetched "
            f"({type(error).__name__}), so its number of frames and its size are not known; check the name, or give "
            "num_frames, width and height"
        ) from error
    return native_size(unet, vae, str(name))


def native_size(unet: Mapping[str, Any], vae: Mapping[str, Any], name: str) -> NativeSize:
    """Sizes out of the configs of UNet and VAE. Raises ModelError, naming the model, for sizes that no model has."""
    return NativeSize(
        frames=_whole(unet, "num_frames", MOST_FRAMES, name),
        side=_whole(unet, "sample_size", MOST_SIDE, name),
        vae_scale_factor=2 ** (_levels(vae, name) - 1),
        multiple=2 ** (_levels(unet, name) - 1),
    )


def read_config(path: Path, advice: str = _ADVICE, most: int = _MOST_NUMBER) -> dict[str, Any]:
    """A model's JSON file, none of whose numbers or lists is beyond what a model can have.

    Args:
        path: the file.
        advice: the way out, the end of the sentence.
        most: the largest number; words of a text encoder are more than a picture model has of anything.

    Raises:
        ModelError: missing, not JSON, nested too deep, not an object, or numbers out of range.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        _check(document, "", most, _MOST_DEPTH)
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
                min([limit for word, limit in _MOST.items() if word in name], default=most),
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
