"""Inputs as people have them: one picture, posed views, camera files, videos, scene files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mvguide.cameras.redwood import write_log
from mvguide.cameras.transforms import write_transforms
from mvguide.config.input_options import InputConfig, TrajectoryOptions, ViewOptions
from mvguide.config.parsing import load_settings
from mvguide.errors import FileError, InputError
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera, stack
from mvguide.inputs.loading import Inputs, load_inputs
from mvguide.scenes import packaged_scene
from mvguide.views.view import fit_camera
from mvguide.views.warps import warp_views
from tests.real_data import DATA, needs_data, psnr
from tools.bench_inputs import captures

CAPTURES = captures(DATA)


@needs_data
@pytest.mark.parametrize(
    ("config", "use", "least"),
    [
        (CAPTURES["redwood"], None, {4: 32.6}),
        (CAPTURES["7scenes"], [f"frame-{k:06d}" for k in (0, 5, 20, 40)], {1: 30.1, 2: 23.1, 3: 19.1}),
        (CAPTURES["lego"], ["r_0", "r_1"], {1: 24.0}),
        (CAPTURES["dtu"], None, {1: 15.5}),
    ],
    ids=["redwood", "7scenes", "lego", "dtu"],
)
def test_real_data_reach_the_known_psnr_through_the_readers(
    config: InputConfig, use: list[str | int] | None, least: dict[int, float]
) -> None:
    inputs = load_inputs(replace(config, use=use))
    assert inputs.posed
    for index, known in least.items():
        target = inputs.views[index]
        warps = warp_views(inputs.views[:1], stack([target.camera]))
        there = target.require_depth().values[None]
        both = (warps.visible[0] > 0) & (there > 0) & ((warps.depth[0] - there).abs() < 0.05 * there)
        assert psnr(warps.image[0], target.image, both) > known - 1, target.name


@needs_data
def test_the_street_keeps_its_time() -> None:
    folder = DATA / "nvs_dynamic_street"
    config = InputConfig(video=str(folder / "images"), depth=str(folder / "depth"), depth_kind="disparity")
    inputs = load_inputs(replace(config, resize=[256, 144]))
    assert len(inputs.views) == 8
    medians = [view.median_depth for view in inputs.views]
    assert max(medians) < 1.5 * min(medians), "one scale for all frames"
    path = inputs.trajectory(TrajectoryOptions(kind="still"), 8)
    warps = warp_views(inputs.views, path, moments=inputs.moments(8))
    for frame in range(8):
        assert torch.equal(warps.image[frame], inputs.views[frame].image)
    stopped = load_inputs(replace(config, resize=[256, 144], moment=3)).moments(5)
    assert stopped is not None
    assert stopped.shows[3].all()


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two posed pictures with depth as a nerfstudio folder, and the same as a scene file."""
    view, path = packaged_scene("blocks").load(num_frames=2)
    small = view.fit(64, 64)
    cameras = stack([small.camera, path[1].resize(64, 64)])
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    for name in ("a", "b"):
        write_png(tmp_path / "images" / f"{name}.png", small.image)
        np.save(tmp_path / "depth" / f"{name}.npy", small.require_depth().values.numpy())
    write_transforms(tmp_path / "transforms.json", cameras, ["images/a.png", "images/b.png"])
    views = [
        {
            "image": f"images/{name}.png",
            "depth": f"depth/{name}.npy",
            "intrinsics": [float(x) for x in small.camera.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]],
            "camera_to_world": cameras[index].camera_to_world.tolist(),
        }
        for index, name in enumerate("ab")
    ]
    document = {"views": views, "trajectory": {"kind": "views"}, "num_frames": 5}
    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def same(a: Inputs, b: Inputs) -> None:
    for one, other in zip(a.views, b.views, strict=True):
        torch.testing.assert_close(one.image, other.image)
        torch.testing.assert_close(one.camera.world_to_camera, other.camera.world_to_camera, atol=1e-9, rtol=0)
        torch.testing.assert_close(one.camera.intrinsics, other.camera.intrinsics, atol=1e-6, rtol=0)
        assert torch.equal(one.require_depth().values, other.require_depth().values)


