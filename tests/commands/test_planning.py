"""``mvguide plan``: a table, a sentence, and one clear sentence for bad input."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvguide.backbones.memory_plan import plan_memory
from mvguide.backbones.model_configs import published_models, read_model_configs
from mvguide.cli import main
from mvguide.commands.planning import fit_memory, gradient_tiles, plan
from mvguide.config.parsing import make_parser, parse
from mvguide.config.plan_options import PlanConfig
from mvguide.config.render_options import RenderConfig
from mvguide.errors import ModelError
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.tiles import make_tiles
from mvguide.scenes import packaged_scene


def run(*arguments: str) -> int:
    try:
        return main(["plan", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_the_table_has_every_part_and_the_sentence_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--vram", "8") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "model tiny: 8 frames of 176 x 96, float16; predicted GiB on the GPU"
    parts = [line[:20].strip() for line in said[1:-1]]
    assert [part for part in parts if part] == ["weights", "network", "encoding", "decoding", "posterior gradient"]
    assert said[-1].startswith("8 GiB is enough: everything on the GPU, the whole video decoded at once; at most ")


def test_a_gpu_that_is_too_small_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--vram", "0.02", "--num_frames", "8", "--width", "256", "--height", "128") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("20 MiB is ")
    assert " too little even with group offload, decode " in last
    assert "would need a GPU of" in last


def test_without_a_gpu_the_sentence_asks_for_its_size(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert plan(PlanConfig(num_frames=4, width=64, height=64)) is None
    assert capsys.readouterr().out.splitlines()[-1].startswith("no GPU here; give its memory with --vram")


def test_the_gradient_counts_only_where_it_is_the_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    config = PlanConfig(num_frames=8, width=256, height=128, vram=0.15)
    plain, steered = plan(config), plan(replace(config, guidance="posterior_gradient"))
    assert plain is not None
    assert steered is not None
    assert "gradient" not in plain.stages
    assert steered.stages["gradient"] > 0
    assert steered.settings.checkpointing
    assert not plain.settings.checkpointing


def test_planned_tiles_are_those_that_the_gradient_is_computed_on() -> None:
    found = plan_memory(read_model_configs("tiny"), num_frames=8, width=256, height=128)
    tiles = gradient_tiles(found)
    assert list(tiles) == [1, 2, 4, 9]
    assert tiles[1] == found.cells
    for count, size in tiles.items():
        made = make_tiles(*found.cells, count, PosteriorGradient().tile_overlap)
        assert {tuple(tile.weight.shape) for tile in made} == {size}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vram", "0"], "vram is 0; it is the memory of the GPU in GiB"),
        (["--vram", "nan"], "--vram: Expected float. Got value: nan"),
        (["--vram", "-1"], "vram is -1; it is the memory of the GPU in GiB"),
        (["--width", "64"], "only width was given; give both width and height"),
        (["--model", "no/such-model"], "neither a folder nor in the local cache"),
        (["--model", "wan2.1-14b", "--num_frames", "80"], "use 77 or 81"),
        (["--guidance", "magic"], "--guidance"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


def test_the_help_names_every_published_model() -> None:
    words = make_parser(PlanConfig).format_help().replace("\n", " ")
    assert all(model in words for model in published_models())


def test_the_example_of_the_docs_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "memory.md").read_text()
    command, printed = re.findall(r"```(?:sh|text)\n(.*?)```", page, re.DOTALL)[:2]
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out == printed


def fitted(vram: float | None, *words: str, frames: int = 8) -> tuple[RenderConfig, list[str]]:
    """Settings of a render of frames of 256 x 128 on a GPU with so many GiB free, and what was said."""
    arguments = ["--model", "tiny", "--width", "256", "--height", "128", *words]
    config = parse(make_parser(RenderConfig), RenderConfig, arguments)
    view = packaged_scene().load(frames)
    said: list[str] = []
    return fit_memory(config, view[1], None if vram is None else int(vram * 2**30), said.append), said


def test_memory_auto_chooses_the_settings_of_a_render() -> None:
    large, said = fitted(8, "--memory", "auto")
    assert (large.offload, large.cfg_chunked, large.chunk) == ("none", False, 8)
    assert said == ["memory: 8 GiB, using everything on the GPU, the whole video decoded at once"]
    small, said = fitted(0.06, "--memory", "auto")
    assert small.offload != "none" or small.chunk == 1
    assert small.cfg_chunked
    assert said[0].startswith("memory: 61 MiB, using ")
    steered, _ = fitted(0.15, "--memory", "auto", "--guidance.kind", "posterior_gradient")
    assert steered.guidance.guide().checkpointing  # type: ignore[attr-defined]


def test_memory_auto_has_the_vae_work_in_tiles_where_that_fits() -> None:
    words = ["--model", "wan2.2-5b", "--width", "1280", "--height", "704"]
    tiled, said = fitted(6, *words, "--memory", "auto", frames=9)
    assert tiled.vae_tiling
    assert "the VAE in tiles" in said[0]
    assert not fitted(80, *words, "--memory", "auto", frames=9)[0].vae_tiling
    assert fitted(80, *words, "--memory", "auto", "--vae_tiling", frames=9)[0].vae_tiling, "what is given stays"


def test_settings_that_are_given_stay_and_what_does_not_fit_is_said() -> None:
    config, said = fitted(8)
    assert (config.offload, config.chunk, said) == ("none", None, [])
    config, said = fitted(0.06)
    assert (config.offload, config.chunk) == ("none", None)
    assert re.fullmatch(r"memory: 61 MiB, using .* these settings may need .* MiB: give --memory auto", said[0])


def test_nothing_is_planned_on_the_cpu_or_for_an_unknown_model() -> None:
    assert fitted(None, "--memory", "auto")[1] == []
    assert fitted(8, "--model", "some/unknown")[1] == []
    with pytest.raises(ModelError, match="some/unknown"):
        fitted(8, "--model", "some/unknown", "--memory", "auto")
