"""The configs of a model, from its folder, the local cache, or those that come with mvguide; no weights, no network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mvguide.backbones.native_size import NativeSize, native_size, read_config
from mvguide.backbones.pretrained import BACKBONES, find_model
from mvguide.decoding import is_file, is_folder, packaged_folder
from mvguide.errors import ModelError

_INDEX = "model_index.json"


@dataclass(frozen=True)
class ModelConfigs:
    """What a model is made of.

    Args:
        name: as it was given.
        pipeline: class of the stock pipeline.
        networks: class and config of each network, by the name of the part.
        size: (frames, width, height) that the model was published for.
    """

    name: str
    pipeline: str
    networks: Mapping[str, tuple[str, Mapping[str, Any]]]
    size: tuple[int, int, int]

    @property
    def main(self) -> str:
        """Name of the part that denoises; of two experts, the first."""
        return "unet" if "unet" in self.networks else "transformer"

    @property
    def native_size(self) -> NativeSize:
        """Frames and sizes that the model was trained for."""
        return native_size(self.networks[self.main][1], self.networks["vae"][1], self.name, self.pipeline)

    @property
    def dtype(self) -> torch.dtype:
        """Number format on a GPU."""
        return _backbone(self.pipeline).DTYPE

    def part_dtype(self, part: str, dtype: torch.dtype) -> torch.dtype:
        """Number format of a part where the network's is ``dtype``: some are never rounded to 16 bit."""
        return dtype if dtype == torch.float32 else _backbone(self.pipeline).DTYPES.get(part, dtype)

    def build(self, part: str, dtype: torch.dtype) -> nn.Module:
        """A part on the meta device, in evaluation mode, without gradients of its weights.

        Args:
            part: its name.
            dtype: number format of the network.

        Raises:
            ModelError: a config that its class does not know.
        """
        import diffusers
        import transformers

        kind, config = self.networks[part]
        try:
            with torch.device("meta"):
                if hasattr(diffusers, kind):
                    module = getattr(diffusers, kind).from_config(dict(config))
                else:
                    network = getattr(transformers, kind)
                    module = network(network.config_class.from_dict(dict(config)))
            # A few buffers are made from lists, which the device above does not reach.
            module = module.to("meta").eval().requires_grad_(False)
        except Exception as error:  # whatever a class raises on a config that is not its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ModelError(
                f"model {self.name}: {part} ({kind}) cannot be built from its config ({reason}); correct the config"
            ) from error
        dtype = self.part_dtype(part, dtype)
        # As the libraries load it: some weights stay in float32, of transformers' networks only beside float16.
        kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
        if not kept or (dtype == torch.bfloat16 and not hasattr(diffusers, kind)):
            return nn.Module.to(module, dtype)  # diffusers' own `to` warns of parts that are not there
        for name, weight in module.named_parameters():
            if weight.is_floating_point():
                weight.data = weight.data.to(torch.float32 if kept & set(name.split(".")) else dtype)
        return module


def published_models() -> dict[str, Path]:
    """Config files of published models that come with mvguide, by short name."""
    folder = packaged_folder("backbones") / "assets" / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def read_model_configs(name: str | Path) -> ModelConfigs:
    """Configs of a model.

    Args:
        name: a folder in diffusers layout, a hub id, ``tiny``, or the short name of a published model.

    Raises:
        ModelError: no such model, or one that mvguide has no backbone for, or configs that cannot be read.
    """
    folder = find_model(name)
    if is_folder(folder):
        return _read_folder(folder, str(name))
    cached, published = _cached_folder(str(name)), _published(str(name))
    # A look at a model's size leaves only some of its configs in the cache.
    if cached is not None and all(
        is_file(cached / part / "config.json") for part in (published or {}).get("configs", ())
    ):
        return _read_folder(cached, str(name))
    if published is None:
        raise ModelError(
            f"model {str(name)[:200]!r} is neither a folder nor in the local cache, and its configs do not come with "
            f"mvguide; give a folder, download the model first, or name one of {', '.join(published_models())}"
        )
    return _collect(str(name), published["model_index"], published["configs"], published["size"])


def _published(name: str) -> dict[str, Any] | None:
    """What comes with mvguide of a model, by short name or hub id."""
    for short, path in published_models().items():
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if name == short or name in document["hub_ids"]:
            return document
    return None


def _read_folder(folder: Path, name: str) -> ModelConfigs:
    if not is_file(folder / _INDEX):
        raise ModelError(
            f"folder {folder} is not a model in diffusers layout (its {_INDEX} is missing); give the folder that "
            "save_pretrained wrote"
        )
    index = read_config(folder / _INDEX)
    configs = {part: read_config(folder / part / "config.json") for part in _parts(name, index)}
    return _collect(name, index, configs, None)


def _collect(name: str, index: Mapping[str, Any], configs: Mapping[str, Any], size: list[int] | None) -> ModelConfigs:
    networks = {part: (kind, configs[part]) for part, kind in _parts(name, index).items()}
    for part in ("vae", ModelConfigs(name, "", networks, (0, 0, 0)).main):
        if part not in networks:
            raise ModelError(f"model {name} has no {part} in its {_INDEX}; download it again")
    found = ModelConfigs(name, str(index["_class_name"]), networks, (0, 0, 0))
    native = found.native_size
    frames, width, height = size or (native.frames, *native.default_size(16, 9))
    return ModelConfigs(name, found.pipeline, networks, (frames, width, height))


def _parts(name: str, index: Mapping[str, Any]) -> dict[str, str]:
    """Classes of the networks that the model has, by the name of the part."""
    pipeline = str(index.get("_class_name"))
    if pipeline not in BACKBONES:
        raise ModelError(f"model {name} is a {pipeline}; mvguide has a backbone for {', '.join(BACKBONES)}")
    known = _backbone(pipeline).NETWORKS
    return {part: kind for part, kind in known.items() if index.get(part) not in (None, [None, None])}


def _backbone(pipeline: str) -> Any:
    place = BACKBONES[pipeline]
    if not isinstance(place, str):
        return place
    module, kind = place.split(":")
    return getattr(import_module(module), kind)


def _cached_folder(name: str) -> Path | None:
    """Where the local cache keeps a hub id; None where it does not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        index = try_to_load_from_cache(name, _INDEX)
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None
