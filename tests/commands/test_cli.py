"""The command line end to end on the embedded model, and one clear sentence for each kind of bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.cameras.transforms import write_transforms
from mvguide.cli import main
from mvguide.geometry.camera import Camera
from mvguide.geometry.trajectory import orbit
from mvguide.tables.table import LambdaTable

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ("train_tiny.yaml", "grid.yaml")  # of other commands
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name not in MANIFESTS)
REDWOOD = ROOT / ".." / "shared" / "data" / "redwood_rgbd"
QUICK = ["--steps", "2", "--num_frames", "3", "--width", "32", "--height", "24", "--model", "tiny", "--device", "cpu"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image and a good depth map, as the working folder."""
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[0:48, 0:64]
    picture = np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save("photo.png")
    np.save("depth.npy", 4 - rows / 24)
    return tmp_path


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def test_render_writes_a_whole_result(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["render", "--image", "photo.png", "--depth", "depth.npy", "--trajectory.kind", "truck", *QUICK]
    assert run(*arguments, "--seed", "3", "--out", "out/a") == 0
    said = capsys.readouterr().err
    assert "denoising" in said
    assert "sigma" in said
    assert "out/a" in said
    report = json.loads(Path("out/a/report.json").read_text())
    assert report["settings"]["seed"] == 3
    assert report["settings"]["command"]["trajectory"]["kind"] == "truck"
    assert report["settings"]["size"] == [32, 24]
    assert len(list(Path("out/a/images").iterdir())) == 3
    assert run(*arguments, "--seed", "3", "--out", "out/b", "--quiet") == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert quiet.out == ""
    for name in ("images/0002.png", "video.mp4", "lambda_table.npz", "sheet.png"):
        assert Path("out/a", name).read_bytes() == Path("out/b", name).read_bytes()


@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    # A table is made for its number of steps.
    steps = "25" if "tiny_25x8" in config.read_text() else "2"
    arguments = ["--steps", steps, "--sigmas", "null", "--width", "32", "--height", "32", "--quiet"]
    assert run("render", "--config", str(config), *arguments, "--out", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "video.mp4").exists()


def test_options_override_the_config(inputs: Path) -> None:
    Path("c.yaml").write_text("image: photo.png\ndepth: depth.npy\nseed: 5\nsteps: 2\ntrajectory:\n  kind: dolly\n")
    assert run("render", "--config", "c.yaml", *QUICK, "--seed", "6", "--out", "out", "--quiet") == 0
    command = json.loads(Path("out/report.json").read_text())["settings"]["command"]
    assert command["seed"] == 6
    assert command["trajectory"]["kind"] == "dolly"


def test_demo_and_its_other_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--steps", "1", "--scene", "hall", "--out", str(tmp_path / "hall"), "--quiet") == 0
    assert (tmp_path / "hall" / "sheet.png").exists()
    assert run("demo", "--scene", "attic") == 2
    assert "choose one of blocks, carousel, corner" in capsys.readouterr().err


def test_search_hypers_writes_table_and_plot(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search-hypers", "--sigmas", "sigmas_25", "--num_frames", "25", "--rule", "released",
               "--out", "out/table.npz", "--plot", "out/table.png") == 0  # fmt: skip
    assert "v1 = 0.001, v2 = 1000, v3 = 10" in capsys.readouterr().out
    golden = np.load(ROOT / "tests" / "data" / "single_view_tables.npz", allow_pickle=False)["lambda_25"]
    np.testing.assert_allclose(LambdaTable.load("out/table.npz").weights.numpy(), golden, atol=1e-9)
    plot = np.asarray(Image.open("out/table.png"))
    assert plot.std() > 20
    assert run("search-hypers", "--distances", "[0, 0.5, 1]", "--rule", "exact", "--out", "three.npz", "--quiet") == 0
    assert LambdaTable.load("three.npz").weights.shape == (25, 3)


def test_the_script_is_the_same_search(tmp_path: Path) -> None:
    arguments = ["--sigmas", "sigmas_50", "--num_frames", "14", "--rule", "exact", "--out", str(tmp_path / "t.npz")]
    subprocess.run([sys.executable, str(ROOT / "tools" / "search_hypers.py"), *arguments], check=True)
    assert LambdaTable.load(tmp_path / "t.npz").weights.shape == (50, 14)


def test_sigmas_make_and_show(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sigmas", "make", "--steps", "30", "--sigma_min", "0.002", "--sigma_max", "700", "--rho", "7",
               "--out", "out/s.npy") == 0  # fmt: skip
    assert run("sigmas", "show", "out/s.npy") == 0
    said = capsys.readouterr().out
    assert "30 steps" in said
    assert "700.00000" in said


@pytest.mark.skipif(not REDWOOD.exists(), reason="real data is not beside the checkout")
def test_a_real_rgbd_view_renders(tmp_path: Path) -> None:
    assert run("render", "--image", str(REDWOOD / "color/00000.jpg"), "--depth", str(REDWOOD / "depth/00000.png"),
               "--depth_unit", "0.001", "--intrinsics", "[525,525,319.5,239.5]", "--trajectory.kind", "orbit",
               "--trajectory.degrees", "10", "--num_frames", "4", "--model", "tiny", "--seed", "1", "--steps", "1",
               "--device", "cpu", "--quiet", "--out", str(tmp_path / "redwood")) == 0  # fmt: skip
    report = json.loads((tmp_path / "redwood" / "report.json").read_text())
    assert report["settings"]["size"] == [144, 112], "the image's shape at the model's trained area"
    assert all(0.75 < share <= 1 for share in report["seen"])


def test_help_is_quick_and_names_every_command() -> None:
    said = subprocess.run([sys.executable, "-m", "mvguide.cli", "--help"], capture_output=True, text=True, check=True)
    for command in ("render", "demo", "search-hypers", "sigmas"):
        assert command in said.stdout


def write_bad_inputs() -> None:
    """Files of every kind of mistake, in the working folder."""
    rows = np.mgrid[0:48, 0:64][0]
    Path("text.npy").write_text("this is no array")
    np.save("pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save("rising.npy", np.array([1.0, 2.0, 0.0]))
    np.save("nan.npy", np.array([2.0, np.nan, 0.0]))
    np.save("square.npy", np.ones((3, 3)))
    np.save("other_shape.npy", np.ones((48, 48)) * 2)
    np.save("zero.npy", np.zeros((48, 64)))
    np.save("negative.npy", np.full((48, 64), -2.0))
    np.save("nan_depth.npy", np.where(rows > 20, np.nan, 2.0))
    disparity = np.clip((rows - 10) / 10, 0, None) ** 1.0
    np.save("disparity.npy", disparity + 0 * rows)
    Path("picture.txt").write_text("an image")
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:100])
    path = orbit(Camera.from_fov(60, 64, 48), 4, degrees=5, target_depth=2.0)
    write_transforms("cameras.json", path, [f"{i}.png" for i in range(4)])
    content = json.loads(Path("cameras.json").read_text())
    content["frames"][2]["transform_matrix"][0] = [0, 0, 0, 0]
    Path("singular.json").write_text(json.dumps(content))
    content = json.loads(Path("cameras.json").read_text())
    for frame in content["frames"]:
        frame["transform_matrix"][1] = [-value for value in frame["transform_matrix"][1]]
    Path("mirrored.json").write_text(json.dumps(content))
    weights = torch.full((25, 14), 0.5)
    LambdaTable(weights, torch.linspace(700, 0.002, 25)).save("table14.npz")
    Path("unknown.yaml").write_text("image: photo.png\ndepht: depth.npy\n")
    Path("occupied").write_text("a file")


