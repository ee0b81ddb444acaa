"""A denoised run that is kept: decoded later, it gives the same result folder."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mvguide
from mvguide.backbones.base import ConditioningOptions
from mvguide.backbones.svd import SvdBackbone
from mvguide.errors import DecodeError, FileError, InputError, MvguideError, OutOfMemoryError, OutputError
from mvguide.pipeline.latents import LATENTS, load_latents
from mvguide.scenes import packaged_scene
from mvguide.views.view import View
from tests.backbones.test_chunks import at_most
from tests.backbones.tiny_svd import build_pipeline

FRAMES, SIZE = 4, (32, 24)


@pytest.fixture(scope="module")
def pipe() -> mvguide.MultiViewPipeline:
    return mvguide.MultiViewPipeline.from_pretrained("tiny", device="cpu")


def vae(pipe: mvguide.MultiViewPipeline) -> Any:
    return pipe.backbone.pipe.vae  # type: ignore[attr-defined]


def render(pipe: mvguide.MultiViewPipeline, **settings: Any) -> mvguide.Result:
    view, path = packaged_scene("corner").load(FRAMES)
    depth = view.require_depth()
    # A second view, of unlike size, with all that a view can have.
    other = View(view.image, view.camera, depth, "other", depth.values / depth.values.max()).resize(48, 48)
    views = [view, other.with_background(other.require_depth().values > 5)]
    return pipe(views, path, schedule=2, size=SIZE, **settings)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_full_disk_is_one_sentence(pipe: mvguide.MultiViewPipeline, tmp_path: Path) -> None:
    import resource

    result, file = render(pipe), tmp_path / LATENTS
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))  # a larger file fails, as on a full disk
    try:
        with pytest.raises(OutputError, match=r"latents.safetensors cannot be written \(File too large"):
            result.save_latents(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def no_room(pipe: mvguide.MultiViewPipeline) -> Iterator[list[int]]:
    with at_most(vae(pipe).decoder, 0) as asked:
        yield asked


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("guidance", ["blend", "none"])
def test_decoded_later_the_folder_is_the_same_to_the_byte(
    pipe: mvguide.MultiViewPipeline, tmp_path: Path, guidance: str
) -> None:
    command = {"seed": 5, "chunk": None}
    result = render(pipe, guidance=guidance)
    result.save(tmp_path / "whole", command=command)
    with (
        no_room(pipe) as asked,
        pytest.raises(DecodeError, match="needs more memory .*; its latents are kept") as caught,
    ):
        render(pipe, guidance=guidance)
    assert asked == [4, 2, 1]
    file = caught.value.run.save_latents(tmp_path / LATENTS, command)
    run, kept = load_latents(file)
    assert kept == command
    assert torch.equal(run.latents, result.latents)
    again = pipe.decode(run)
    assert torch.equal(again.frames, result.frames)
    again.save(tmp_path / "again", command=kept)
    whole, found = files(tmp_path / "whole"), files(tmp_path / "again")
    for part in (whole, found):
        del part["report.html"]  # it has times
    reports = [json.loads(part.pop("report.json")) for part in (whole, found)]
    assert whole.keys() == found.keys()
    assert [name for name in whole if whole[name] != found[name]] == []
    for report in reports:
        assert set(report.pop("seconds")) == {"warp", "encode", "denoise", "decode"}
        report["settings"].pop("peak_memory_mib")
    assert reports[0] == reports[1]
    assert reports[0]["settings"]["decoded"] == {"chunk": 4, "device": "cpu", "dtype": "float32"}


def test_a_file_is_small_where_its_pictures_are_of_8_bits(pipe: mvguide.MultiViewPipeline, tmp_path: Path) -> None:
    result = render(pipe)
    stored = load_file(result.save_latents(tmp_path / LATENTS))
    assert stored["views.0.image"].dtype == stored["warps.visible"].dtype == torch.uint8
    assert stored["warps.image"].dtype == torch.float32
    run, _ = load_latents(tmp_path / LATENTS)
    for name, value in vars(result.warps).items():
        assert torch.equal(getattr(run.warps, name), value), name


def test_the_chunk_that_was_decoded_is_in_the_report(pipe: mvguide.MultiViewPipeline) -> None:
    with at_most(vae(pipe).decoder, 2):
        result = render(pipe)
    assert result.settings["decoded"]["chunk"] == 2
    assert torch.equal(result.frames, render(pipe, chunk=2).frames)


def test_frames_that_are_not_finite_keep_the_run(pipe: mvguide.MultiViewPipeline) -> None:
    run = render(pipe)
    broken = replace(run, latents=run.latents * torch.inf)
    with pytest.raises(
        DecodeError, match="decoded frames of model tiny are not finite, .*; its latents are kept"
    ) as at:
        pipe.decode(broken)
    assert at.value.run is broken


def test_latents_stay_only_where_they_are_wanted(pipe: mvguide.MultiViewPipeline, tmp_path: Path) -> None:
    result = render(pipe)
    result.save(tmp_path / "out", keep_latents=True)
    run, command = load_latents(tmp_path / "out" / LATENTS)
    assert command == {}
    assert torch.equal(pipe.decode(run, chunk=4).frames, result.frames)
    result.save(tmp_path / "out")
    assert not (tmp_path / "out" / LATENTS).exists(), "they would be those of another video"


def test_out_of_memory_while_denoising_is_one_sentence(pipe: mvguide.MultiViewPipeline) -> None:
    unet = pipe.backbone.pipe.unet  # type: ignore[attr-defined]
    less = r"fewer or smaller frames \(--num_frames, --width, --height\)$"
    guided = ConditioningOptions(FRAMES, cfg_max=3.0)
    with at_most(unet, 0), pytest.raises(OutOfMemoryError) as caught:
        render(pipe, conditioning=guided)
    assert caught.match(
        rf"^denoising 4 frames of 32 x 24 needs .* of 15\.77 GiB is free\); use --cfg_chunked, or {less}"
    )
    with at_most(unet, 0), pytest.raises(OutOfMemoryError, match=rf"is free\); use {less}"):
        render(pipe, conditioning=replace(guided, cfg_chunked=True))
    with at_most(unet, 0), pytest.raises(OutOfMemoryError, match=rf"use --guidance\.tiles 4, --cfg_chunked, or {less}"):
        render(pipe, guidance="posterior_gradient", conditioning=guided)


def test_on_a_gpu_the_sentence_names_offload(pipe: mvguide.MultiViewPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    view, path = packaged_scene("corner").load(FRAMES)
    context = pipe.prepare([view], path, schedule=2, size=SIZE)
    monkeypatch.setattr(type(pipe.backbone), "device", torch.device("cuda"))
    with pytest.raises(OutOfMemoryError, match="use --offload model or group, or fewer"), context.enough_memory("x"):
        raise torch.OutOfMemoryError


def test_out_of_memory_before_denoising_is_one_sentence(pipe: mvguide.MultiViewPipeline) -> None:
    with (
        at_most(vae(pipe).encoder, 0),
        pytest.raises(OutOfMemoryError, match="^conditioning the model on frames of 32"),
    ):
        render(pipe)


def test_latents_of_another_model_are_refused(pipe: mvguide.MultiViewPipeline) -> None:
    run = render(pipe)
    other = mvguide.MultiViewPipeline(SvdBackbone(build_pipeline(), "other"))
    with pytest.raises(
        InputError, match=r"\(1, 4, 4, 6, 8\) were given, but those of model other for 4 frames of 32 x"
    ):
        other.decode(run)


def edit(file: Path, **tensors: Any) -> None:
    """Change, add or remove (None) tensors, or the header."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stored:
        header = json.loads(stored.metadata()["mvguide"])
        found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    header |= tensors.pop("header", {})
    found |= {name.replace("__", "."): value for name, value in tensors.items()}
    kept = {name: value for name, value in found.items() if value is not None}
    save_file(kept, file, {"mvguide": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"warps__visible": torch.zeros(4, 1, 24, 31)}, "has visible of shapes that do not fit"),
        ({"warps__shares": torch.zeros(1, 4)}, "has shares of shapes"),
        ({"latents": torch.zeros(4, 4, 6, 8)}, "views or latents of shapes"),
        ({"warps__guessed": torch.zeros(4, 1, 24, 32)}, "numbers of kinds that do not fit"),
        ({"warps__depth": None}, r"KeyError: 'warps\.depth'"),
        ({"views__1__image": None}, r"lacks views\.1\.image"),
        ({"views__0__valid": torch.zeros(3, 3, dtype=torch.bool)}, "has valid of shapes"),
        ({"views__0__depth": torch.zeros(3, 3)}, "has depth .* but a camera of"),
        ({"trajectory__world_to_camera": torch.zeros(4, 4, 4)}, "world_to_camera"),
        ({"sigmas": torch.tensor([1.0, 2.0, 0.0])}, "must decrease strictly"),
        ({"header": {"format": 7}}, "is of format 7, not 1"),
        ({"header": {"settings": {"model": "tiny"}}}, "does not say what model, or how many frames a second"),
        ({"header": {"settings": []}}, "cannot be read|does not say"),
        ({"header": {"views": []}}, "do not fit"),
        ({"header": {"views": 3}}, "cannot be read"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    pipe: mvguide.MultiViewPipeline, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    file = tmp_path / LATENTS
    shutil.copy(sample(pipe, tmp_path), file)
    edit(file, **change)
    with pytest.raises(MvguideError, match=words) as caught:
        load_latents(file)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"latents": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(FileError, match="weights.safetensors holds no run of mvguide; give the latents.safetensors"):
        load_latents(tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(FileError, match="text.safetensors cannot be read"):
        load_latents(tmp_path / "text.safetensors")
    with pytest.raises(FileError, match="latents file .* does not exist"):
        load_latents(tmp_path / LATENTS)


_SAMPLE: list[bytes] = []


def sample(pipe: mvguide.MultiViewPipeline, folder: Path) -> Path:
    """A good file, rendered once."""
    file = folder / "good.safetensors"
    if not _SAMPLE:
        _SAMPLE.append(render(pipe).save_latents(file).read_bytes())
    file.write_bytes(_SAMPLE[0])
    return file