def test_a_folder_a_scene_file_and_options_say_the_same(capture: Path) -> None:
    depth = str(capture / "depth")
    by_options = load_inputs(InputConfig(cameras=str(capture / "transforms.json"), depth=depth))
    same(by_options, load_inputs(load_settings(InputConfig, scene=str(capture), depth=depth)))
    scene = load_settings(InputConfig, scene=str(capture / "scene.yaml"))
    same(by_options, load_inputs(scene))
    assert scene.num_frames == 5
    assert load_settings(InputConfig, scene=str(capture / "scene.yaml"), num_frames=9).num_frames == 9
    path = load_inputs(scene).trajectory(scene.trajectory, 5)
    torch.testing.assert_close(path[0].world_to_camera, by_options.views[0].camera.world_to_camera)
    torch.testing.assert_close(path[4].world_to_camera, by_options.views[1].camera.world_to_camera)


def test_a_camera_file_is_followed_in_the_world_of_posed_views(capture: Path) -> None:
    config = TrajectoryOptions(kind="file", file=str(capture / "transforms.json"))
    posed = load_inputs(InputConfig(cameras=str(capture), depth=str(capture / "depth"), use=["b"]))
    path = posed.trajectory(config, 3)
    torch.testing.assert_close(path[2].world_to_camera, posed.views[0].camera.world_to_camera)
    alone = load_inputs(InputConfig(image=str(capture / "images" / "a.png"), depth=str(capture / "depth" / "a.npy")))
    assert not alone.posed
    torch.testing.assert_close(alone.trajectory(config, 3)[0].world_to_camera, torch.eye(4, dtype=torch.float64))


def test_lens_distortion_is_taken_out_of_picture_and_depth(capture: Path) -> None:
    document = json.loads((capture / "transforms.json").read_text())
    document["k1"] = 0.2
    (capture / "transforms.json").write_text(json.dumps(document))
    view = load_inputs(InputConfig(cameras=str(capture), depth=str(capture / "depth"), use=["0"])).views[0]
    straight = load_inputs(InputConfig(scene=None, image=str(capture / "images" / "a.png"), depth_source="file")).views[
        0
    ]
    assert (view.image - straight.image).abs().mean() > 0.005
    torch.testing.assert_close(view.image[:, 32, 32], straight.image[:, 32, 32], atol=0.02, rtol=0)
    assert not view.require_depth().valid[0, 0], "the corner comes from outside the picture"


def test_a_film_file(tmp_path: Path) -> None:
    frames = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "clip.mp4", frames, 7)
    (tmp_path / "depth").mkdir()
    for index in range(3):
        np.save(tmp_path / "depth" / f"{index}.npy", np.full((32, 48), 2.0 + index))
    inputs = load_inputs(InputConfig(video=str(tmp_path / "clip.mp4"), depth=str(tmp_path / "depth")))
    assert [view.median_depth for view in inputs.views] == [2, 3, 4]
    assert inputs.views[0].name == "frame 0"
    write_video(tmp_path / "short.mp4", frames[:2], 7)
    with pytest.raises(InputError, match="holds 3 depth maps, but .* has 2 frames"):
        load_inputs(InputConfig(video=str(tmp_path / "short.mp4"), depth=str(tmp_path / "depth")))


def test_what_cannot_be_read_is_said_in_a_sentence(capture: Path) -> None:
    image, log = str(capture / "images" / "a.png"), capture / "path.log"
    write_log(log, stack([Camera.from_fov(60, 64, 64)]))
    for config, message in (
        (InputConfig(), "no picture given; give one of --image, --views, --cameras, --video"),
        (InputConfig(image=image, cameras=str(capture)), "--image and --cameras given; give one of"),
        (InputConfig(views=[]), "views is an empty list"),
        (InputConfig(views=[ViewOptions(image), ViewOptions(image)]), "several views need a camera_to_world each"),
        (InputConfig(views=[ViewOptions(image, camera_to_world=[[1.0]])]), "is not 4 x 4 numbers"),
        (InputConfig(cameras=str(capture), use=["z"]), "use names 'z', but the camera file has 2 images"),
        (InputConfig(image=image, crop=[0, 0, 65, 64]), "reaches beyond the picture of 64 x 64"),
        (InputConfig(image=image, crop=[1, 2]), r"give \[left, top, width, height\]"),
        (InputConfig(image=image, resize=[0, 2]), r"resize is \[0, 2\]; give \[width, height\]"),
        (InputConfig(image=image, fov=60, intrinsics=[9, 9, 9, 9]), "both fov and intrinsics"),
        (InputConfig(cameras=str(capture), depth=str(capture / "images")), "no|depth"),
        (InputConfig(video=str(capture / "depth")), "holds no pictures"),
        (InputConfig(cameras=str(log)), "holds poses alone; give the pictures' intrinsics as --intrinsics"),
        (InputConfig(cameras=str(log), intrinsics=[60, 60, 32, 32]), "names no pictures; give their folder as"),
    ):
        with pytest.raises((InputError, FileError), match=message):
            load_inputs(config)
    (capture / "bad.yaml").write_text("imagge: a.png\n")
    (capture / "loop.yaml").write_text("scene: bad.yaml\n")
    with pytest.raises(FileError, match="scene file .* cannot be read"):
        load_settings(InputConfig, scene=str(capture / "bad.yaml"))
    with pytest.raises(FileError, match="names another scene"):
        load_settings(InputConfig, scene=str(capture / "loop.yaml"))
    with pytest.raises(InputError, match="--scene and --image were given"):
        load_settings(InputConfig, scene=str(capture), image=image)


