"""Depth of one image by a pretrained network, through the stock classes of transformers."""

import functools
import inspect
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mvguide.decoding import is_folder
from mvguide.depth.kind import disparity_to_depth
from mvguide.depth.maps import Depth, DepthKind
from mvguide.errors import InputError, ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"

# Networks whose output is metres whatever is in their configuration.
_METRIC = {"zoedepth", "glpn", "depth_pro", "tipsv2_dpt"}


def estimate_depth(image: Tensor, model: str = DEFAULT_MODEL, device: str = "auto") -> Depth:
    """Depth of an image by any model that `AutoModelForDepthEstimation` knows.

    Whether the output is relative inverse depth (Depth Anything, DPT trained as MiDaS) or metres (Depth Anything
    metric, ZoeDepth, GLPN, Depth Pro, DPT on DINOv2) is read from the model's configuration: `output_kind`. Relative
    output becomes depth with the median 1 (`disparity_to_depth`); `depth.align` gives it a scale. The loaded model is
    kept for the rest of the process.

    Args:
        image: [3, H, W] in [0, 1]; the network sees it in 8 bits, as its processor wants it.
        model: a folder written by `save_pretrained` (model and image processor), or a hub id.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`.

    Returns:
        `Depth` of the image's size on the CPU; metric where the network is.

    Raises:
        InputError: not such an image.
        ModelError: the model cannot be loaded, is of an unknown kind, or sees nothing.
    """
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise InputError(f"image has the shape {tuple(image.shape)}; give [3, H, W] with values in [0, 1]")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    processor, network, kind = load_depth_model(str(model), device)
    predicted = _predict(processor, network, image, device)
    if kind == "depth":
        valid = torch.isfinite(predicted) & (predicted > 0)
        if not bool(valid.any()):
            raise ModelError(f"depth model {model!r} found no depth above 0 in the image; use another model")
        return Depth(torch.where(valid, predicted, 0.0), valid, is_metric=True)
    disparity = predicted.double().numpy()
    if not np.isfinite(disparity).all() or np.ptp(disparity) == 0:
        raise ModelError(f"depth model {model!r} found the same everywhere in the image; use another model")
    depth = torch.from_numpy(disparity_to_depth(disparity)).float()
    return Depth(depth, torch.ones_like(depth, dtype=torch.bool), is_metric=False)


def output_kind(config: "PretrainedConfig") -> DepthKind:
    """What a network puts out: "disparity" (relative inverse depth) or "depth" (metres), from its configuration.

    In the Depth Anything family it is `depth_estimation_type`. DPT is MiDaS' relative inverse depth, but for the
    DINOv2 heads trained on NYU and KITTI, which alone have `add_projection`. ZoeDepth, GLPN, Depth Pro and TIPS give
    metres always.

    Raises:
        ModelError: a family that is not known here, or one that does not put out depth.
    """
    declared = getattr(config, "depth_estimation_type", None)
    if declared in ("relative", "metric"):
        return "disparity" if declared == "relative" else "depth"
    if config.model_type in _METRIC:
        return "depth"
    if config.model_type == "dpt":
        return "depth" if getattr(config, "add_projection", False) else "disparity"
    raise ModelError(
        f"depth models of the type {config.model_type!r} are not known: is it distance or inverse depth? Use Depth "
        "Anything, DPT, ZoeDepth, GLPN or Depth Pro, or write the map to a file and give it with --depth"
    )


def model_is_here(model: str) -> bool:
    """Whether a folder or the local cache holds the model, so that loading it needs no network."""
    if is_folder(Path(model)):
        return True
    from huggingface_hub import try_to_load_from_cache

    try:
        return all(
            isinstance(try_to_load_from_cache(model, file), str) for file in ("config.json", "model.safetensors")
        )
    except ValueError:  # not a name that the hub could have
        return False


@functools.cache
def load_depth_model(model: str, device: str) -> tuple[Any, Any, DepthKind]:
    """Image processor, network in evaluation on the device, and what it puts out; loaded once a process.

    Args:
        model: folder or hub id.
        device: as torch names it.

    Raises:
        ModelError: see `estimate_depth`.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

    # What loading raises is open-ended: missing files, bad JSON, wrong shapes, an unreachable hub, missing packages.
    try:
        config = AutoConfig.from_pretrained(model)
        kind = output_kind(config)
        processor = AutoImageProcessor.from_pretrained(model)
        network = AutoModelForDepthEstimation.from_pretrained(model, config=config, use_safetensors=True)
        network = network.float().eval().to(device)
    except ModelError:
        raise
    except Exception as error:
        if "torchvision" in str(error):
            raise ModelError(
                f"depth model {model!r} has an image processor that needs the package torchvision, which is not "
                "installed; install it, use a Depth Anything, DPT, ZoeDepth or GLPN model, or give the map with --depth"
            ) from error
        raise ModelError(
            f"depth model {model!r} cannot be loaded ({_first_line(error)}); give a folder written by save_pretrained "
            "or a hub id that is in the local cache, or give the map itself with --depth"
        ) from error
    return processor, network, kind


@torch.no_grad()
def _predict(processor: Any, network: Any, image: Tensor, device: str) -> Tensor:
    """The network's output at the image's size, float32 [H, W] on the CPU."""
    height, width = image.shape[1:]
    picture = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    inputs = processor(images=picture, return_tensors="pt", input_data_format="channels_last")
    outputs = network(**inputs.to(device))
    post_process = getattr(processor, "post_process_depth_estimation", None)
    if post_process is None:
        predicted = functional.interpolate(outputs.predicted_depth[:, None], (height, width), mode="bilinear")[0, 0]
    else:
        sizes = {"target_sizes": [(height, width)]}
        if "source_sizes" in inspect.signature(post_process).parameters:  # ZoeDepth cuts off what it padded
            sizes["source_sizes"] = [(height, width)]
        predicted = post_process(outputs, **sizes)[0]["predicted_depth"]
    return predicted.detach().float().cpu().reshape(height, width)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return textwrap.shorten(text.splitlines()[0], 160, placeholder=" ...") if text else type(error).__name__
