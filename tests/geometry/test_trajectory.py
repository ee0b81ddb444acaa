import math
from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation

from mvguide.errors import InputError
from mvguide.geometry import TRAJECTORIES, Camera, interpolate_cameras, make_trajectory, orbit, stack

DEPTH = 2.5


def start_camera() -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(Rotation.from_rotvec([0.3, -0.8, 0.2]).as_matrix())
    pose[:3, 3] = torch.tensor([0.4, -1.0, 3.0])
    return Camera.from_intrinsics((500, 510, 300, 250), 640, 480, pose)


def in_start(camera: Camera, batch: Camera) -> torch.Tensor:
    """Centres [F, 3] in the axes of the starting camera."""
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    return batch.center @ rotation.T + translation


def axes(camera: Camera, batch: Camera) -> torch.Tensor:
    """Rotation [F, 3, 3] whose columns are the frames' axes in the starting camera."""
    return camera.world_to_camera[:3, :3] @ batch.world_to_camera[:, :3, :3].mT


@pytest.mark.parametrize("easing", ["linear", "smooth"])
@pytest.mark.parametrize("kind", TRAJECTORIES)
def test_every_trajectory_starts_exactly_at_the_camera(kind: str, easing: str) -> None:
    camera = start_camera()
    batch = make_trajectory(kind, camera, 7, DEPTH, easing=easing)
    assert batch.batch_shape == (7,)
    assert torch.equal(batch[0].world_to_camera, camera.world_to_camera)
    assert torch.equal(batch[0].intrinsics, camera.intrinsics)
    assert (batch.width, batch.height) == (640, 480)
    batch.check()
    changed = (batch.world_to_camera - camera.world_to_camera).abs().sum() + (
        batch.intrinsics - camera.intrinsics
    ).abs().sum()
    assert changed > 0.1


@pytest.mark.parametrize(("degrees", "elevation"), [(30, 0), (-30, 0), (0, 20), (45, -35), (400, 0)])
def test_orbit_turns_around_the_target(degrees: float, elevation: float) -> None:
    camera = start_camera()
    batch = orbit(camera, 9, target_depth=DEPTH, degrees=degrees, elevation=elevation)
    target = camera.center + DEPTH * camera.forward
    pixels, depth = batch.project(target[None])
    torch.testing.assert_close(depth, torch.full_like(depth, DEPTH))
    torch.testing.assert_close(pixels[:, 0], camera.intrinsics[:2, 2].expand(9, 2))
    center, a, e = in_start(camera, batch)[-1], math.radians(degrees), math.radians(elevation)
    expected = [math.sin(a) * math.cos(e), -math.sin(e), 1 - math.cos(a) * math.cos(e)]
    torch.testing.assert_close(center, DEPTH * torch.tensor(expected, dtype=torch.float64))
    # Upright: no frame's x axis leaves the starting camera's horizontal plane.
    assert axes(camera, batch)[:, 1, 0].abs().max() < 1e-12


def test_orbit_to_the_right_shows_the_right_side() -> None:
    camera = Camera.from_fov(60, 640, 480)
    batch = orbit(camera, 2, target_depth=DEPTH, degrees=20)
    right_side = torch.tensor([[0.5, 0.0, DEPTH]], dtype=torch.float64)
    assert batch[1].project(right_side)[1] < camera.project(right_side)[1]
    assert batch[1].center[0] > 0


