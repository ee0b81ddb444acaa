"""Key cameras: what may be done with them, and the file that keeps them."""

import json
from pathlib import Path

import pytest
import torch

import mvguide
from mvguide.cameras.transforms import read_transforms, write_transforms
from mvguide.errors import FileError, InputError
from mvguide.geometry.camera import Camera
from mvguide.inputs.loading import Inputs
from mvguide.viewer.keys import KEY_FRAMES, KeyCameras

START = Camera.from_intrinsics((60.0, 62.0, 33.0, 20.0), 64, 40)
PATH = mvguide.orbit(START, 7, target_depth=3.0, degrees=30)


def keys(fixed: bool = True) -> KeyCameras:
    made = KeyCameras(START, 7, fixed=fixed)
    for number in (3, 6):
        made.add(PATH[number].camera_to_world)
    return made


@pytest.mark.parametrize("smooth", [True, False])
def test_saved_and_gone_on_with(tmp_path: Path, smooth: bool) -> None:
    saved = keys().save(tmp_path / "new" / "path.json", smooth=smooth)
    assert len(saved) == 7
    for frame, number in ((0, 0), (3, 3), (6, 6)):  # each key is hit at its frame
        torch.testing.assert_close(saved[frame].world_to_camera, PATH[number].world_to_camera.double())
    found = read_transforms(tmp_path / "new" / "path.json")
    assert found.extra[KEY_FRAMES] == [0, 3, 6]
    torch.testing.assert_close(found.cameras.world_to_camera, saved.world_to_camera)
    torch.testing.assert_close(found.cameras.intrinsics, START.intrinsics.expand(7, 3, 3))
    again = KeyCameras(START, 9, fixed=True)
    again.load(tmp_path / "new" / "path.json")
    assert len(again) == 3
    torch.testing.assert_close(again.cameras[2].world_to_camera, PATH[6].world_to_camera.double())


def test_the_path_follows_what_is_moved_and_deleted() -> None:
    made = keys(fixed=False)
    made.move(0, PATH[1].camera_to_world)
    made.delete(1)
    path = made.trajectory(smooth=False)
    torch.testing.assert_close(path[0].world_to_camera, PATH[1].world_to_camera)
    torch.testing.assert_close(path[-1].world_to_camera, PATH[6].world_to_camera)
    middle = (PATH[1].center + PATH[6].center) / 2
    torch.testing.assert_close(path[3].center, middle), "straight between two keys"


def test_the_start_of_one_image_stays() -> None:
    for act in (lambda: keys().delete(0), lambda: keys().move(0, PATH[1].camera_to_world)):
        with pytest.raises(InputError, match="the path starts at the image"):
            act()


def test_too_few_and_too_many() -> None:
    one = KeyCameras(START, 3, fixed=False)
    with pytest.raises(InputError, match="at least 2 key cameras"):
        one.trajectory(smooth=True)
    with pytest.raises(InputError, match="the last key camera"):
        one.delete(0)
    for number in (1, 2):
        one.add(PATH[number].camera_to_world)
    with pytest.raises(InputError, match="--num_frames"):
        one.add(PATH[3].camera_to_world)
    assert len(one) == 3


def test_files_that_are_no_saved_path_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "path.json"
    write_transforms(file, PATH, [f"{number}.png" for number in range(7)])
    with pytest.raises(FileError, match="was not saved by mvguide view"):
        keys().load(file)
    for bad in ([0, 7], [], ["a"], "all", [0, True]):
        document = {**json.loads(file.read_text()), KEY_FRAMES: bad}
        file.write_text(json.dumps(document))
        with pytest.raises(FileError, match="was not saved by mvguide view"):
            keys().load(file)
    keys().save(file, smooth=True)
    with pytest.raises(FileError, match="too many for 2 frames"):
        KeyCameras(START, 2, fixed=True).load(file)
    with pytest.raises(FileError, match="starts elsewhere"):
        KeyCameras(PATH[2], 7, fixed=True).load(file)
    elsewhere = KeyCameras(PATH[2], 7, fixed=False)
    elsewhere.load(file)
    torch.testing.assert_close(elsewhere.cameras[0].world_to_camera, START.world_to_camera)


@pytest.mark.parametrize("posed", [True, False])
def test_a_saved_path_is_followed_as_it_is(tmp_path: Path, posed: bool) -> None:
    """The keys have the size of the video; the image they are for has another shape."""
    camera = Camera.from_fov(50, 48, 64)
    view = mvguide.View(torch.zeros(3, 64, 48), camera)
    from mvguide.views.view import fit_camera

    start = fit_camera(camera, 40, 24)
    made = KeyCameras(start, 5, fixed=not posed)
    made.add(mvguide.truck(start, 2, target_depth=2.0)[1].camera_to_world)
    saved = made.save(tmp_path / "path.json", smooth=True)
    options = mvguide.TrajectoryOptions(kind="file", file=str(tmp_path / "path.json"))
    followed = fit_camera(Inputs([view], posed).trajectory(options, 5), 40, 24)
    torch.testing.assert_close(followed.world_to_camera, saved.world_to_camera)
    torch.testing.assert_close(followed.intrinsics, saved.intrinsics)