def test_the_path_that_one_expects(capture: Path) -> None:
    """Nothing said: from view to view, round a picture, a film from where it was filmed, or round its moment."""
    unset = TrajectoryOptions()
    two = load_inputs(InputConfig(cameras=str(capture), depth=str(capture / "depth")))
    path = two.trajectory(unset, 5)
    for frame, view in ((0, two.views[0]), (4, two.views[1])):
        torch.testing.assert_close(path[frame].world_to_camera, view.camera.world_to_camera)
    turned: dict[str, Any] = {"degrees": 9}  # made from the signatures of the paths, where mypy cannot see it
    assert (two.trajectory(TrajectoryOptions(**turned), 5).center[4] - path.center[4]).norm() > 0.01
    one = load_inputs(InputConfig(image=str(capture / "images" / "a.png"), depth=str(capture / "depth" / "a.npy")))
    orbit = one.trajectory(TrajectoryOptions("orbit"), 4)
    torch.testing.assert_close(one.trajectory(unset, 4).world_to_camera, orbit.world_to_camera)
    film = InputConfig(video=str(capture / "images"), depth=str(capture / "depth"))
    assert (load_inputs(film).trajectory(unset, 4).center == 0).all()
    assert (load_inputs(replace(film, moment=0)).trajectory(unset, 4).center != 0).any()
    recorded = one.trajectory(TrajectoryOptions(file=str(capture / "transforms.json")), 3)
    assert len(recorded) == 3


def test_paths_that_the_views_do_not_allow(capture: Path) -> None:
    one = load_inputs(InputConfig(image=str(capture / "images" / "a.png"), depth=str(capture / "depth" / "a.npy")))
    assert len(one.trajectory(TrajectoryOptions(kind="still"), 4)) == 4
    assert isinstance(one.trajectory(TrajectoryOptions(kind="orbit"), 4), Camera)
    with pytest.raises(InputError, match="runs through the views; there is one"):
        one.trajectory(TrajectoryOptions(kind="views"), 4)
    turned: dict[str, Any] = {"degrees": 3}
    with pytest.raises(InputError, match="takes no degrees"):
        one.trajectory(TrajectoryOptions(kind="still", **turned), 4)
    with pytest.raises(InputError, match="no file was given"):
        one.trajectory(TrajectoryOptions(kind="file"), 4)


def test_the_cameras_of_a_cropped_video_are_followed_as_they_are(tmp_path: Path) -> None:
    """They were stretched to the picture's shape: a wide video of a tall picture came out squeezed."""
    write_png(tmp_path / "tall.png", np.zeros((64, 48, 3), np.uint8))
    np.save(tmp_path / "depth.npy", np.full((64, 48), 2.0))
    given: dict[str, Any] = {"image": str(tmp_path / "tall.png"), "depth": str(tmp_path / "depth.npy"), "fov": 50.0}
    first = load_inputs(load_settings(InputConfig, **given))
    path = fit_camera(first.trajectory(TrajectoryOptions(kind="orbit"), 5), 64, 24)
    write_transforms(tmp_path / "video.json", path, [f"{index}.png" for index in range(5)])
    followed = first.trajectory(TrajectoryOptions(kind="file", file=str(tmp_path / "video.json")), 5)
    again = fit_camera(followed, 64, 24)
    torch.testing.assert_close(again.intrinsics, path.intrinsics)
    torch.testing.assert_close(again.world_to_camera, path.world_to_camera)
