"""A first use: what is assumed is announced, short forms work, misspelt options are named, reports say what ran."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvguide
from mvguide.cli import main
from mvguide.config.input_options import InputConfig, PreviewConfig
from mvguide.config.parsing import load_settings, make_parser, parse
from mvguide.config.score_options import EvaluateResultConfig
from mvguide.files.images import exif_fov


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[0:48, 0:64]
    picture = np.stack([rows * 5, columns * 4, rows * columns // 12], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save("photo.png")
    np.save("depth.npy", np.where(columns > 32, 2.0, 4.0))
    return tmp_path


COMMON = ["--image", "photo.png", "--depth", "depth.npy", "--num_frames", "3", "--width", "32", "--height", "24"]
STEPS = ["--steps", "2", "--device", "cpu"]


def settings(*words: str) -> PreviewConfig:
    return parse(make_parser(PreviewConfig), PreviewConfig, words)


def test_a_value_that_equals_the_default_wins_over_the_scene(folder: Path) -> None:
    Path("scene.yaml").write_text("image: photo.png\nfps: 10\nnum_frames: 5\n")
    assert load_settings(InputConfig, scene="scene.yaml").fps == 10
    assert load_settings(InputConfig, scene="scene.yaml", fps=7).fps == 7
    given = settings("--fps", "7", "--scene", "scene.yaml")
    assert (given.fps, given.num_frames) == (7, 5)
    Path("config.yaml").write_text("scene: scene.yaml\nnum_frames: 4\n")
    layered = settings("--config", "config.yaml")
    assert (layered.fps, layered.num_frames, Path(str(layered.image)).name) == (10, 4, "photo.png")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--intrinsics", "525", "525", "319.5", "239.5"], [525, 525, 319.5, 239.5]),
        (["--intrinsics", "[525,525,319.5,239.5]"], [525, 525, 319.5, 239.5]),
        (["--use", "a", "b", "--fps", "9"], ["a", "b"]),
        (["--use", "0"], [0]),
        (["--use", "[0, b]"], [0, "b"]),
    ],
)
def test_lists_need_no_brackets(words: list[str], wanted: list[object]) -> None:
    assert getattr(settings(*words), words[0][2:]) == wanted


def test_a_list_of_numbers_ends_where_a_name_begins() -> None:
    parser = make_parser(EvaluateResultConfig, positional=("result", "?"))
    found = parse(parser, EvaluateResultConfig, ["--truth", "t", "--frames", "0", "2", "out/render"])
    assert (found.frames, found.result) == ([0, 2], "out/render")
    found = parse(parser, EvaluateResultConfig, ["--frames", "[0]", "out/render"])
    assert (found.frames, found.result) == ([0], "out/render")


def test_a_kind_needs_no_dot() -> None:
    found = settings("--trajectory", "orbit", "--trajectory.degrees", "12")
    assert (found.trajectory.kind, found.trajectory.params()) == ("orbit", {"degrees": 12})


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "preview" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trajectory.degree", "3"], "there is no option --trajectory.degree; did you mean --trajectory.degrees?"),
        (["--wdth", "3"], "did you mean --width?"),
    ],
)
def test_misspelt_options_are_refused(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["preview", *COMMON, *words])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_packaged_scenes_and_configs_have_names(folder: Path) -> None:
    two = settings("--scene", "two_views")
    assert two.views is not None
    assert all(Path(view.image).is_file() for view in two.views)
    orbit = settings("--config", "orbit")
    assert (orbit.trajectory.kind, Path(str(orbit.image)).is_file()) == ("orbit", True)


def test_what_was_assumed_and_which_model_runs_is_announced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *COMMON, *STEPS, "--out", "out"]) == 0
    lines = capsys.readouterr().err
    assert "field of view of photo.png is not known: 60 degrees are assumed; --fov sets it" in lines
    assert "model tiny: 3 frames of 32 x 24, 2 steps. It is a toy to try mvguide with" in lines
    assert "--model stabilityai/stable-video-diffusion-img2vid-xt --variant fp16" in lines
    assert lines.index("reading") < lines.index("loading the model") < lines.index("denoising") < lines.index("writing")
    assert main(["--quiet", "preview", *COMMON, "--fov", "50", "--out", "look"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_the_field_of_view_of_exif(folder: Path) -> None:
    picture = Image.open("photo.png")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    picture.save("phone.jpg", exif=exif)
    wide = 2 * math.degrees(math.atan(18 / 28))
    assert exif_fov("phone.jpg") == pytest.approx(wide)
    exif[0x0112] = 6  # held upright
    picture.save("upright.jpg", exif=exif)
    assert exif_fov("upright.jpg") == pytest.approx(2 * math.degrees(math.atan(18 * 48 / 64 / 28)))
    assert exif_fov("photo.png") is None
    said: list[str] = []
    (view,) = mvguide.load_views(
        mvguide.SourceOptions(image="phone.jpg"), mvguide.DepthOptions(depth_source="file"), say=said.append
    ).views
    assert float(view.camera.intrinsics[0, 0]) == pytest.approx(64 / 36 * 28, rel=1e-6)
    assert said == [f"field of view of phone.jpg is {wide:.3g} degrees, by the focal length of its EXIF data"]


def test_the_report_says_what_ran(folder: Path) -> None:
    assert main(["render", *COMMON, *STEPS, "--quiet", "--fov", "60", "--out", "out"]) == 0
    report = json.loads(Path("out/report.json").read_text())["settings"]
    assert (report["device"], report["dtype"], report["threads"]) == ("cpu", "float32", torch.get_num_threads())
    assert report["peak_memory_mib"]["process"] > 100
    versions = json.loads(Path("out/report.json").read_text())["versions"]
    assert {"torch", "pillow", "imageio-ffmpeg"} <= set(versions)


def test_the_preview_explains_its_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = np.load("depth.npy")
    depth[:12] = 0
    np.save("depth.npy", depth)
    assert main(["preview", *COMMON, "--fov", "60", "--out", "look"]) == 0
    text = capsys.readouterr().out
    assert "from views" not in text, "there is one view"
    assert "seen: share of a frame of 32 x 24 that a view shows" in text
    assert "25% of photo.png has no depth: its place is guessed" in text
    assert "nan" not in text


def test_objects_show_themselves_in_one_line(folder: Path) -> None:
    view = mvguide.View.from_files("photo.png", "depth.npy", fov=60)
    path = view.trajectory("orbit", 3, degrees=10)
    assert torch.equal(path.center, mvguide.orbit(view.camera, 3, degrees=10, target_depth=view.median_depth).center)
    pipe = mvguide.MultiViewPipeline.from_pretrained("tiny", device="cpu")
    context = pipe.prepare([view], path, schedule=pipe.backbone.schedule(2), size=(32, 24))
    table = context.search_table()
    result = pipe.sample(context, table)
    assert repr(view) == f"View(photo.png, 64 x 48, median depth {view.median_depth:.3g})"
    assert repr(context) == "Context(1 views, 3 frames of 32 x 24)"
    assert repr(table).startswith("LambdaTable(2 levels x 3 frames, sigma 700 to")
    assert repr(result) == "Result(3 frames of 32 x 24, model tiny, guidance blend, seed 67280421310721, 2 steps)"
    assert mvguide.__version__ == "0.1.0"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "content", [BOMB + "use: *h\n", "use: " + "[" * 20_000 + "]" * 20_000], ids=["aliases", "deep"]
)
@pytest.mark.parametrize("option", ["--scene", "--config", "--intrinsics"])
def test_yaml_that_never_ends_is_refused(
    option: str, content: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.yaml").write_text(content)
    flow = "{" + content.replace("\n", ",").rstrip(",") + "}"
    assert main(["preview", *COMMON[2:], option, flow if option == "--intrinsics" else "a.yaml", "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "more than 1000 entries" in line or "nested more than 20 deep" in line
