"""LPIPS on random weights equals a plain reference; weights files that cannot be used get one sentence."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mvguide.errors import FileError, InputError
from mvguide.evaluation.perceptual import expected_shapes, load_lpips


def random_weights(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for key, shape in expected_shapes(name).items():
        values = torch.randn(shape, generator=generator)
        fan = values[0].numel() if values.ndim > 1 else 1
        found[key] = values.abs() if key.startswith("lin") else values * (2 / fan) ** 0.5
    return found


def features(name: str) -> nn.Sequential:
    """The trunks as torchvision writes them, layer by layer."""
    if name == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
    layers: list[nn.Module] = []
    before = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2, 2)]
        before = width or before
    return nn.Sequential(*layers)


def reference(name: str, weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    trunk = features(name)
    trunk.load_state_dict({k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features")})
    taps = [1, 4, 7, 9, 11] if name == "alex" else [3, 8, 15, 22, 29]
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = torch.zeros(())
    for index, tap in enumerate(taps):
        seen = [trunk[: tap + 1]((2 * x - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1)) for x in (a, b)]
        p, q = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in seen)
        head = weights[f"lin{index}.model.1.weight"].flatten()
        total = total + torch.einsum("c,nchw->nhw", head, (p - q) ** 2).mean((1, 2))
    return total.detach()


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_distance_equals_the_reference(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    # Files of whole networks hold more than is needed.
    save_file({**weights, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "lpips.safetensors")
    lpips = load_lpips(tmp_path / "lpips.safetensors")
    assert lpips.name == name
    a, b = torch.rand(5, 3, 64, 48), torch.rand(5, 3, 64, 48)
    torch.testing.assert_close(lpips(a, b).float(), reference(name, weights, a, b), rtol=1e-4, atol=1e-5)
    assert lpips(a, a).abs().max() == 0
    assert torch.all(lpips(a, (a + 0.02).clamp(0, 1)) < lpips(a, b))


def test_weights_that_cannot_be_used(tmp_path: Path) -> None:
    weights = random_weights("alex")
    torch.save(weights, tmp_path / "alex.pth")
    with pytest.raises(FileError, match=r"pickles are never opened; convert it once with safetensors.torch.save_file"):
        load_lpips(tmp_path / "alex.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(FileError, match="cannot be read"):
        load_lpips(tmp_path / "broken.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("lin3")}, tmp_path / "part.safetensors")
    with pytest.raises(FileError, match="no tensor lin3.model.1.weight; it must hold the trunk"):
        load_lpips(tmp_path / "part.safetensors")
    save_file({**weights, "features.3.weight": torch.zeros(2, 2)}, tmp_path / "shape.safetensors")
    with pytest.raises(FileError, match=r"features.3.weight has shape \[2, 2\], not \[192, 64, 5, 5\]"):
        load_lpips(tmp_path / "shape.safetensors")
    save_file({**weights, "features.3.bias": torch.full((192,), torch.nan)}, tmp_path / "nan.safetensors")
    with pytest.raises(FileError, match="NaN"):
        load_lpips(tmp_path / "nan.safetensors")


def test_pictures_that_are_too_small(tmp_path: Path) -> None:
    save_file(random_weights("alex"), tmp_path / "lpips.safetensors")
    lpips = load_lpips(tmp_path / "lpips.safetensors")
    assert lpips(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)).isfinite().all()
    with pytest.raises(InputError, match="at least 32 x 32, got 24 x 40"):
        lpips(torch.rand(1, 3, 40, 24), torch.rand(1, 3, 40, 24))
    with pytest.raises(InputError, match="both must be"):
        lpips(torch.rand(1, 3, 40, 40), torch.rand(2, 3, 40, 40))
