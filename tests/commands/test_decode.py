"""``mvguide decode``: what a render could not decode is kept, and becomes its result folder later."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mvguide.backbones.svd import SvdBackbone
from mvguide.cli import main
from mvguide.config.parsing import make_parser, parse
from mvguide.config.render_options import RenderConfig
from mvguide.pipeline.latents import LATENTS, load_latents

RENDER = ["render", "--scene", "corner", "--steps", "1", "--num_frames", "3", "--width", "32", "--height", "24"]


def run(*words: str) -> int:
    try:
        return main([*words, "--quiet"])
    except SystemExit as stop:
        return int(stop.code or 0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: SvdBackbone, x: torch.Tensor, *given: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("Tried to allocate 18.00 GiB.")

    monkeypatch.setattr(SvdBackbone, "decode", decode)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_render_that_cannot_decode_keeps_its_latents_and_decode_makes_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*RENDER, "--out", "whole") == 0
    assert run(*RENDER, "--seed", "1", "--out", "my render") == 0
    older = files(Path("my render"))
    with monkeypatch.context() as patch:
        too_little(patch)
        assert run(*RENDER, "--out", "my render") == 2
        assert said(capsys) == (
            "mvguide: decoding a video of 32 x 24 needs more memory than there is (18.00 GiB more were asked for); its "
            "latents are kept: decode them with mvguide decode 'my render' --chunk 1, or on another device: "
            "--device cpu"
        )
        kept = files(Path("my render"))
        assert kept.pop(LATENTS)
        assert kept == older, "nothing is lost"
        assert run("decode", "my render", "--chunk", "1") == 2
        assert said(capsys).endswith("its latents are kept in my render/latents.safetensors; decode them on another "
                                     "device: --device cpu")  # fmt: skip
    assert run("decode", "my render") == 0
    found, whole = files(Path("my render")), files(Path("whole"))
    for part in (found, whole):
        del part["report.html"]  # it has times
    reports = [json.loads(part.pop("report.json")) for part in (found, whole)]
    assert found == whole
    for report in reports:
        report.pop("seconds")
        report["settings"].pop("peak_memory_mib")
        report["settings"]["command"].pop("out")
    assert reports[0] == reports[1]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder with its latents."""
    folder = tmp_path_factory.mktemp("kept") / "out"
    assert run(*RENDER, "--save_latents", "--out", str(folder)) == 0
    return folder


def test_kept_latents_are_decoded_again_with_another_chunk(kept: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept, tmp_path / "out")
    assert run("decode", str(folder), "--chunk", "1") == 0
    assert (folder / LATENTS).exists(), "they were to be kept"
    report, before = (json.loads((place / "report.json").read_text()) for place in (folder, kept))
    assert report["settings"]["decoded"]["chunk"] == 1
    assert report["seconds"]["denoise"] == before["seconds"]["denoise"]
    assert report["seconds"]["decode"] < 5 * before["seconds"]["decode"], "of this decoding alone"
    assert (folder / "images/0001.png").read_bytes() != (kept / "images/0001.png").read_bytes()


def test_settings_of_the_render_hold_unless_others_are_given(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of, command = load_latents(kept / LATENTS)
    command |= {"chunk": 2, "dtype": "bfloat16"}
    run_of.save_latents(tmp_path / LATENTS, command)

    def decoded(*words: str) -> dict[str, Any]:
        assert run("decode", str(tmp_path / LATENTS), *words, "--out", str(tmp_path / "out")) == 0
        return json.loads((tmp_path / "out/report.json").read_text())["settings"]["decoded"]

    assert decoded() == {"chunk": 2, "device": "cpu", "dtype": "bfloat16"}
    assert decoded("--chunk", "3", "--dtype", "float32") == {"chunk": 3, "device": "cpu", "dtype": "float32"}
    run_of.save_latents(tmp_path / LATENTS, command | {"chunk": "many"})
    assert run("decode", str(tmp_path / LATENTS)) == 2
    assert "chunk" in said(capsys)


def test_a_file_elsewhere_is_decoded_without_the_scene(kept: Path, tmp_path: Path) -> None:
    file = tmp_path / "moved.safetensors"
    shutil.copy(kept / LATENTS, file)
    assert run("decode", str(file), "--out", str(tmp_path / "out")) == 0
    found, before = files(tmp_path / "out"), files(kept)
    for name in ("report.json", "report.html", LATENTS):  # they have times
        assert found.pop(name)
        before.pop(name)
    assert found == before
    assert file.exists()


def test_what_decode_refuses(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[list[str], str]] = [
        ([], "no latents were given; give a result folder that has latents.safetensors, or that file"),
        ([str(tmp_path)], f"latents file {tmp_path}/latents.safetensors does not exist; check the path"),
        ([str(kept), "--chunk", "0"], "chunk is 0; it must be at least 1"),
        ([str(kept), "--model", "other/svd"], "the latents are of model tiny, but --model is other/svd; leave it out, "
                                              "or give the place where tiny is now"),
        ([str(kept), "--offload", "group"], "offload 'group' moves networks between a GPU and memory, but the device "
                                            "is the CPU; leave it out"),
    ]  # fmt: skip
    for words, sentence in cases:
        assert run("decode", *words, *([] if "--offload" not in words else ["--device", "cpu"])) == 2
        assert said(capsys) == f"mvguide: {sentence}"


def test_the_model_may_be_elsewhere_now(kept: Path, tmp_path: Path) -> None:
    from mvguide.backbones.pretrained import EMBEDDED

    model = shutil.copytree(EMBEDDED["tiny"], tmp_path / "tiny")
    assert run("decode", str(kept), "--model", str(model), "--out", str(tmp_path / "out")) == 0
    assert (tmp_path / "out/video.mp4").read_bytes() == (kept / "video.mp4").read_bytes()


@pytest.mark.parametrize(
    ("words", "offload"),
    [([], "none"), (["--offload"], "model"), (["--offload", "group"], "group"), (["--offload", "--quiet"], "model")],
)
def test_offload_alone_means_that_of_whole_networks(words: list[str], offload: str) -> None:
    settings: Any = parse(make_parser(RenderConfig), RenderConfig, words)
    assert settings.offload == offload
    assert settings.chunk is None


def test_offload_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["render", "--image", str(tmp_path / "none.png"), "--device", "cpu"]
    assert run(*words, "--offload") == 2
    assert said(capsys).startswith("mvguide: offload 'model' moves networks between a GPU and memory")
    assert run(*words, "--offload", "yes") == 2
    assert "Expected one of 'none', 'model', 'group'" in said(capsys)


def test_out_of_memory_while_denoising_is_a_sentence_and_loses_nothing(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mvguide.backbones.svd import SvdDenoiser

    def call(self: SvdDenoiser, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("Tried to allocate 7.73 GiB.")

    folder = shutil.copytree(kept, tmp_path / "out")
    before = files(folder)
    monkeypatch.setattr(SvdDenoiser, "__call__", call)
    assert run(*RENDER, "--out", str(folder)) == 2
    assert said(capsys).startswith("mvguide: denoising 3 frames of 32 x 24 needs more memory than there is (7.73 GiB ")
    assert run(*RENDER, "--guidance.table", "calibrated", "--out", str(folder)) == 2
    assert said(capsys).startswith("mvguide: measuring the errors of 3 frames of 32 x 24 needs more memory")
    assert files(folder) == before