GOOD = {"--image": "photo.png", "--depth": "depth.npy", "--out": "result"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--image": "none.png"}, "none.png does not exist"),
        ({"--image": "picture.txt"}, "picture.txt"),
        ({"--image": "broken.png"}, "broken.png"),
        ({"--image": "."}, "is a folder"),
        ({"--depth": "none.npy"}, "none.npy does not exist"),
        ({"--depth": "text.npy"}, "text.npy is not a NumPy file"),
        ({"--depth": "pickled.npy"}, "pickled Python objects, which are never opened"),
        ({"--depth": "other_shape.npy"}, "depth is 48 x 48, but the image is 64 x 48"),
        ({"--depth": "zero.npy"}, "has no valid value"),
        ({"--depth": "negative.npy"}, "negative in 100.0% of its pixels; .*--depth_kind disparity"),
        ({"--depth": "nan_depth.npy"}, "NaN in .* use --depth_invalid nan"),
        ({"--depth": "disparity.npy"}, "looks like inverse depth, .* declare it with --depth_kind disparity"),
        ({"--depth": None}, "has no depth, .* --depth"),
        ({"--depth_unit": "0"}, "depth_unit is 0"),
        ({"--fov": "200"}, "fov is 200"),
        ({"--intrinsics": "[0, 500, 32, 24]"}, "focal length is 0"),
        ({"--intrinsics": "[500, 500, 32]"}, "intrinsics holds 3 numbers"),
        ({"--trajectory.kind": "file", "--trajectory.file": "singular.json"}, "singular.json"),
        ({"--trajectory.kind": "file", "--trajectory.file": "mirrored.json"}, "mirrored.json"),
        ({"--trajectory.kind": "file"}, "add --trajectory.file"),
        ({"--trajectory.kind": "dolly", "--trajectory.distance": "1.5"}, "must be below 1"),
        ({"--trajectory.degrees": "nan"}, "trajectory.degrees: Expected float. Got value: nan"),
        ({"--trajectory.factor": "2"}, "trajectory orbit has no parameter factor"),
        ({"--trajectory.kind": "fly"}, "Expected one of 'orbit'"),
        ({"--num_frames": "0"}, "num_frames is 0"),
        ({"--num_frames": "1"}, "num_frames is 1"),
        ({"--width": "32", "--height": "33"}, "32 x 33 .* not divisible by the VAE factor 4 .* use 32 x 32"),
        ({"--width": "32"}, "give both width and height"),
        ({"--steps": "0"}, "steps is 0"),
        ({"--sigmas": "rising.npy"}, "must decrease strictly"),
        ({"--sigmas": "nan.npy"}, "NaN"),
        ({"--sigmas": "square.npy"}, "one row of noise levels"),
        ({"--sigmas": "text.npy"}, "text.npy cannot be read"),
        ({"--sigmas": "pickled.npy"}, "pickled.npy cannot be read"),
        ({"--sigmas": "sigmas_26"}, "neither a file nor one of"),
        ({"--guidance.table": "none.npz"}, "no lambda table at none.npz"),
        ({"--guidance.table": "table14.npz", "--num_frames": "3"}, "25 rows x 14 columns.*num_frames=3"),
        ({"--guidance.table": "constant", "--guidance.weight": "3"}, "weight is 3"),
        ({"--guidance.kind": "top_share", "--guidance.floor": "2"}, "floor is 2"),
        ({"--hole_radius": "-1"}, "radius is -1"),
        ({"--guidance.cell_coverage": "0"}, "cell_coverage is 0"),
        ({"--guidance.kind": "magic"}, "Expected one of 'blend'.*'posterior_gradient'"),
        ({"--guidance.preset": "nvs_solver"}, "Expected one of 'nvs_solver_dgs'"),
        ({"--guidance.step_size": "-1"}, "step_size is -1"),
        ({"--guidance.tiles": "0"}, "tiles is 0"),
        ({"--guidance.kind": "posterior_gradient", "--guidance.tiles": "49"}, "tiles is 49, .* 8 x 6 latent cells"),
        ({"--guidance.tile_overlap": "0.7"}, "tile_overlap is 0.7"),
        ({"--guidance.resample": "-2"}, "resample is -2"),
        ({"--guidance.resample_until": "3"}, "resample_until is 3"),
        ({"--guidance.mask": "blurred"}, "Expected one of 'hard'"),
        ({"--guidance.ramp": "-1"}, "ramp is -1"),
        ({"--guidance.confidence": "-2"}, "confidence is -2"),
        ({"--guidance.hole_weight": "1.5"}, "weight is 1.5"),
        ({"--guidance.hole_weight": "none.npz"}, "no lambda table at none.npz"),
        ({"--guidance.hole_weight": "table14.npz"}, "25 rows x 14 columns"),
        ({"--guidance.floors": "0.1"}, r"there is no option --guidance.floors; did you mean --guidance.floor\?"),
        ({"--trajectory.degree": "3"}, "did you mean --trajectory.degrees"),
        ({"--model": "nobody/nothing"}, "model 'nobody/nothing' cannot be loaded .* give tiny"),
        ({"--device": "cuda:99"}, "device 'cuda:99'"),
        ({"--out": "occupied"}, "occupied is an existing file"),
        ({"--out": "occupied/below"}, "cannot be written"),
        ({"--config": "unknown.yaml"}, "depht"),
        ({"--nonsense": "1"}, "there is no option --nonsense; see"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: dict, sentence: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_bad_inputs()
    settings = {**dict(zip(QUICK[::2], QUICK[1::2], strict=True)), **GOOD, **changes}
    if "--width" in changes and "--height" not in changes:
        del settings["--height"]
    if "--guidance.table" in changes:
        settings["--steps"] = "25"
    arguments = [word for option, value in settings.items() if value is not None for word in (option, value)]
    before = sorted(path.name for path in inputs.iterdir())
    assert run("render", *arguments, "--quiet") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(sentence, lines[0]), lines[0]
    assert lines[0].startswith("mvguide: ")
    assert sorted(path.name for path in inputs.iterdir()) == before, "nothing may be left behind"


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "exif"])
def test_pictures_of_every_kind_come_out_right(inputs: Path, mode: str) -> None:
    picture = Image.open("photo.png")
    if mode == "exif":
        turned = picture.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise
        turned.save("kind.jpg", exif=exif, quality=98)
        name = "kind.jpg"
    elif mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save("kind.png")
        name = "kind.png"
    else:
        picture.convert(mode).save("kind.png")
        name = "kind.png"
    assert run("render", "--image", name, "--depth", "depth.npy", *QUICK, "--quiet", "--out", "kind") == 0
    shown = np.asarray(Image.open("kind/images/0000.png").convert("L")).astype(float)
    wanted = np.asarray(picture.convert("L").resize((32, 24), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(shown - wanted).mean() < 12
