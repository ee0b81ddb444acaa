"""The warps that follow the slider, and the doctor's words about them."""

import time
from pathlib import Path

import pytest
import torch

from mvguide.config.studio_options import StudioConfig
from mvguide.errors import InputError
from mvguide.geometry.trajectory import TRAJECTORIES
from mvguide.pipeline.prepare import warp_path
from mvguide.studio.looking import SIDE, SIZES, Studio, judge, look, shown_size


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(StudioConfig(out=str(tmp_path)))


def test_the_three_frames_are_those_of_the_whole_path(studio: Studio) -> None:
    settings = studio.settings({"scene": "marbles"}, trajectory={"kind": "orbit", "degrees": 12})
    loaded = studio.load(settings)
    shown = look(loaded, settings, 10)
    assert shown.frames == [3, 6, 9]
    whole = warp_path(loaded.inputs.views, loaded.inputs.trajectory(settings.trajectory, 10), (256, 256))
    torch.testing.assert_close(shown.path.warps.image, whole.warps.image[[3, 6, 9]], atol=1e-5, rtol=0)


def test_a_video_shows_the_moment_of_each_frame(studio: Studio) -> None:
    settings = studio.settings({"scene": "bullet_time"})
    loaded = studio.load(settings)
    shown = look(loaded, settings, 7)
    assert shown.path.warps.shares[4].tolist() == pytest.approx([1, 1, 1], abs=0.4), "time stands still at frame 4"
    assert shown.path.moments is not None
    assert shown.path.moments.shows.shape == (8, 3)


def test_inputs_are_read_once_and_only_a_few_are_kept(studio: Studio) -> None:
    first = studio.load(studio.settings({"scene": "marbles"}))
    path = {"kind": "truck", "distance": 0.3}
    assert studio.load(studio.settings({"scene": "marbles"}, trajectory=path, steps=3, seed=4)) is first
    assert studio.load(studio.settings({"scene": "marbles"}, depth_unit=0.002)) is not first
    for size in range(40, 50):
        studio.load(studio.settings({"scene": "marbles"}, resize=[size, size]))
    assert studio.load(studio.settings({"scene": "marbles"})) is not first


def test_the_doctor_speaks_of_the_frames_of_the_whole_path(studio: Studio) -> None:
    settings = studio.settings({"scene": "marbles"}, trajectory={"kind": "orbit", "degrees": 60})
    loaded = studio.load(settings)
    (said,) = judge(loaded, settings, 25)
    assert said.startswith("from frame ")
    assert "shorten the move to about" in said
    assert judge(loaded, studio.settings({"scene": "marbles"}), 8) == []


def test_the_warps_follow_within_a_second_at_512_pixels(studio: Studio) -> None:
    settings = studio.settings({"scene": "marbles"}, resize=[1024, 1024], trajectory={"kind": "orbit", "degrees": 3})
    loaded = studio.load(settings)
    assert shown_size(loaded.inputs.start.camera, settings, SIDE) == (512, 512)
    look(loaded, settings, 25)
    start = time.process_time()  # of this process: other work on the machine does not count
    settings = studio.settings({"scene": "marbles"}, resize=[1024, 1024], trajectory={"kind": "orbit", "degrees": 9})
    shown = look(loaded, settings, 25)
    assert time.process_time() - start < 1
    assert (shown.path.trajectory.width, shown.path.trajectory.height) == (512, 512)


def test_the_studio_decides_what_a_visitor_may_not(tmp_path: Path) -> None:
    studio = Studio(StudioConfig(out=str(tmp_path), model="tiny"))
    scene = tmp_path / "a.yaml"
    scene.write_text("image: a.png\nmodel: /some/where\ndepth_model: some/body\nquiet: true\n")
    settings = studio.settings({"scene": str(scene)})
    assert (settings.model, settings.depth_model, settings.quiet) == ("tiny", None, False)
    with pytest.raises(InputError, match="--steps"):
        studio.settings({"scene": str(scene)}, steps="many")


def test_every_kind_has_the_size_of_its_slider() -> None:
    assert set(SIZES) == set(TRAJECTORIES)
    for kind, size in SIZES.items():
        assert size.least <= size.usual(kind) <= size.most
