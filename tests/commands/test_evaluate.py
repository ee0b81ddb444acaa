"""``mvguide evaluate`` and ``compare`` end to end on the embedded model, and on folders that are damaged."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from mvguide.cameras.transforms import write_transforms
from mvguide.cli import main
from mvguide.errors import MvguideError
from mvguide.evaluation.compare import compare_folders
from mvguide.evaluation.metrics import psnr
from mvguide.evaluation.rendered import read_result
from mvguide.files.images import read_image, write_png
from mvguide.files.video import read_video, write_video
from mvguide.geometry.hole_filling import push_pull_fill
from mvguide.scenes import packaged_scene
from mvguide.views.view import fit_camera
from mvguide.views.warps import warp_views
from tests.drawing.page_checks import check_page
from tests.evaluation.test_perceptual import random_weights

SIZE, COUNT = 48, 4
QUICK = ["--steps", "2", "--width", "32", "--height", "32", "--num_frames", "5", "--device", "cpu", "--quiet"]


def run(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def make_scene(folder: Path) -> Path:
    """Four posed images of a packaged scene with the depth of each, as a scene file."""
    view, path = packaged_scene("courtyard").load(COUNT)
    path = fit_camera(path, SIZE, SIZE)
    warps = warp_views([view], path)
    pictures = push_pull_fill(warps.image, warps.visible)
    names = [f"images/{name}.png" for name in ("a", "b", "c", "d")]
    (folder / "depth").mkdir(parents=True)
    for index, name in enumerate(names):
        write_png(folder / name, pictures[index])
        # Frame 0 is pinned: its warp has its depth too, but for the pixels that the view is cut at.
        depth = push_pull_fill(warps.depth[index : index + 1], (warps.depth[index : index + 1] > 0).float())
        np.save(folder / "depth" / f"{Path(name).stem}.npy", depth[0, 0].numpy())
    write_transforms(folder / "transforms.json", path, names)
    scene = folder / "scene.yaml"
    scene.write_text("cameras: transforms.json\ndepth: depth\n")
    return scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def evaluated(scene: Path) -> Path:
    """The evaluation of the scene, one view given and three held out; the render is beside it."""
    out = scene.parent / "out"
    assert run("evaluate", "--scene", str(scene), "--use", "[0]", *QUICK, "--resume", "--out", str(out)) == 0
    return out


def list_views(scene: Path) -> Path:
    """The images of a scene as a list of views, in a scene file beside it."""
    told = json.loads((scene.parent / "transforms.json").read_text())
    views = []
    for frame in told["frames"]:
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL axes to OpenCV's
        intrinsics = [frame.get(key, told.get(key)) for key in ("fl_x", "fl_y", "cx", "cy")]
        name = frame["file_path"]
        views.append({"image": name, "intrinsics": intrinsics, "camera_to_world": matrix.tolist()})
    listed = scene.parent / "listed.yaml"
    listed.write_text(yaml.safe_dump({"views": views, "depth": "depth"}))
    return listed


@pytest.fixture
def copied(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "out")
    return tmp_path / "out"


def document(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def test_a_scene_with_held_out_pictures(evaluated: Path, scene: Path) -> None:
    found = document(evaluated)
    # Four cameras at five frames: round(k 4 / 3).
    assert found["frames"] == [0, 1, 3, 4]
    assert found["given"] == [0]
    assert list(found["rows"]) == ["result", "warp + fill", "truth, VAE", "truth"]
    assert found["truth"] == "3 held-out images of transforms.json"
    video = read_result(evaluated / found["result"])
    assert video.pinned.tolist() == [True, False, False, False, False]
    for k, frame in enumerate(found["frames"]):
        truth = read_image(evaluated / "truth" / f"{frame:04d}.png")
        row = found["per_frame"]["result"][k]
        assert row["frame"] == frame
        assert row["psnr whole"] == pytest.approx(float(psnr(video.frames[frame], truth)), abs=0.02)
        assert row["seen share"] == pytest.approx(float(video.visible[frame].mean()), abs=1e-3)
    rows = found["rows"]
    counted = [row["psnr whole"] for row in found["per_frame"]["result"] if not row["given"]]
    assert rows["result"]["psnr whole"] == pytest.approx(sum(counted) / 3)
    # The images of this scene are warps of the view: only the size at which they were made differs.
    assert min(rows["warp + fill"]["psnr seen"], rows["truth, VAE"]["psnr seen"]) > rows["result"]["psnr seen"]
    assert 0 < rows["truth"]["reprojection"] < rows["result"]["reprojection"]
    assert rows["result"]["reprojection ratio"] == pytest.approx(
        rows["result"]["reprojection"] / rows["truth"]["reprojection"]
    )
    assert rows["result"]["flicker ratio"] > 0
    report = json.loads((evaluated / "render" / "report.json").read_text())
    assert report["settings"]["command"]["use"] == ["images/a.png"]
    assert found["settings"]["seconds"] == pytest.approx(sum(report["seconds"].values()), abs=0.01)
    assert "--resume" not in (evaluated / "report.html").read_text(), "the same page as a run that nobody stopped"


def test_held_out_entries_of_a_list_of_views(evaluated: Path, scene: Path, tmp_path: Path) -> None:
    listed, out = list_views(scene), tmp_path / "out"
    assert run("evaluate", "--scene", str(listed), "--use", "[a]", "--held_out", "[b.png, 2, 3]", *QUICK,
               "--out", str(out)) == 0  # fmt: skip
    found, same = document(out), document(evaluated)
    assert found["truth"] == "3 held-out images of listed.yaml"
    assert (found["frames"], found["given"]) == (same["frames"], same["given"])
    # The very scene of the camera file, told in another way.
    for row in ("result", "warp + fill"):
        for name, value in same["rows"][row].items():
            assert found["rows"][row][name] == pytest.approx(value, rel=1e-3), (row, name)
    report = json.loads((out / "render" / "report.json").read_text())
    assert [Path(name).name for name in report["settings"]["command"]["use"]] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--use", "[z]"], "use names 'z', but views has 4 images"),
        (["--held_out", "[4]"], "use names '4', but views has 4 images"),
        (["--use", "[0, b]", "--held_out", "[1]"], "b.png is named by use and by held_out"),
        ([], "every image is a view, .* name the views with --use"),
    ],
)
def test_lists_that_do_not_fit_the_views(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    listed = list_views(scene)
    assert re.search(
        wanted,
        sentence(capsys, "evaluate", "--scene", str(listed), *arguments, "--quiet", "--out", str(tmp_path / "o")),
    )


def test_tables_and_pictures_for_people(evaluated: Path) -> None:
    text = (evaluated / "evaluation.md").read_text()
    assert "3 frames of 32 x 32; not counted, because they are input views: 0." in text
    assert "| warp + fill |" in text
    assert "| 0 (given) | 100.0 % |" in text
    assert "## In time" in text
    errors = [read_image(evaluated / "errors" / f"{frame:04d}.png") for frame in (0, 1, 3, 4)]
    assert all(error.shape == (3, 160, 160) for error in errors), "enlarged by whole pixels, to be looked at"
    sheet = read_image(evaluated / "errors.png")
    assert sheet.shape[1] > 7 * 160
    green = ((errors[3] - torch.tensor([0.25, 0.95, 0.55]).view(3, 1, 1)).abs().sum(0) < 0.05).float()
    assert 0 < green.mean() < 0.2, "a thin line around the holes"


def test_the_page_of_an_evaluation_opens_from_disk(evaluated: Path) -> None:
    page = check_page(evaluated / "report.html")
    assert {"side_by_side.mp4", "errors.png", "errors/0003.png", "evaluation.json", "render/report.html"} <= set(
        page.targets
    )
    assert page.heads[0] == "mvguide: evaluation"
    assert f"{document(evaluated)['rows']['result']['psnr whole']:.2f}" in page.texts
    assert "0 (given)" in page.texts
    (command,) = [text for text in page.texts if text.startswith("mvguide evaluate ")]
    assert "--scene" in command
    assert "--cameras" not in command
    film = read_video(evaluated / "side_by_side.mp4")
    assert film.shape == (4, 3, 160, 480), "truth, result and error of every true frame"
    truth, error = read_image(evaluated / "truth" / "0003.png"), read_image(evaluated / "errors" / "0003.png")
    assert (film[2, :, :, :160] - truth.repeat_interleave(5, 1).repeat_interleave(5, 2)).abs().mean() < 0.02
    assert (film[2, :, :, 320:] - error).abs().mean() < 0.03


def test_a_result_folder_against_a_folder_and_a_film(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated / "render"
    frames = read_result(result).frames
    for index, frame in enumerate(frames):
        write_png(tmp_path / "other" / f"{4 - index}.png", frame)  # other names: in order, which is backwards
        write_png(tmp_path / "same" / f"{index:04d}.png", frame)
    write_video(tmp_path / "film.mp4", frames, 7)
    for truth, least, most in (("same", 99, 101), ("film.mp4", 30, 99), ("other", 5, 30)):  # of the last frame
        out = tmp_path / f"of_{truth}"
        assert run("evaluate", str(result), "--truth", str(tmp_path / truth), "--out", str(out)) == 0
        found = document(out)
        assert found["frames"] == [0, 1, 2, 3, 4]
        assert least < found["per_frame"]["result"][4]["psnr whole"] < most, truth
        assert "truth, VAE" not in found["rows"], "a model is loaded only when that is asked for"
        assert "reprojection" in found["rows"]["result"]
        assert found["rows"]["result"]["reprojection"] is None
    assert "evaluation.md" in capsys.readouterr().err
    same = document(tmp_path / "of_same")["rows"]["result"]
    assert same["ssim whole"] == pytest.approx(1)
    assert same["flicker ratio"] == pytest.approx(1)


def test_some_frames_with_depth_and_perceptual_distance(evaluated: Path, scene: Path, tmp_path: Path) -> None:
    save_file(random_weights("alex"), tmp_path / "lpips.safetensors")
    folder = scene.parent
    assert run("evaluate", str(evaluated / "render"), "--truth", str(folder / "images"), "--frames", "[0,1,3,4]",
               "--depth", str(folder / "depth"), "--perceptual_weights", str(tmp_path / "lpips.safetensors"),
               "--through_vae", "true", "--quiet", "--out", str(tmp_path / "out")) == 0  # fmt: skip
    again, before = document(tmp_path / "out"), document(evaluated)
    assert again["rows"]["result"]["perceptual"] > 0
    for row in ("result", "warp + fill", "truth, VAE"):
        for name, value in before["rows"][row].items():
            assert again["rows"][row][name] == pytest.approx(value, rel=1e-4), (row, name)
    assert "| perceptual |" in (tmp_path / "out" / "evaluation.md").read_text()


def test_without_depth_of_the_held_out_pictures(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene.parent, tmp_path / "s", ignore=shutil.ignore_patterns("out"))
    for name in "bcd":
        (tmp_path / "s" / "depth" / f"{name}.npy").unlink()
    assert run("evaluate", "--scene", str(tmp_path / "s/scene.yaml"), "--held_out", "[c, 3]", "--use", "[a]", *QUICK,
               "--num_frames", "3", "--steps", "1", "--out", str(tmp_path / "out")) == 0  # fmt: skip
    found = document(tmp_path / "out")
    assert found["frames"] == [0, 1, 2]
    assert found["rows"]["result"]["reprojection"] is None
    assert re.search(
        "no reprojection error, because depth of the held-out images is missing: .* depth maps for", found["notes"][0]
    )
    assert "## Notes" in (tmp_path / "out" / "evaluation.md").read_text()


def test_a_packaged_scene_against_its_film(tmp_path: Path) -> None:
    scene = packaged_scene("hall")
    assert run("evaluate", "--image", str(scene.image), "--depth", str(scene.depth), "--depth_unit",
               str(scene.depth_unit), "--intrinsics", str(scene.intrinsics), "--trajectory.kind", "file",
               "--trajectory.file", str(scene.cameras),
               "--truth", str(scene.truth), *QUICK, "--num_frames", "16", "--steps", "1",
               "--out", str(tmp_path / "out")) == 0  # fmt: skip
    found = document(tmp_path / "out")
    assert found["frames"] == list(range(16))
    assert found["rows"]["warp + fill"]["psnr seen"] > 21, "18 with a wrong lens"


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    return said[0]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["RESULT"], "is not known; give the true frames with --truth"),
        (["RESULT", "--truth", "none"], "none must have a name that ends in|none does not exist"),
        (["RESULT", "--truth", "IMAGES"], "images has 4 true frames for 5 of the result; give the numbers .* --frames"),
        (["RESULT", "--truth", "IMAGES", "--frames", "[0,1,2]"], "4 true frames for 3 of the result; give as many"),
        (["RESULT", "--truth", "IMAGES", "--frames", "[0,1,2,9]"], "give numbers from 0 to 4"),
        (["RESULT", "--truth", "IMAGES", "--frames", "[0,1,2,2]"], "each at most once"),
        (["RESULT", "--truth", "IMAGES", "--steps", "3"], "there is no option --steps"),
        (["RESULT", "--truth", "IMAGES", "--frames", "[0,1,2,3]", "--perceptual_weights", "w.pth"], "w.pth does not"),
        (["IMAGES", "--truth", "IMAGES"], r"has no images/\*.png; give a folder that mvguide render wrote"),
        (["nowhere", "--truth", "IMAGES"], "nowhere is not a folder"),
        ([], "no result was given; give a result folder"),
        (["--scene", "SCENE"], "every image is a view, .* name the views with --use"),
        (["--scene", "SCENE", "--use", "[0, 1]", "--held_out", "[1]"], "images/b.png is named by use and by held_out"),
        (["--scene", "SCENE", "--use", "[0, 1, 2, 3]"], "none is held out to compare with"),
        (["--scene", "SCENE", "--use", "[z]"], "use names 'z', but the camera file has 4 images"),
        (["--scene", "SCENE", "--use", "[0]", "--num_frames", "3"], "num_frames is 3 for 4 key cameras"),
        (["--scene", "SCENE", "--held_out", "[1]", "--truth", "IMAGES"], "give one of them"),
    ],
)
def test_bad_input_gets_one_sentence(
    evaluated: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: str
) -> None:
    places = {"RESULT": evaluated / "render", "IMAGES": scene.parent / "images", "SCENE": scene}
    words = [str(places.get(word, word)) for word in arguments]
    assert re.search(wanted, sentence(capsys, "evaluate", *words, "--quiet", "--out", str(tmp_path / "o")))
    assert not (tmp_path / "o").exists()


def test_a_missing_pycolmap_is_told_of_before_the_long_part(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from mvguide.evaluation import recovery

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(recovery, "import_module", missing)
    said = sentence(capsys, "evaluate", "--scene", str(scene), "--use", "[0]", "--recover_cameras", "--quiet",
                    "--out", str(tmp_path / "o"))  # fmt: skip
    assert "pip install 'mvguide[eval]'" in said


def test_cameras_of_a_small_result_are_reported_as_not_recovered(evaluated: Path, scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    assert run("evaluate", str(evaluated / "render"), "--truth", str(scene.parent / "images"), "--frames", "[0,1,3,4]",
               "--recover_cameras", "--quiet", "--out", str(tmp_path / "out")) == 0  # fmt: skip
    row = document(tmp_path / "out")["rows"]["result"]
    assert re.fullmatch(r"\d of 4", row["registered"])
    assert "ate" in row or row["cameras"].startswith("not recovered")


def test_compare_puts_them_side_by_side(copied: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = copied.parent / "compare"
    assert run("compare", str(copied), str(copied / "render"), "--names", "[mine, plain]", "--out", str(out)) == 0
    table = (out / "compare.md").read_text()
    assert "| mine | tiny | blend |" in table
    assert "euler" in table
    figure = document(copied)["rows"]["result"]["psnr whole"]
    assert f"| mine | {figure:.2f} |" in table
    assert "plain has no figures: it is a result folder" in table
    found = json.loads((out / "compare.json").read_text())
    assert found["frames"] == [1, 3, 4], "frames with truth that are no input views"
    assert found["rows"]["mine"]["psnr whole"] == figure
    sheet = read_image(out / "sheet.png")
    assert sheet.shape[1] > 3 * 160
    assert sheet.shape[2] > 3 * 160
    assert "wrote" in capsys.readouterr().err
    page = check_page(out / "report.html")
    assert {"side_by_side.mp4", "sheet.png", "errors.png", "../out/render/report.html"} <= set(page.targets)
    assert f"{figure:.2f}" in page.texts
    assert "From left to right: truth, mine, plain." in page.texts
    film = read_video(out / "side_by_side.mp4")
    assert film.shape == (5, 3, 160, 480)
    assert film[2, :, :, :150].std() < 0.01, "of frame 2 no true frame is known"
    assert (film[3, :, :, 160:320] - film[3, :, :, 320:]).abs().mean() < 0.01, "the same result twice"
    assert read_image(out / "errors.png").shape[1] > 5 * 160
    assert run("compare", str(copied / "render"), str(copied / "render"), "--names", "a", "b", "--out", str(out)) == 0
    assert not (out / "errors.png").exists(), "no truth, no errors"
    assert "errors.png" not in check_page(out / "report.html").targets
    assert read_video(out / "side_by_side.mp4").shape == (5, 3, 160, 320)


def test_compare_fits_other_sizes_and_refuses_other_counts(copied: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(copied / "render", large)
    video = read_result(large)
    grown = video.cameras.resize(64, 48)
    for name, pinned in zip(video.names, video.pinned.tolist(), strict=True):
        for part in ("images", "masks", "warps"):
            write_png(large / part / name, torch.full((3, 48, 64), 0.25))
        if pinned:
            picture = interpolate(read_image(copied / "render" / "warps" / name)[None], (64, 64), mode="bilinear")[0]
            write_png(large / "warps" / name, picture[:, 8:56])
    write_transforms(large / "transforms.json", grown, video.names)
    found = compare_folders([copied, large])
    assert found.videos["large"].shape == found.videos["out"].shape
    assert found.videos["large"].mean() == pytest.approx(0.25, abs=0.01)
    assert "large is 64 x 48, out 32 x 32" in found.text()
    short = tmp_path / "short"
    shutil.copytree(copied / "render", short)
    for part in ("images", "masks", "warps"):
        (short / part / "0004.png").unlink()
    write_transforms(short / "transforms.json", video.cameras[:4], video.names[:4])
    with pytest.raises(MvguideError, match="short has 4 frames, but .* has 5"):
        compare_folders([copied, short])


def test_compare_refuses_another_scene_and_tells_of_another_path(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(copied, other)
    for name in ("0001.png", "0004.png"):
        write_png(other / "truth" / name, read_image(copied / "truth" / name).flip(-1))
    found = compare_folders([copied, other], ["a", "b"])
    assert (
        "b is of another camera path than a: what frame 1 should be differs; the truth on the sheet is that of a"
        in (found.notes)
    )
    for name in ("0000.png", "0003.png"):
        write_png(other / "truth" / name, read_image(copied / "truth" / name).flip(-1))
    with pytest.raises(MvguideError, match=r"b shows another scene than a: what frame 0 should be differs by \d+ dB"):
        compare_folders([copied, other], ["a", "b"])
    plain = tmp_path / "plain"
    shutil.copytree(copied / "render", plain)
    assert len(compare_folders([copied, plain], ["a", "b"]).videos) == 3
    write_png(plain / "warps" / "0000.png", read_image(copied / "render" / "warps" / "0000.png").flip(-1))
    with pytest.raises(MvguideError, match="b shows another scene than a"):
        compare_folders([copied, plain], ["a", "b"])


def test_compare_tells_results_apart(copied: Path) -> None:
    twin = copied.parent / "twin" / "out"
    shutil.copytree(copied, twin)
    found = compare_folders([copied, twin])
    assert list(found.rows) == [f"{copied.parent.name}/out", "twin/out"]
    for folders, names, wanted in (
        ([copied], None, "at least two"),
        ([copied, copied], None, "would be the name of two columns"),
        ([copied, twin], ["a"], "1 names were given for 2"),
        ([copied, twin], ["a", "truth"], "'truth' would be the name"),
        ([copied, copied.parent], None, "neither a result"),
    ):
        with pytest.raises(MvguideError, match=wanted):
            compare_folders(folders, names)
    shutil.rmtree(twin / "render")
    with pytest.raises(MvguideError, match="is not a folder"):
        compare_folders([copied, twin])


def _remove(path: Path, draw: Callable) -> None:
    path.unlink()


def _empty(path: Path, draw: Callable) -> None:
    path.write_bytes(b"")


def _cut(path: Path, draw: Callable) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw(st.integers(0, len(data) - 1))])


def _flip(path: Path, draw: Callable) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    path.write_bytes(bytes(data))


def _json(path: Path, draw: Callable) -> None:
    values = st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3)
    tree = st.recursive(values, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3))
    try:
        found = json.loads(path.read_text())
    except ValueError:
        path.write_text(json.dumps(draw(tree)))
        return
    place = found
    for _ in range(draw(st.integers(1, 3))):
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            place[key] = draw(tree)
            break
        place = place[key]
    path.write_text(json.dumps(found))


PARTS = [
    "evaluation.json",
    "render/report.json",
    "render/transforms.json",
    "render/images/0002.png",
    "render/masks/0003.png",
    "render/warps/0001.png",
    "truth/0003.png",
]


def test_given_frames_that_are_no_numbers_are_passed_over(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(evaluated, folder)
    found = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps({**found, "given": [[], None, *found["given"]]}))
    text = compare_folders([folder, evaluated], ["a", "b"]).text()
    assert text.replace(" ", "") == compare_folders([evaluated, evaluated], ["a", "b"]).text().replace(" ", "")


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_folders_give_one_kind_of_error(
    evaluated: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "out"
    shutil.copytree(evaluated, folder)
    part = folder / data.draw(st.sampled_from(PARTS))
    ways = [_remove, _empty, _cut, _flip] + ([_json] * 6 if part.suffix == ".json" else [])
    data.draw(st.sampled_from(ways))(part, data.draw)
    try:
        found = compare_folders([folder, evaluated], ["a", "b"])
        assert len(found.text()) > 100
        found.save(folder / "compare")
    except MvguideError as error:
        assert "\n" not in str(error)
    shutil.rmtree(folder)
