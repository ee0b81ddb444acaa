import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from mvguide.errors import InputError
from mvguide.geometry import Camera, stack

EYE = torch.eye(4, dtype=torch.float64)


@st.composite
def poses(draw: st.DrawFn) -> Tensor:
    matrix = torch.eye(4, dtype=torch.float64)
    turn = draw(st.tuples(*[st.floats(-3, 3)] * 3))
    matrix[:3, :3] = torch.from_numpy(Rotation.from_rotvec(turn).as_matrix())
    matrix[:3, 3] = torch.tensor(draw(st.tuples(*[st.floats(-10, 10)] * 3)))
    return matrix


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    width, height = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    focal = draw(st.tuples(*[st.floats(0.2, 5)] * 2))
    principal = draw(st.tuples(*[st.floats(-0.5, 1.5)] * 2))
    numbers = (max(4.0, focal[0] * width), max(4.0, focal[1] * height), principal[0] * width, principal[1] * height)
    return Camera.from_intrinsics(numbers, width, height, draw(poses()))


def pixels_of(camera: Camera, count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64) * size
    return pixels, 0.1 + 10 * torch.rand(count, generator=generator, dtype=torch.float64)


@settings(deadline=None)
@given(cameras())
def test_project_and_unproject_are_inverse(camera: Camera) -> None:
    pixels, depth = pixels_of(camera)
    found, found_depth = camera.project(camera.unproject(pixels, depth))
    torch.testing.assert_close(found_depth, depth, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found, pixels, rtol=1e-8, atol=1e-6)


@settings(deadline=None)
@given(cameras(), st.integers(1, 3000), st.integers(1, 3000))
def test_resize_scales_the_projection(camera: Camera, width: int, height: int) -> None:
    pixels, depth = pixels_of(camera)
    resized = camera.resize(width, height)
    found, found_depth = resized.project(camera.unproject(pixels, depth))
    scale = torch.tensor([width / camera.width, height / camera.height], dtype=torch.float64)
    torch.testing.assert_close(found, pixels * scale, rtol=1e-8, atol=1e-6)
    torch.testing.assert_close(found_depth, depth, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(resized.fov_degrees, camera.fov_degrees)


@settings(deadline=None)
@given(cameras(), st.data())
def test_crop_moves_the_projection(camera: Camera, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, camera.width - 1)), data.draw(st.integers(0, camera.height - 1))
    cropped = camera.crop(left, top, camera.width - left, camera.height - top)
    pixels, depth = pixels_of(camera)
    found, _ = cropped.project(camera.unproject(pixels, depth))
    corner = torch.tensor([left, top], dtype=torch.float64)
    torch.testing.assert_close(found, pixels - corner, rtol=1e-8, atol=1e-6)


@settings(deadline=None)
@given(poses(), poses())
def test_inverse_and_composition(first: Tensor, second: Tensor) -> None:
    one, both = Camera.from_fov(60, 8, 6, first), Camera.from_fov(60, 8, 6, second @ first)
    torch.testing.assert_close(one.camera_to_world @ first, EYE, rtol=0, atol=1e-9)
    inner = Camera.from_fov(60, 8, 6, second)
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = points @ first[:3, :3].T + first[:3, 3]
    torch.testing.assert_close(both.project(points)[1], inner.project(moved)[1], rtol=1e-9, atol=1e-9)


def test_axes_and_pixel_centres() -> None:
    camera = Camera.from_fov(90, 100, 60)
    assert camera.intrinsics[0, 0].item() == pytest.approx(50)
    points = torch.tensor([[0.0, 0.0, 2.0], [2.0, 0.0, 2.0], [0.0, 0.5, 1.0], [0.0, 0.0, -1.0]])
    pixels, depth = camera.project(points)
    torch.testing.assert_close(pixels[:3], torch.tensor([[50, 30], [100, 30], [50, 55]], dtype=torch.float64))
    assert depth.tolist() == [2, 2, 1, -1]
    grid = camera.pixel_grid()
    assert grid.shape == (60, 100, 2)
    assert grid[0, 0].tolist() == [0.5, 0.5]
    assert grid[59, 99].tolist() == [99.5, 59.5]


