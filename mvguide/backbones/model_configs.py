"""The configs of a model, from its folder, the local cache, or those that come with mvguide; no weights, no network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mvguide.backbones.native_size import read_config
from mvguide.backbones.pretrained import find_model
from mvguide.decoding import is_file, is_folder, packaged_folder
from mvguide.errors import ModelError

_PARTS = ("unet", "transformer", "vae", "text_encoder", "image_encoder")
_MOST_NUMBER = 2**24


@dataclass(frozen=True)
class ModelConfigs:
    """What a model is made of.

    Args:
        name: as it was given.
        pipeline: class of the stock pipeline.
        classes: library and class of each network, by the name of the part.
        configs: config of each network.
        size: (frames, width, height) that the model was published for, where that is known.
    """

    name: str
    pipeline: str
    classes: Mapping[str, tuple[str, str]]
    configs: Mapping[str, Mapping[str, Any]]
    size: tuple[int, int, int] | None = None

    def build(self, part: str, dtype: torch.dtype) -> nn.Module:
        """A network on the meta device, in evaluation mode, without gradients of its weights.

        Raises:
            ModelError: a class or a config that the installed libraries do not know.
        """
        library, kind = self.classes[part]
        try:
            with torch.device("meta"):
                network = _construct(library, kind, self.configs[part])
            # A few buffers are made from lists, which the device above does not reach.
            network = network.to("meta").eval().requires_grad_(False)
        except Exception as error:  # whatever a class raises on a config that is not its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ModelError(
                f"model {self.name}: {part} ({kind}) cannot be built from its config ({reason}); "
                "the model may need another version of diffusers"
            ) from error
        # As the libraries load it: some parts stay in float32 (of transformers' networks where the rest is float16).
        kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
        if not kept or (library == "transformers" and dtype != torch.float16):
            return nn.Module.to(network, dtype)  # the networks' own warns about parts that are not there
        for name, weight in network.named_parameters():
            if weight.is_floating_point():
                weight.data = weight.data.to(torch.float32 if kept & set(name.split(".")) else dtype)
        return network


def published_models() -> dict[str, Path]:
    """Config files of published models that come with mvguide, by short name."""
    folder = packaged_folder("backbones") / "assets" / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def read_model_configs(name: str | Path) -> ModelConfigs:
    """Configs of a model.

    Args:
        name: a folder in diffusers layout, a hub id, ``tiny``, or the short name of a published model.

    Raises:
        ModelError: neither is there, or files are missing or cannot be read.
    """
    folder = find_model(name)
    if is_folder(folder):
        return _read_folder(folder, str(name))
    cached = _cached_folder(str(name))
    if cached is not None:
        return _read_folder(cached, str(name))
    for short, path in published_models().items():
        document = json.loads(path.read_text(encoding="utf-8"))
        if str(name) == short or str(name) in document["hub_ids"]:
            size = (document["num_frames"], document["width"], document["height"])
            return _collect(str(name), document["model_index"], document["configs"], size)
    raise ModelError(
        f"model {str(name)[:200]!r} is neither a folder nor in the local cache, and its configs do not come with "
        f"mvguide; give a folder, download the model first, or name one of {', '.join(published_models())}"
    )


def _read_folder(folder: Path, name: str) -> ModelConfigs:
    index = folder / "model_index.json"
    if not is_file(index):
        raise ModelError(f"folder {folder} is not a model in diffusers layout (its model_index.json is missing)")
    parts = _networks(read_config(index))
    configs = {part: read_config(folder / part / "config.json", most=_MOST_NUMBER) for part in parts}
    return _collect(name, read_config(index), configs, None)


def _collect(name: str, index: Mapping[str, Any], configs: Mapping[str, Any], size: Any) -> ModelConfigs:
    return ModelConfigs(name, str(index.get("_class_name")), _networks(index), configs, size)


def _networks(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The networks of a model index; a part that the model does without is there as two nulls."""
    return {
        part: (str(entry[0]), str(entry[1]))
        for part, entry in index.items()
        if part.startswith(_PARTS) and isinstance(entry, list) and len(entry) == 2 and None not in entry
    }


def _cached_folder(name: str) -> Path | None:
    """Where the local cache keeps a hub id; None where it does not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        index = try_to_load_from_cache(name, "model_index.json")
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None


def _construct(library: str, kind: str, config: Mapping[str, Any]) -> Any:
    """A network of random weights, of the device and number format that torch makes tensors in."""
    if library == "diffusers":
        import diffusers

        return getattr(diffusers, kind).from_config(dict(config))
    import transformers

    network = getattr(transformers, kind)
    return network(network.config_class.from_dict(dict(config)))
