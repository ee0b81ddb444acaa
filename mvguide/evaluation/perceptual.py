"""LPIPS, a learned perceptual distance (Zhang et al., CVPR 2018), from a weights file that the user gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mvguide.decoding import check_readable, decoding
from mvguide.errors import FileError, InputError

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_LAYOUT = (
    "the trunk under torchvision's names (features.0.weight, features.0.bias, ...) and the heads under LPIPS' own "
    "(lin0.model.1.weight to lin4.model.1.weight); docs/evaluate.md says how to make it"
)


@dataclass(frozen=True)
class Layer:
    """One convolution of a trunk: `features.{index}`, then ReLU."""

    index: int
    channels: int
    size: int
    stride: int = 1
    padding: int = 1
    pool: int = 0  # side of the max pooling (stride 2) before it; 0 = none
    tap: bool = False  # whether its output is compared


_ALEX = (
    Layer(0, 64, 11, stride=4, padding=2, tap=True),
    Layer(3, 192, 5, padding=2, pool=3, tap=True),
    Layer(6, 384, 3, pool=3, tap=True),
    Layer(8, 256, 3, tap=True),
    Layer(10, 256, 3, tap=True),
)
_VGG = (
    Layer(0, 64, 3),
    Layer(2, 64, 3, tap=True),
    Layer(5, 128, 3, pool=2),
    Layer(7, 128, 3, tap=True),
    Layer(10, 256, 3, pool=2),
    Layer(12, 256, 3),
    Layer(14, 256, 3, tap=True),
    Layer(17, 512, 3, pool=2),
    Layer(19, 512, 3),
    Layer(21, 512, 3, tap=True),
    Layer(24, 512, 3, pool=2),
    Layer(26, 512, 3),
    Layer(28, 512, 3, tap=True),
)
TRUNKS: dict[str, Sequence[Layer]] = {"alex": _ALEX, "vgg": _VGG}
SMALLEST = 32
"""Images must have at least this many pixels along each side."""


class Lpips:
    """The distance `sum over layers of mean over pixels of w . (f(a) - f(b))^2`, f of unit length in every pixel.

    Args:
        name: ``alex`` or ``vgg``.
        tensors: weights by the names of the file, float32.
    """

    def __init__(self, name: str, tensors: dict[str, Tensor]) -> None:
        self.name = name
        self.tensors = tensors

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of images ``[N, 3, H, W]`` in [0, 1], float64 ``[N]``, 0 for equal ones.

        Raises:
            InputError: shapes that differ, or images under 32 pixels.
        """
        if a.ndim != 4 or a.shape != b.shape or a.shape[1] != 3:
            raise InputError(f"images have shapes {list(a.shape)} and {list(b.shape)}; both must be [N, 3, H, W]")
        if min(a.shape[-2:]) < SMALLEST:
            raise InputError(
                f"perceptual distance needs images of at least {SMALLEST} x {SMALLEST}, "
                f"got {a.shape[-1]} x {a.shape[-2]}"
            )
        return torch.cat([self._pair(p, q) for p, q in zip(a.split(4), b.split(4), strict=True)])

    def _pair(self, a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros(len(a), dtype=torch.float64)
        for tap, (p, q) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            weight = self.tensors[f"lin{tap}.model.1.weight"]
            total += functional.conv2d((_unit(p) - _unit(q)) ** 2, weight).mean(dim=(1, 2, 3)).double()
        return total

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """What each compared layer sees of images in [0, 1]."""
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        x, taps = (2 * pictures.float() - 1 - shift) / scale, []
        for layer in TRUNKS[self.name]:
            if layer.pool:
                x = functional.max_pool2d(x, layer.pool, stride=2)
            weight, bias = (self.tensors[f"features.{layer.index}.{part}"] for part in ("weight", "bias"))
            x = functional.relu(functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding))
            if layer.tap:
                taps.append(x)
        return taps


def load_lpips(path: str | Path) -> Lpips:
    """Read LPIPS' weights from one safetensors file, which says by its tensors whether it is AlexNet or VGG-16.

    Args:
        path: a .safetensors file with the trunk under torchvision's names and the heads under LPIPS' own.

    Raises:
        FileError: missing, a pickle (.pth, .pt), no safetensors, or tensors missing or of other shapes.
    """
    file = check_readable(path, "weights file")
    if file.suffix.lower() != ".safetensors":
        raise FileError(
            f"weights file {path} is not .safetensors, and pickles are never opened; convert it once with "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'lpips.safetensors')"
        )
    from safetensors import safe_open

    with decoding(file, "weights file", f"give {_LAYOUT}"), safe_open(file, "pt") as opened:
        tensors = {str(name): opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    name = "vgg" if "features.28.weight" in tensors else "alex"
    wanted = expected_shapes(name)
    for key, shape in wanted.items():
        if key not in tensors:
            raise FileError(f"weights file {path} has no tensor {key}; it must hold {_LAYOUT}")
        if tuple(tensors[key].shape) != shape:
            raise FileError(f"weights file {path}: {key} has shape {list(tensors[key].shape)}, not {list(shape)}")
        if not bool(torch.isfinite(tensors[key]).all()):
            raise FileError(f"weights file {path}: {key} holds NaN or infinite values; make the file again")
    return Lpips(name, {key: tensors[key] for key in wanted})


def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a file for ``alex`` or ``vgg`` must hold."""
    shapes: dict[str, tuple[int, ...]] = {}
    before, taps = 3, 0
    for layer in TRUNKS[name]:
        shapes[f"features.{layer.index}.weight"] = (layer.channels, before, layer.size, layer.size)
        shapes[f"features.{layer.index}.bias"] = (layer.channels,)
        if layer.tap:
            shapes[f"lin{taps}.model.1.weight"] = (1, layer.channels, 1, 1)
            taps += 1
        before = layer.channels
    return shapes


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
