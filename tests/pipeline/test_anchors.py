"""Anchors: which frames they show, what they add to the warps, and where their depth comes from."""

import pytest
import torch

from mvguide.diffusion.windows import spread_frames
from mvguide.errors import InputError
from mvguide.pipeline.anchors import INVENTED, Anchors, make_anchors
from mvguide.pipeline.prepare import WarpedPath, warp_path
from mvguide.views.warps import Warps
from tools.quality.long_scenes import LongScene

FRAMES, SIDE = 9, 64
NUMBERS = [0, 4, 8]


@pytest.fixture(scope="module")
def scene() -> LongScene:
    return LongScene(0, SIDE, FRAMES, 40.0)


@pytest.fixture(scope="module")
def path(scene: LongScene) -> WarpedPath:
    return warp_path([scene.view], scene.cameras, scene.size)


def some(path: WarpedPath, numbers: list[int]) -> WarpedPath:
    return WarpedPath(views=path.views, trajectory=path.trajectory[numbers], moments=None, warps=path.warps[numbers])


@pytest.fixture(scope="module")
def anchors(scene: LongScene, path: WarpedPath) -> Anchors:
    return make_anchors(scene.truth[NUMBERS], some(path, NUMBERS), NUMBERS)


def test_anchors_are_spread_from_the_first_frame_to_the_last() -> None:
    assert spread_frames(64, 8) == [0, 9, 18, 27, 36, 45, 54, 63]
    assert spread_frames(9, 8) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_frame_is_shown_by_the_anchors_on_either_side(anchors: Anchors) -> None:
    shows = anchors.shows(FRAMES).int().tolist()
    assert shows[0] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert shows[1] == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert shows[2] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_what_a_view_shows_stays_and_its_holes_are_filled(scene: LongScene, path: WarpedPath, anchors: Anchors) -> None:
    seen = path.warps
    filled = anchors.fill(seen, path.trajectory)
    was_seen, hole = seen.visible > 0, seen.visible <= 0
    for name in ("image", "depth", "confidence"):
        mine, theirs = getattr(filled, name), getattr(seen, name)
        assert torch.equal(mine * was_seen, theirs * was_seen), name
    assert bool((filled.visible[was_seen] == 1).all())
    assert set(filled.visible[hole].unique().tolist()) <= {0.0, INVENTED}
    assert torch.equal(filled.pinned, seen.pinned)
    assert torch.equal(filled.distances, seen.distances)
    assert float((filled.visible[hole] > 0).float().mean()) > 0.9, "between them anchors know nearly everything"
    assert torch.equal(filled.seen, seen.seen), "what an anchor invented does not count as seen"
    # These anchors are the truth: so must be what they put into the holes.
    wrong = (filled.image - scene.truth).abs().mean(1, keepdim=True)[hole & (filled.visible > 0)]
    assert float(wrong.median()) < 0.03


def test_the_depth_of_an_anchor_is_the_splatted_one_and_completed(path: WarpedPath, anchors: Anchors) -> None:
    for number, view in zip(anchors.frames, anchors.views, strict=True):
        depth = view.require_depth()
        seen = (path.warps.visible[number, 0] > 0) & (path.warps.depth[number, 0] > 0)
        assert bool(depth.valid.all())
        torch.testing.assert_close(depth.values[seen], path.warps.depth[number, 0][seen], rtol=1e-5, atol=0)
        assert view.confidence is not None
        if not bool(seen.all()):
            assert float(view.confidence[seen].min()) >= 0.5 > float(view.confidence[~seen].max()), "invented: less"


def blind(warps: Warps, frame: int) -> None:
    """The frame sees nothing."""
    for name in ("image", "visible", "depth", "confidence"):
        getattr(warps, name)[frame] = 0


def test_an_anchor_that_sees_nothing_has_the_depth_of_its_neighbours(scene: LongScene, path: WarpedPath) -> None:
    short = some(path, NUMBERS)
    blind(short.warps, 2)
    found = make_anchors(scene.truth[NUMBERS], short, NUMBERS)
    depth, truth = found.views[2].require_depth(), scene.depth[8]
    assert bool(depth.valid.all())
    assert float((depth.values / truth).log().abs().median()) < 0.1


def test_a_path_that_sees_nothing_is_refused(scene: LongScene, path: WarpedPath) -> None:
    short = some(path, NUMBERS)
    for frame in range(3):
        blind(short.warps, frame)
    with pytest.raises(InputError, match="no frame of the path sees anything of the images"):
        make_anchors(scene.truth[NUMBERS], short, NUMBERS)