def test_center_forward_and_field_of_view() -> None:
    world_to_camera = EYE.clone()
    world_to_camera[:3, :3] = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # looks along world x
    world_to_camera[:3, 3] = torch.tensor([3.0, 0, 1])
    camera = Camera.from_fov(70, 640, 480, world_to_camera)
    torch.testing.assert_close(camera.forward, torch.tensor([1.0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(camera.center, torch.tensor([-1.0, 0, 3], dtype=torch.float64))
    assert camera.fov_degrees.item() == pytest.approx(70)


def test_opencv_principal_point_is_shifted_by_half_a_pixel() -> None:
    ours = Camera.from_intrinsics((525, 525, 320, 240), 640, 480)
    theirs = Camera.from_intrinsics((525, 525, 319.5, 239.5), 640, 480, pixel_center=0.0)
    assert torch.equal(ours.intrinsics, theirs.intrinsics)
    with pytest.raises(InputError, match="pixel_center is 1"):
        Camera.from_intrinsics((525, 525, 320, 240), 640, 480, pixel_center=1)


def test_batches() -> None:
    single = Camera.from_fov(60, 8, 6)
    batch = stack([single, Camera.from_fov(40, 8, 6), single])
    assert batch.batch_shape == (3,)
    assert len(batch) == 3
    assert len(batch[1:]) == 2
    assert torch.equal(batch[-1].intrinsics, single.intrinsics)
    assert [camera.fov_degrees.round().item() for camera in batch] == [60, 40, 60]
    points = torch.rand(5, 3) + 1
    pixels, depth = batch.project(points)
    assert pixels.shape == (3, 5, 2)
    torch.testing.assert_close(pixels[1], batch[1].project(points)[0])
    torch.testing.assert_close(batch.unproject(pixels, depth), points.double().expand(3, 5, 3))
    assert batch.to(torch.float32).intrinsics.dtype == torch.float32
    broadcast = Camera(single.intrinsics, batch.world_to_camera, 8, 6)
    assert broadcast.intrinsics.shape == (3, 3, 3)
    with pytest.raises(TypeError):
        len(single)
    with pytest.raises(TypeError):
        single[0]


def pose(**changes: float) -> Tensor:
    matrix = EYE.clone()
    for name, value in changes.items():
        matrix[int(name[1]), int(name[2])] = value
    return matrix


@pytest.mark.parametrize(
    ("world_to_camera", "sentence"),
    [
        (pose(m03=math.nan), "NaN"),
        (pose(m03=math.inf), "infinite"),
        (pose(m00=0.0), "singular"),
        (torch.diag(torch.tensor([0.0, 0, 0, 1])), "singular"),
        (pose(m11=-1.0), "upside down"),
        (pose(m22=-1.0), "reflected"),
        (torch.diag(torch.tensor([2.0, 2, 2, 1])), "scales by 2"),
        (pose(m01=0.3), "not rigid"),
        (pose(m30=1.0), "looks transposed"),
        (pose(m33=2.0), "row 0 0 0 1"),
    ],
)
def test_unusable_poses_are_refused(world_to_camera: Tensor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Camera.from_fov(60, 8, 6, world_to_camera)


@pytest.mark.parametrize(
    ("intrinsics", "sentence"),
    [
        ((0, 500, 320, 240), "singular"),
        ((500, -500, 320, 240), "upside down"),
        ((500, math.nan, 320, 240), "NaN"),
        ((500, 500, 3200, 240), "far outside the 640x480 image"),
        ((500, 500, 320, -481), "far outside"),
        ((0.8, 1.1, 0.5, 0.5), "normalised"),
        ((500, 500, 320), "3 numbers"),
    ],
)
def test_unusable_intrinsics_are_refused(intrinsics: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Camera.from_intrinsics(intrinsics, 640, 480)


def test_other_faults_are_refused() -> None:
    camera = Camera.from_fov(60, 8, 6)
    skewed = camera.intrinsics.clone()
    skewed[1, 0] = 1
    faults = [
        (lambda: Camera.from_fov(60, 0, 6), "width is 0"),
        (lambda: Camera.from_fov(60, 8, 6, torch.eye(3)), r"must end in \(4, 4\)"),
        (lambda: Camera(torch.ones(2, 3, 3), torch.ones(3, 4, 4), 8, 6), "unlike batch shapes"),
        (lambda: Camera(skewed, EYE, 8, 6).check(), "must have the form"),
        (lambda: camera.crop(4, 0, 5, 6), "leaves the 8x6 image"),
        (lambda: camera.resize(8, 0), "height is 0"),
        (lambda: stack([]), "no cameras"),
        (lambda: stack([camera, camera.resize(4, 3)]), "unlike sizes"),
    ]
    for make, sentence in faults:
        with pytest.raises(InputError, match=sentence):
            make()


@settings(max_examples=30, deadline=None)
@given(poses(), st.floats(1e-5, 3e-4))
def test_few_digits_in_a_pose_are_accepted(world_to_camera: Tensor, step: float) -> None:
    rounded = (world_to_camera / step).round() * step
    rounded[3] = EYE[3]
    camera = Camera.from_fov(60, 8, 6, rounded)
    torch.testing.assert_close(camera.camera_to_world @ rounded, EYE, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fov", [1e-300, 1e-5, 0.0, -60.0, 179.9999, 180.0, math.nan])
def test_a_field_of_view_that_no_picture_has(fov: float) -> None:
    with pytest.raises(InputError, match="field of view must lie between 0.0001 and 179.999"):
        Camera.from_fov(fov, 64, 48)


@pytest.mark.parametrize("focal", [1e-300, 1e-6, 1e9, 1e300])
def test_a_focal_length_that_no_picture_has(focal: float) -> None:
    with pytest.raises(InputError, match="focal length .* pixels is none of a 64x48 image"):
        Camera.from_intrinsics((50, focal, 32, 24), 64, 48)


def test_the_narrowest_and_the_widest_field_of_view_make_a_camera() -> None:
    for fov in (1e-4, 179.999):
        assert float(Camera.from_fov(fov, 64, 48).fov_degrees) == pytest.approx(fov)
