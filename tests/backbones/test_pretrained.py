"""Model folders that are damaged or absurd, sizes known without loading, and settings of the process left alone."""

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvguide.backbones import load_backbone
from mvguide.backbones.native_size import NativeSize, known_native_size, read_native_size
from mvguide.backbones.pretrained import EMBEDDED
from mvguide.errors import ModelError

DEEP = "[" * 100_000 + "]" * 100_000
CONFIGS = [str(path.relative_to(EMBEDDED["tiny"])) for path in sorted(EMBEDDED["tiny"].rglob("*.json"))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shutil.copytree(EMBEDDED["tiny"], tmp_path / "model")


def edit(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refused(model: Path, words: str) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match=words) as caught:
        load_backbone(model, device="cpu")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_a_tensor_that_is_missing_is_named(model: Path, part: str) -> None:
    file = next((model / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = sorted(tensors)[3]
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    # transformers leaves out the prefix in some versions' files: the last words say which tensor it is.
    refused(model, rf"lacks 1 tensors in {part}, the first is .*{name.split('.')[-2]}\.{name.split('.')[-1]}; download")


def test_a_variant_is_read_where_it_is_and_missed_where_it_is_nowhere(model: Path) -> None:
    unet = model / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_backbone(model, device="cpu", variant="fp16").native_size.frames == 8
    with pytest.raises(ModelError, match=r"has no weights of variant 'bf16'; leave variant out"):
        load_backbone(model, device="cpu", variant="bf16")


def test_weights_that_are_cut_short_or_gone(model: Path) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    refused(model, "cannot be loaded")
    file.unlink()
    refused(model, r"cannot be loaded \(Error no file named")


@pytest.mark.parametrize("name", CONFIGS)
def test_json_that_is_nested_100_000_deep(model: Path, name: str) -> None:
    (model / name).write_text(DEEP)
    refused(model, rf"{name} cannot be read \(it is nested too deep\)")
    (model / name).write_text("[]")
    refused(model, rf"{name} cannot be read \(it holds no object\)")


@pytest.mark.parametrize(
    ("name", "entries", "words"),
    [
        (
            "mvguide.json",
            {"motion_bucket_per_width": 1e400},
            "motion_bucket_per_width is inf; .*correct it or remove it",
        ),
        ("mvguide.json", {"hypers": [float("nan"), 1, 2]}, "hypers is nan"),
        ("unet/config.json", {"num_frames": float("inf")}, "num_frames is inf"),
        (
            "unet/config.json",
            {"num_frames": 0},
            "has num_frames = 0 in its config; it is a whole number from 1 to 1024",
        ),
        ("unet/config.json", {"num_frames": 7.5}, "has num_frames = 7.5"),
        ("unet/config.json", {"sample_size": 10**9}, "sample_size is 1e\\+09"),
        ("unet/config.json", {"sample_size": 50_000}, "has sample_size = 50000 .* from 1 to 4096"),
        ("unet/config.json", {"layers_per_block": 100_000}, "layers_per_block is 1e\\+05; the most is 128"),
        ("unet/config.json", {"block_out_channels": [10**6, 10**6]}, "block_out_channels is 1e\\+06"),
        ("vae/config.json", {"block_out_channels": [64] * 5000}, "block_out_channels has 5000 entries"),
        ("vae/config.json", {"block_out_channels": [64] * 9}, "has 9 block_out_channels in a config; .* 1 to 8"),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor = 0 in vae/config.json; it must be positive"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps is 1e\\+09"),
        ("image_encoder/config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1e\\+06"),
    ],
)
def test_absurd_numbers_are_refused_before_they_are_used(
    model: Path, name: str, entries: dict[str, Any], words: str
) -> None:
    edit(model / name, **entries)
    refused(model, words)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local hub cache that holds the configs of `some/model` with 14 frames, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "cache" / "models--some--model"
    for part in ("unet", "vae"):
        (folder / "snapshots" / "abc" / part).mkdir(parents=True)
        shutil.copy(EMBEDDED["tiny"] / part / "config.json", folder / "snapshots" / "abc" / part)
    edit(folder / "snapshots" / "abc" / "unet" / "config.json", num_frames=14)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return folder


def test_a_hub_id_has_the_frames_of_its_own_config(cache: Path) -> None:
    assert read_native_size("some/model") == NativeSize(14, 32, 4, 4)
    assert known_native_size(Path("some/model")) == NativeSize(14, 32, 4, 4)
    assert known_native_size(EMBEDDED["tiny"]) == NativeSize(8, 32, 4, 4)
    edit(cache / "snapshots" / "abc" / "unet" / "config.json", num_frames=-3)
    with pytest.raises(ModelError, match=r"model some/model has num_frames = -3"):
        read_native_size("some/model")


@pytest.mark.parametrize("name", ["other/model", "no/such/folder", "x" * 5000, "bad name!"])
def test_nothing_is_made_up_for_a_model_that_is_not_here(cache: Path, name: str) -> None:
    assert known_native_size(name) is None
    with pytest.raises(
        ModelError, match=r"neither a folder nor in the local cache.* give num_frames, width and height"
    ):
        read_native_size(name)
    with pytest.raises(ModelError, match=r"cannot be loaded"):
        load_backbone(name, device="cpu")


@pytest.mark.parametrize("fails", [False, True])
def test_loading_leaves_the_settings_of_the_libraries_alone(model: Path, fails: bool) -> None:
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)

    def settings() -> list:
        found = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
        return [*found, are_progress_bars_disabled()]

    before = settings()
    try:
        for verbosity, bars in ((logging.INFO, True), (logging.ERROR, False)):
            for library in libraries:
                library.set_verbosity(verbosity)
                (library.enable_progress_bar if bars else library.disable_progress_bar)()
            chosen = settings()
            if fails:
                (model / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
                refused(model, "cannot be loaded")
            else:
                load_backbone(model, device="cpu")
            assert settings() == chosen
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=False):
            library.set_verbosity(verbosity)
            (library.enable_progress_bar if bars else library.disable_progress_bar)()


def test_loading_says_nothing(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone(model, device="cpu")
    file = next((model / "image_encoder").glob("*.safetensors"))
    save_file(load_file(file) | {"extra": torch.zeros(2)}, file, metadata={"format": "pt"})
    load_backbone(model, device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_hub_id_in_the_cache_is_loaded_and_checked_as_a_folder(cache: Path) -> None:
    snapshot = cache / "snapshots" / "abc"
    shutil.rmtree(snapshot)
    shutil.copytree(EMBEDDED["tiny"], snapshot)
    backbone = load_backbone("some/model", device="cpu")
    assert (backbone.name, backbone.native_size) == ("some/model", NativeSize(8, 32, 4, 4))
    edit(snapshot / "vae" / "config.json", block_out_channels=[64] * 5000)
    with pytest.raises(ModelError, match="block_out_channels has 5000 entries"):
        load_backbone("some/model", device="cpu")