@pytest.mark.parametrize(
    ("kind", "params", "move"),
    [
        ("dolly", {"distance": 0.4}, [0, 0, 1]),
        ("dolly", {"distance": -2.0}, [0, 0, -5]),
        ("truck", {"distance": 0.2}, [0.5, 0, 0]),
        ("pedestal", {"distance": 0.2}, [0, -0.5, 0]),
        ("ellipse", {"radius_x": 0.2, "radius_y": 0.1, "turns": 0.25}, [0.5, -0.25, 0]),
        ("ellipse", {"radius_x": 0.2, "radius_y": 0.1, "turns": 1.0}, [0, 0, 0]),
        ("spiral", {"radius": 0.2, "turns": 0.5, "forward": 0.4}, [0, 0.5, 1]),
    ],
)
def test_moves_end_where_they_say(kind: str, params: dict[str, float], move: list[float]) -> None:
    camera = start_camera()
    batch = make_trajectory(kind, camera, 5, DEPTH, **params)
    torch.testing.assert_close(in_start(camera, batch)[-1], torch.tensor(move, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["ellipse", "spiral"])
def test_looking_paths_keep_the_target_in_the_middle(kind: str) -> None:
    camera = start_camera()
    target = (camera.center + DEPTH * camera.forward)[None]
    pixels, _ = make_trajectory(kind, camera, 11, DEPTH).project(target)
    torch.testing.assert_close(pixels[:, 0], camera.intrinsics[:2, 2].expand(11, 2))
    free = make_trajectory(kind, camera, 11, DEPTH, look_at=False)
    torch.testing.assert_close(axes(camera, free), torch.eye(3, dtype=torch.float64).expand(11, 3, 3))


@pytest.mark.parametrize(
    ("kind", "seen_from_start"),
    [("pan", [math.sin(0.2), 0, math.cos(0.2)]), ("tilt", [0, -math.sin(0.2), math.cos(0.2)]), ("roll", [0, 0, 1])],
)
def test_turns_in_place(kind: str, seen_from_start: list[float]) -> None:
    camera = start_camera()
    batch = make_trajectory(kind, camera, 5, DEPTH, degrees=math.degrees(0.2))
    torch.testing.assert_close(batch.center, camera.center.expand(5, 3))
    last = axes(camera, batch)[-1]
    torch.testing.assert_close(last[:, 2], torch.tensor(seen_from_start, dtype=torch.float64), rtol=0, atol=1e-12)
    if kind == "roll":  # the camera's right goes down, clockwise seen from behind it
        torch.testing.assert_close(
            last[:, 0], torch.tensor([math.cos(0.2), math.sin(0.2), 0], dtype=torch.float64), rtol=0, atol=1e-12
        )


def test_zoom_multiplies_the_focal_length_evenly() -> None:
    camera = start_camera()
    batch = make_trajectory("zoom", camera, 5, DEPTH, factor=16.0)
    torch.testing.assert_close(batch.intrinsics[:, 0, 0], 500 * 2.0 ** torch.arange(5, dtype=torch.float64))
    torch.testing.assert_close(batch.intrinsics[:, 1, 1], 510 * 2.0 ** torch.arange(5, dtype=torch.float64))
    assert torch.equal(batch.world_to_camera, camera.world_to_camera.expand(5, 4, 4))
    assert torch.equal(batch.intrinsics[:, :2, 2], camera.intrinsics[:2, 2].expand(5, 2))


def test_smooth_easing_starts_and_ends_softly() -> None:
    camera = start_camera()
    even = in_start(camera, make_trajectory("truck", camera, 11, DEPTH, distance=0.4))[:, 0]
    soft = in_start(camera, make_trajectory("truck", camera, 11, DEPTH, distance=0.4, easing="smooth"))[:, 0]
    torch.testing.assert_close(even.diff(), torch.full((10,), 0.1, dtype=torch.float64))
    torch.testing.assert_close(soft[[0, 5, 10]], even[[0, 5, 10]])
    assert soft.diff()[0] < 0.03
    assert soft.diff()[5] > 0.12


@pytest.mark.parametrize("method", ["slerp", "cubic"])
@pytest.mark.parametrize("num_frames", [4, 10, 12])
def test_through_hits_every_key_exactly(method: str, num_frames: int) -> None:
    camera = start_camera()
    keys = stack([camera, *(orbit(camera, 4, target_depth=DEPTH, degrees=70)[i] for i in (1, 3))])
    wide = keys.intrinsics.clone()
    wide[2, 0, 0] *= 1.5
    keys = replace(stack([keys[0], keys[1], keys[2], keys[1]]), intrinsics=wide[[0, 1, 2, 1]])
    batch = interpolate_cameras(keys, num_frames, method=method)
    assert batch.batch_shape == (num_frames,)
    batch.check()
    for i in range(4):
        at = round(i * (num_frames - 1) / 3)
        assert torch.equal(batch[at].world_to_camera, keys[i].world_to_camera)
        assert torch.equal(batch[at].intrinsics, keys[i].intrinsics)


def test_slerp_is_halfway_between_two_keys() -> None:
    camera = start_camera()
    end = make_trajectory("pan", camera, 2, DEPTH, degrees=40)[1]
    middle = interpolate_cameras([camera, end], 3)[1]
    expected = make_trajectory("pan", camera, 2, DEPTH, degrees=20)[1]
    torch.testing.assert_close(middle.world_to_camera, expected.world_to_camera)


def test_cubic_is_smoother_than_slerp_at_a_corner() -> None:
    camera = Camera.from_fov(60, 64, 48)
    keys = [camera, make_trajectory("truck", camera, 2, DEPTH)[1], make_trajectory("pedestal", camera, 2, DEPTH)[1]]

    def jerk(method: str) -> float:
        return float(interpolate_cameras(keys, 41, method=method).center.diff(n=2, dim=0).norm(dim=-1).max())

    assert jerk("cubic") < 0.2 * jerk("slerp")


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        ("orbit", {"degrees": math.nan}, "degrees is nan"),
        ("orbit", {"elevation": 90}, "elevation is 90"),
        ("dolly", {"distance": 1.0}, "would reach its target"),
        ("spiral", {"forward": 1.5}, "would reach its target"),
        ("dolly", {"distance": -math.inf}, "finite"),
        ("truck", {"distance": math.inf}, "finite"),
        ("zoom", {"factor": 0}, "above 0"),
        ("zoom", {"factor": -2}, "above 0"),
        ("pan", {"easing": "bouncy"}, "easing is 'bouncy'"),
        ("pan", {"distance": 1}, "has no parameter distance; it takes degrees, easing"),
        ("loop", {}, "kind is 'loop'; it must be one of orbit"),
    ],
)
def test_bad_parameters_are_refused(kind: str, params: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_trajectory(kind, start_camera(), 5, DEPTH, **params)


@pytest.mark.parametrize("kind", TRAJECTORIES)
@pytest.mark.parametrize("num_frames", [1, 0, -3, 2.5, True])
def test_fewer_than_two_frames_are_refused(kind: str, num_frames: int) -> None:
    with pytest.raises(InputError, match="a trajectory needs a whole number"):
        make_trajectory(kind, start_camera(), num_frames, DEPTH)


@pytest.mark.parametrize("depth", [0, -1, math.nan, math.inf])
def test_target_depth_must_be_positive(depth: float) -> None:
    for kind in ("orbit", "ellipse", "dolly", "truck", "pedestal", "spiral"):
        with pytest.raises(InputError, match="target_depth"):
            make_trajectory(kind, start_camera(), 5, depth)


def test_bad_starts_and_keys_are_refused() -> None:
    camera = start_camera()
    mirrored = replace(camera, world_to_camera=camera.world_to_camera * torch.tensor([[-1.0], [1], [1], [1]]))
    with pytest.raises(InputError, match="reflected"):
        orbit(mirrored, 5, target_depth=DEPTH)
    with pytest.raises(InputError, match="batch of"):
        orbit(stack([camera]), 5, target_depth=DEPTH)
    with pytest.raises(InputError, match="at least 2"):
        interpolate_cameras([camera], 5)
    with pytest.raises(InputError, match="frame of its own"):
        interpolate_cameras([camera] * 4, 3)
    with pytest.raises(InputError, match="'slerp' or 'cubic'"):
        interpolate_cameras([camera] * 2, 3, method="linear")
