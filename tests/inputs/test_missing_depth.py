"""Depth that did not come with the images, and its scale."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mvguide.cameras.colmap_text import write_colmap
from mvguide.config.input_options import InputConfig, ViewOptions
from mvguide.depth.kind import disparity_to_depth
from mvguide.depth.maps import Depth
from mvguide.depth.model import DEFAULT_MODEL, model_is_here
from mvguide.errors import InputError, ModelError
from mvguide.files.images import write_png
from mvguide.geometry.camera import Camera, stack
from mvguide.inputs.loading import load_inputs
from mvguide.inputs.missing_depth import complete_depths
from mvguide.inputs.sweeps import Hint
from mvguide.views.view import View
from mvguide.views.warps import warp_views
from tests.depth.tiny_model import save_model
from tools.scenes import render_scenes

SIZE = 96


@pytest.fixture(scope="module")
def scene() -> list[View]:
    """Two posed images of a still scene with exact depth."""
    found = render_scenes([0], size=SIZE, frames=8, with_depth=True)
    assert found.depth is not None
    views = []
    for frame in (0, 2):
        camera = Camera(found.intrinsics[0].double(), found.world_to_camera[0, frame].double(), SIZE, SIZE)
        values = torch.nan_to_num(found.depth[0, frame], posinf=100.0).clamp(max=100)
        views.append(View(found.video[0, frame], camera, Depth(values, values < 20, True), f"{frame}.png"))
    return views


def without_depth(views: Sequence[View]) -> list[View]:
    return [replace(view, depth=None) for view in views]


def relative(view: View, scale: float, shift: float) -> View:
    """The view with the relative inverse depth that a network would give, of unknown scale and shift."""
    truth = view.require_depth()
    disparity = scale / truth.values.double().clamp(min=0.1) + shift
    values = torch.from_numpy(disparity_to_depth(disparity.numpy())).float()
    return replace(view, depth=Depth(torch.where(truth.valid, values, 0), truth.valid, is_metric=False))


def error(found: View, truth: View) -> float:
    """Median relative error where both are known."""
    there, here = truth.require_depth(), found.require_depth()
    both = there.valid & here.valid
    return float(((here.values - there.values).abs() / there.values)[both].median())


def points(view: View, count: int = 200) -> Tensor:
    """Sparse points of a view, one in five wrong."""
    depth = view.require_depth()
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(int(depth.valid.sum()), generator=generator)[:count]
    z = depth.values[depth.valid][chosen].double()
    z[: count // 5] *= 1 + 2 * torch.rand(count // 5, generator=generator)
    return view.camera.unproject(view.camera.pixel_grid()[depth.valid][chosen], z)


def complete(views: Sequence[View], hints: Sequence[Hint] | None = None, **settings: object) -> list[View]:
    said: list[str] = []
    found = complete_depths(
        views,
        hints or [Hint()] * len(views),
        InputConfig(**settings),  # type: ignore[arg-type]
        posed=True,
        still=True,
        say=said.append,
    )
    assert said, "what was done is said"
    return found


def test_posed_pictures_without_depth_are_swept(scene: list[View]) -> None:
    found = complete(without_depth(scene))
    for view, truth in zip(found, scene, strict=True):
        assert error(view, truth) < 0.09
        assert view.confidence is not None
        sure = view.confidence > view.confidence.median()
        valid = truth.require_depth().valid & sure
        wrong = ((view.require_depth().values - truth.require_depth().values).abs() / truth.require_depth().values)[
            valid
        ]
        assert float(wrong.median()) < 0.06
    # What the sweep is not sure of, the merged views are not sure of either.
    path = stack([scene[0].camera, scene[1].camera.resize(SIZE, SIZE)])
    middle = stack(
        [Camera(path.intrinsics[0], torch.lerp(path[0].world_to_camera, path[1].world_to_camera, 0.5), SIZE, SIZE)]
    )
    with_doubt = warp_views(found, middle)
    without = warp_views([replace(view, confidence=None) for view in found], middle)
    assert torch.equal(with_doubt.visible, without.visible)
    assert with_doubt.confidence.mean() < 0.8 * without.confidence.mean()
    assert with_doubt.confidence.max() <= 1


def test_a_plane_sweep_uses_the_range_of_sparse_points(scene: list[View]) -> None:
    hints = [Hint(points(view)) for view in scene]
    found = complete(without_depth(scene), hints, depth_source="sweep")
    assert all(error(view, truth) < 0.09 for view, truth in zip(found, scene, strict=True))


@pytest.mark.parametrize("ground", ["points", "bounds", "view", "sweep"])
def test_relative_depth_gets_the_scale_of_the_cameras(scene: list[View], ground: str) -> None:
    views, hints, most = [relative(scene[0], 7.0, 0.3), relative(scene[1], 2.0, 0.1)], [Hint(), Hint()], 0.01
    if ground == "points":
        hints = [Hint(points(view)) for view in scene]
    elif ground == "bounds":
        quantiles = [
            view.require_depth().values[view.require_depth().valid].quantile(torch.tensor([0.02, 0.98]))
            for view in scene
        ]
        hints = [Hint(bounds=(float(low), float(high))) for low, high in quantiles]
    elif ground == "view":
        views[0], most = scene[0], 0.02
    else:
        most = 0.06  # the sweep's own
    for how in ("auto", ground):
        found = complete(views, hints, depth_align=how)
        assert error(found[1], scene[1]) < most, how
        assert found[1].require_depth().is_metric


def test_the_middle_of_the_picture_at_a_distance(scene: list[View]) -> None:
    (found,) = complete(scene[:1], depth_center=5.0)
    middle = found.require_depth().values[46:50, 46:50]
    assert float(middle.median()) == pytest.approx(5, rel=0.1)
    ratio = found.require_depth().values / scene[0].require_depth().values
    assert float(ratio[found.require_depth().valid].std()) < 1e-4, "the shape is kept"


def test_unknown_depth_sources_are_refused_by_name(scene: list[View]) -> None:
    for views in (scene, without_depth(scene)):
        with pytest.raises(InputError, match="depth_source is 'swept'; it is one of auto, file, model, sweep"):
            complete(views, depth_source="swept")


def test_alignments_that_lack_their_ground(scene: list[View]) -> None:
    views = [relative(view, 7.0, 0.3) for view in scene]
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"depth_align": "points"}, "no sparse points for 0.png"),
        ({"depth_align": "bounds"}, "no bounds for 0.png"),
        ({"depth_align": "view"}, "no other posed view with depth"),
    )
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            complete(views, **settings)
    with pytest.raises(InputError, match="two or more posed images"):
        complete(without_depth(scene[:1]), depth_source="sweep")
    turned = torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64)) @ scene[1].camera.world_to_camera
    back = replace(scene[1], camera=replace(scene[1].camera, world_to_camera=turned))
    with pytest.raises(InputError, match="no other image looks where 0.png does"):
        complete(without_depth([scene[0], back]))
    unlike = [scene[0], scene[1].fit(64, 64)]
    with pytest.raises(InputError, match="images of one size, not 64 x 64, 96 x 96"):
        complete(without_depth(unlike))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("depth_model"))


def test_a_picture_alone_takes_a_depth_model(scene: list[View], model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", scene[0].image)
    config = InputConfig(image=str(tmp_path / "a.png"), depth_model=str(model))
    said: list[str] = []
    (view,) = load_inputs(config, said.append).views
    assert view.median_depth == pytest.approx(1, rel=0.01)
    assert not view.require_depth().is_metric
    assert said == [
        "field of view of a.png is not known: 60 degrees are assumed; --fov sets it",
        f"depth of 1 of 1 images is from the model {model}",
    ]
    (view,) = load_inputs(replace(config, depth_center=3.0)).views
    assert view.require_depth().is_metric
    (view,) = load_inputs(replace(config, depth_model=None, depth_source="file")).views
    assert view.depth is None
    if not model_is_here(DEFAULT_MODEL):
        with pytest.raises(InputError, match="--depth_model .*`hf download depth-anything.*posed images"):
            load_inputs(replace(config, depth_model=None))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_inputs(replace(config, depth_model=str(tmp_path)))


def test_the_frames_of_a_video_get_one_scale(scene: list[View], model: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(3):
        write_png(tmp_path / "frames" / f"{index}.png", (scene[0].image * (1 - 0.1 * index)).clamp(0, 1))
    views = load_inputs(InputConfig(video=str(tmp_path / "frames"), depth_model=str(model))).views
    medians = [view.median_depth for view in views]
    assert max(medians) < 1.1 * min(medians)


def test_a_colmap_folder_brings_its_own_scale(scene: list[View], model: Path, tmp_path: Path) -> None:
    """Images and sparse points alone: the points tell the sweep its range, and a depth model its scale."""
    (tmp_path / "images").mkdir()
    names = [view.name for view in scene]
    for view in scene:
        write_png(tmp_path / "images" / view.name, view.image)
    write_colmap(tmp_path / "sparse" / "0", stack([view.camera for view in scene]), names, points(scene[0]))
    found = load_inputs(InputConfig(scene=None, cameras=str(tmp_path), depth_source="sweep"))
    assert error(found.views[0], scene[0]) < 0.09
    said: list[str] = []
    guessed = load_inputs(InputConfig(cameras=str(tmp_path), depth_model=str(model), use=["0.png"]), said.append)
    assert guessed.views[0].require_depth().is_metric
    assert "by sparse points" in said[1]


def test_stereo_disparity_is_metric(scene: list[View], tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", scene[0].image)
    truth = scene[0].require_depth()
    disparity = np.where(truth.valid, 0.1 * 80 / truth.values.clamp(min=0.1), 0)
    np.save(tmp_path / "a.npy", disparity)
    view = ViewOptions(str(tmp_path / "a.png"), str(tmp_path / "a.npy"))
    config = InputConfig(views=[view], depth_kind="disparity", depth_baseline=0.1, depth_focal=80.0)
    assert error(load_inputs(config).views[0], scene[0]) < 1e-5
