"""The file of cache ``mag``: what an earlier run has measured of the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvguide.backbones.base import Backbone
from mvguide.backbones.step_cache import Magnitudes
from mvguide.decoding import check_readable, decoding, is_file
from mvguide.diffusion.schedule import SigmaSchedule
from mvguide.errors import FileError
from mvguide.files.atomic import atomic_path

_ADVICE = "remove it, if it is one of cache_file, or give another"


@contextmanager
def step_cache(backbone: Backbone, schedule: SigmaSchedule) -> Iterator[None]:
    """Within this context, of one run over the schedule, the backbone caches steps as its options say.

    Raises:
        FileError: a cache_file that cannot be read, or is of another model.
    """
    options, magnitudes = backbone.acceleration, None
    file = options.cache_file
    if file is not None and is_file(Path(file)):
        magnitudes, model = load_magnitudes(file)
        if model != backbone.fingerprint:
            raise FileError(
                f"cache_file {file} was measured with the model {model[:200]}, but this is {backbone.fingerprint}; "
                "give another file for each model, number format and quantize"
            )
    with backbone.step_cache(schedule, magnitudes) as measured:
        yield
    if file is not None and measured:
        save_magnitudes(file, measured, backbone.fingerprint)


def save_magnitudes(path: str | Path, magnitudes: Magnitudes, model: str) -> None:
    """Write magnitudes to a ``.npz`` file, with the fingerprint of the model."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {part: values.numpy() for part, values in magnitudes.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, model=np.array(model), **arrays)


def load_magnitudes(path: str | Path) -> tuple[Magnitudes, str]:
    """Magnitudes, and the fingerprint of the model. Raises FileError for a file that cannot be read."""
    file = check_readable(path, "cache_file")
    with decoding(file, "cache_file", _ADVICE), np.load(file, allow_pickle=False) as stored:
        model = str(stored["model"])
        arrays = {part: torch.from_numpy(stored[part].astype(np.float64)) for part in stored.files if part != "model"}
    if not arrays or not all(_are_magnitudes(values) for values in arrays.values()):
        raise FileError(f"cache_file {path} holds no measured magnitudes; {_ADVICE}")
    return arrays, model


def _are_magnitudes(values: Tensor) -> bool:
    return values.ndim == 1 and len(values) > 0 and bool(values.isfinite().all()) and bool((values > 0).all())
