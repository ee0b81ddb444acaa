import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.profiler import ProfilerActivity, profile

from mvguide.errors import InputError
from mvguide.geometry import Camera, Warp, make_trajectory, orbit, source_to_target, splat, stack, zoom
from tests.geometry.reference_splat import reference_splat

WIDTH, HEIGHT = 64, 48


def noise(channels: int = 3, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def flat(depth: float) -> Tensor:
    return torch.full((HEIGHT, WIDTH), depth)


def moved(camera: Camera, right: float = 0.0, down: float = 0.0, forward: float = 0.0) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = -torch.tensor([right, down, forward], dtype=torch.float64)
    return stack([replace(camera, world_to_camera=pose @ camera.world_to_camera)])


def bumpy(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1 + 3 * torch.rand(HEIGHT, WIDTH, generator=generator)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_identity_returns_the_picture(channels: int) -> None:
    pose = orbit(Camera.from_fov(70, WIDTH, HEIGHT), 3, target_depth=2.0, degrees=70)[2]
    image, depth = noise(channels) * 4 - 2, bumpy()
    warp = splat(image, depth, pose, stack([pose, pose]))
    assert warp.image.shape == (2, channels, HEIGHT, WIDTH)
    assert torch.equal(warp.visible, torch.ones(2, 1, HEIGHT, WIDTH))
    torch.testing.assert_close(warp.image, image.expand(2, -1, -1, -1), rtol=0, atol=1e-5)
    torch.testing.assert_close(warp.depth, depth.expand(2, 1, -1, -1), rtol=0, atol=1e-5)


def test_identity_is_exact_at_full_size() -> None:
    camera = Camera.from_intrinsics((871.3, 869.9, 511.2, 290.7), 1024, 576)
    image = noise(3, 0, 576, 1024)
    depth = 0.5 + 40 * noise(1, 1, 576, 1024)[0]
    warp = splat(image, depth, camera, stack([camera]))
    assert warp.visible.min() == 1
    assert (warp.image[0] - image).abs().max() <= 1e-5


@pytest.mark.parametrize(("pixels_right", "pixels_down"), [(5, 0), (-7, 3), (0, -4)])
def test_plane_moves_by_its_disparity(pixels_right: int, pixels_down: int) -> None:
    camera, depth = Camera.from_fov(60, WIDTH, HEIGHT), 2.5
    step = depth / camera.intrinsics[0, 0].item()  # a camera step of z / f moves the plane by one pixel
    target = moved(camera, right=-pixels_right * step, down=-pixels_down * step)
    image = noise()
    warp = splat(image, flat(depth), camera, target)
    seen = torch.roll(torch.ones(HEIGHT, WIDTH), (pixels_down, pixels_right), (0, 1))
    rows, columns = torch.arange(HEIGHT)[:, None] - pixels_down, torch.arange(WIDTH)[None] - pixels_right
    seen = ((rows >= 0) & (rows < HEIGHT) & (columns >= 0) & (columns < WIDTH)).float()
    torch.testing.assert_close(warp.visible[0, 0], seen)
    expected = torch.roll(image, (pixels_down, pixels_right), (1, 2)) * seen
    torch.testing.assert_close(warp.image[0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(warp.depth[0, 0], depth * seen)


def test_half_a_pixel_blends_neighbours() -> None:
    camera, depth = Camera.from_fov(60, WIDTH, HEIGHT), 2.0
    target = moved(camera, right=-0.5 * depth / camera.intrinsics[0, 0].item())
    image = noise()
    warp = splat(image, flat(depth), camera, target)
    torch.testing.assert_close(warp.image[0, :, :, 1:], (image[:, :, 1:] + image[:, :, :-1]) / 2, rtol=0, atol=1e-4)
    torch.testing.assert_close(warp.image[0, :, :, 0], image[:, :, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["orbit", "dolly", "pan", "tilt", "roll", "spiral", "zoom"])
def test_slanted_plane_lands_where_its_texture_says(kind: str) -> None:
    camera = Camera.from_intrinsics((160, 150, 90, 60), 160, 120)
    grid = camera.pixel_grid()
    rays = camera.unproject(grid.reshape(-1, 2), torch.ones(160 * 120))
    depth = 3 / (rays @ torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64))  # the plane n . X = 3
    world = camera.unproject(grid.reshape(-1, 2), depth)

    def texture(points: Tensor) -> Tensor:
        phase = points @ torch.tensor([[1.1, 0.5, 0.0], [2.0, -0.7, 1.0], [0.4, -1.0, 0.6]], dtype=torch.float64)
        return (0.5 + 0.5 * phase.sin()).T.reshape(3, 120, 160)

    targets = make_trajectory(kind, camera, 4, 3.0)
    warp = splat(texture(world), depth.reshape(120, 160), camera, targets)
    for i in range(4):
        view = targets[i]
        direction = view.unproject(grid.reshape(-1, 2), torch.ones(160 * 120)) - view.center
        normal = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64)
        along = (3 - view.center @ normal) / (direction @ normal)
        expected, seen = texture(view.center + along[:, None] * direction), warp.visible[i]
        error = (warp.image[i] - expected).abs() * seen
        assert error.mean() / seen.mean() < 2e-3
        assert error.max() < 0.08  # pixels at the rim see one side of their neighbourhood only
        z_error = (warp.depth[i, 0] - along.reshape(120, 160)).abs() * seen[0]
        assert z_error.max() < 0.05
        assert seen.mean() > 0.7


@pytest.mark.parametrize("forward", [0.0, 0.3])
def test_near_surface_hides_the_far_one(forward: float) -> None:
    """A near square before a far wall, also enlarged 1.4 times: inside it nothing of the wall may show."""
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    near = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    near[16:32, 20:40] = True
    depth = torch.where(near, 1.0, 4.0)
    image = near.float()[None]  # near 1, far 0
    target = moved(camera, right=-0.13, forward=forward)
    warp = splat(image, depth, camera, target)
    points = camera.unproject(camera.pixel_grid()[near], torch.ones(int(near.sum())))
    pixels, _ = target[0].project(points)
    low, high = (pixels.amin(dim=0) - 0.5).ceil().int(), (pixels.amax(dim=0) - 0.5).floor().int()
    inner = (slice(int(low[1]), int(high[1]) + 1), slice(int(low[0]), int(high[0]) + 1))
    assert warp.visible[0, 0][inner].min() == 1
    assert warp.image[0, 0][inner].min() > 1 - 1e-6
    torch.testing.assert_close(warp.depth[0, 0][inner], torch.full_like(warp.depth[0, 0][inner], 1 - forward))
    # The square moved right by f b (1/1 - 1/4) relative to the wall and left a hole of that width at its left.
    if forward == 0:
        hole = int((warp.visible[0, 0, 24, :40] == 0).sum()) - int((warp.visible[0, 0, 2, :40] == 0).sum())
        assert abs(hole - camera.intrinsics[0, 0].item() * 0.13 * 0.75) <= 1


@pytest.mark.parametrize(("kind", "params"), [("zoom", {"factor": 4.5}), ("dolly", {"distance": 0.75})])
def test_enlarged_frames_have_no_cracks(kind: str, params: dict[str, float]) -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    smooth = torch.nn.functional.interpolate(noise()[None], (12, 16), mode="area")
    image = torch.nn.functional.interpolate(smooth, (HEIGHT, WIDTH), mode="bicubic")[0]
    targets = make_trajectory(kind, camera, 7, 2.0, **params)
    warp = splat(image, flat(2.0), camera, targets)
    assert warp.visible.min() == 1
    torch.testing.assert_close(
        warp.image[0], image, rtol=0, atol=1e-5
    )  # a still frame stays sharp beside enlarged ones
    # A still frame stays sharp beside enlarged ones.
    torch.testing.assert_close(warp.image[0], image, rtol=0, atol=1e-5)
    for i in range(7):
        scale = (targets[i].intrinsics[0, 0] / camera.intrinsics[0, 0] * 2 / warp.depth[i].mean()).item()
        grid = (camera.pixel_grid() - torch.tensor([32, 24])) / scale / torch.tensor([32, 24])
        expected = torch.nn.functional.grid_sample(image[None], grid[None].float(), align_corners=False)[0]
        inner = (warp.image[i] - expected).abs()[:, 6:-6, 6:-6]
        assert inner.mean() < 0.008
        assert inner.max() < 0.04
    whole = splat(image, flat(2.0), camera, targets, chunk=20)
    assert torch.equal(whole.image, warp.image)
    assert torch.equal(splat(image, flat(2.0), camera, targets[5:6]).image[0], warp.image[5])


def test_enlarged_edges_do_not_mix_the_two_sides() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    near = torch.zeros(HEIGHT, WIDTH)
    near[16:32, 20:44] = 1
    warp = splat(near[None], 4 - 2 * near, camera, make_trajectory("dolly", camera, 2, 2.0, distance=0.6))
    between = (warp.image[1] > 1e-5) & (warp.image[1] < 1 - 1e-5)
    assert not between.any()
    depths = warp.depth[1][warp.depth[1] > 0]
    assert ((depths - 0.8).abs().minimum((depths - 2.8).abs()) < 1e-5).all()


def test_front_tolerance_decides_what_belongs_to_the_front() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    depth = flat(2.0)
    depth[:, 1::2] = 2.1
    image = torch.zeros(1, HEIGHT, WIDTH)
    image[:, :, 1::2] = 1
    target = moved(camera, right=-0.5 * 2.05 / camera.intrinsics[0, 0].item())
    strict = splat(image, depth, camera, target, front_tolerance=0.0).image[0, 0, 5:40, 5:60]
    loose = splat(image, depth, camera, target, front_tolerance=0.1).image[0, 0, 5:40, 5:60]
    assert strict.max() == 0
    assert 0.4 < loose.mean() < 0.6


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
def test_result_does_not_depend_on_the_chunk(tolerance: float) -> None:
    camera = Camera.from_fov(60, 61, 47)
    image, depth = noise(3, 0, 47, 61), 1 + noise(1, 1, 47, 61)[0]
    depth[noise(1, 2, 47, 61)[0] < 0.1] = 0
    targets = orbit(camera, 7, target_depth=1.5, degrees=50, elevation=10)
    whole = splat(image, depth, camera, targets, chunk=7, front_tolerance=tolerance)
    for chunk in (1, 2, 3, 5, 100):
        part = splat(image, depth, camera, targets, chunk=chunk, front_tolerance=tolerance)
        for name in ("image", "visible", "depth"):
            assert torch.equal(getattr(part, name), getattr(whole, name)), (chunk, name)
    alone = splat(image, depth, camera, targets[4:5], front_tolerance=tolerance)
    assert torch.equal(alone.image[0], whole.image[4])


def test_invalid_depth_is_left_out() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    depth, valid = bumpy(), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    for column, value in enumerate((0.0, -1.0, math.nan, math.inf, -math.inf)):
        depth[:, column] = value
    valid[:, 5] = False
    warp = splat(noise(), depth, camera, stack([camera]), valid=valid)
    assert warp.visible[0, 0, :, :6].max() == 0
    assert warp.visible[0, 0, :, 6:].min() == 1
    for tensor in (warp.image, warp.depth):
        assert torch.isfinite(tensor).all()
        assert tensor[..., :6].abs().max() == 0


def test_points_behind_the_camera_are_not_seen() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    depth = flat(1.0)
    depth[:, 32:] = 5.0
    past = moved(camera, forward=2.0)  # beyond the left half, which is then behind
    warp = splat(noise(1) * 0 + (depth == 1.0), depth, camera, past)
    assert warp.visible.max() == 1
    assert warp.image.max() == 0
    at = splat(noise(), depth, camera, moved(camera, forward=1.0))  # in the plane of the left half: z = 0
    assert torch.isfinite(at.image).all()
    assert at.depth.max() <= 4.0
    around = splat(noise(), flat(1.0), camera, make_trajectory("pan", camera, 2, 1.0, degrees=180))
    assert around.visible[0].min() == 1
    assert around.visible[1].max() == 0
    assert around.image[1].abs().max() == 0


def test_holes_are_zero_and_the_mask_is_binary() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    warp = splat(noise() + 1, bumpy(), camera, orbit(camera, 4, target_depth=2.0, degrees=60))
    hole = warp.visible == 0
    assert set(warp.visible.unique().tolist()) == {0.0, 1.0}
    assert (warp.image.amin(dim=1, keepdim=True)[~hole] >= 1 - 1e-5).all()
    assert warp.image.amax(dim=1, keepdim=True)[hole].max() == 0
    assert warp.depth[hole].max() == 0
    assert warp.depth[~hole].min() > 0


def test_target_cameras_may_have_another_size() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    image = noise()
    small = stack([camera.crop(10, 4, 32, 40)])
    warp = splat(image, bumpy(), camera, small)
    torch.testing.assert_close(warp.image[0], image[:, 4:44, 10:42], rtol=0, atol=1e-5)
    half = splat(image, flat(1.0), camera, stack([camera.resize(WIDTH // 2, HEIGHT // 2)]))
    expected = torch.nn.functional.avg_pool2d(image[None], 2)
    torch.testing.assert_close(
        half.image[:, :, 1:-1, 1:-1].mean(), expected[:, :, 1:-1, 1:-1].mean(), rtol=0.02, atol=0
    )
    assert half.visible.min() == 1


def test_warp_agrees_with_a_plain_splat() -> None:
    """The textbook loop over pixels, with the same z-buffer rule."""
    camera = Camera.from_fov(60, 20, 16)
    image, depth = noise(2, 0, 16, 20), 1 + 2 * noise(1, 1, 16, 20)[0]
    target = orbit(camera, 2, target_depth=2.0, degrees=12, elevation=5)[1:]
    warp = splat(image, depth, camera, target, front_tolerance=0.3)
    world = camera.unproject(camera.pixel_grid().reshape(-1, 2), depth.reshape(-1))
    pixels, z = target[0].project(world)
    reached: dict[tuple[int, int], list[tuple[float, float, Tensor]]] = {}
    for n, (x, y) in enumerate((pixels - 0.5).tolist()):
        for column in (math.floor(x), math.floor(x) + 1):
            for row in (math.floor(y), math.floor(y) + 1):
                weight = (1 - abs(x - column)) * (1 - abs(y - row))
                reached.setdefault((row, column), []).append((z[n].item(), weight, image[:, n // 20, n % 20]))
    seen = 0
    for row in range(16):
        for column in range(20):
            points = reached.get((row, column), [])
            front = min((depth for depth, weight, _ in points if weight >= 1 / 64), default=math.inf)
            kept = [(weight, colour) for depth, weight, colour in points if depth <= front * 1.3]
            total = sum(weight for weight, _ in kept)
            visible = total >= 1 / 16 and front < math.inf
            assert warp.visible[0, 0, row, column] == visible
            if visible:
                seen += 1
                colour = sum(weight * colour for weight, colour in kept) / total
                torch.testing.assert_close(warp.image[0, :, row, column], colour, rtol=0, atol=1e-4)
                assert warp.depth[0, 0, row, column].item() == pytest.approx(front, rel=1e-5)
    assert seen > 200


def test_source_to_target_composes() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    path = orbit(camera, 3, target_depth=2.0, degrees=40)
    torch.testing.assert_close(source_to_target(path[1], path) @ path[1].world_to_camera, path.world_to_camera)


def memory(frames: int, chunk: int) -> int:
    """Peak bytes of a splat beyond its result."""
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    targets = orbit(camera, frames, target_depth=2.0, degrees=5)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        warp = splat(noise(), flat(2.0), camera, targets, chunk=chunk)
    events = [event for event in run.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).cumsum(0)
    return int(held.max()) - 4 * sum(tensor.numel() for tensor in (warp.image, warp.visible, warp.depth))


def test_memory_is_flat_in_the_number_of_frames() -> None:
    few, many = memory(4, 2), memory(40, 2)
    assert few > 100_000
    assert many < 1.1 * few
    assert memory(40, 20) > 5 * few


def test_bad_arguments_are_refused() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    targets = stack([camera])
    mirrored = replace(targets, world_to_camera=-targets.world_to_camera)
    image, depth = noise(), flat(1.0)
    faults = [
        (lambda: splat(image[0], depth, camera, targets), r"image has shape \(48, 64\)"),
        (lambda: splat(image[:, 1:], depth, camera, targets), r"needs \(C, 48, 64\)"),
        (lambda: splat(image, depth[None], camera, targets), "depth has shape"),
        (lambda: splat(image, depth, camera, camera), "one source camera and a batch"),
        (lambda: splat(image, depth, targets, targets), "one source camera and a batch"),
        (lambda: splat(image, depth, camera, mirrored), "world_to_camera"),
        (lambda: splat(image, depth, camera, targets, chunk=0), "chunk is 0"),
        (lambda: splat(image, depth, camera, targets, front_tolerance=-0.1), "front_tolerance is -0.1"),
        (lambda: splat(image, depth, camera, targets, front_tolerance=math.nan), "front_tolerance is nan"),
        (lambda: splat(image, depth, camera, targets, valid=depth), "bool mask"),
        (lambda: splat(image, depth * 0, camera, targets), "no usable pixel"),
        (lambda: splat(image, depth * math.nan, camera, targets), "no usable pixel"),
    ]
    for make, sentence in faults:
        with pytest.raises(InputError, match=sentence):
            make()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu() -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    targets = orbit(camera, 6, target_depth=2.0, degrees=30)
    image, depth = noise(), bumpy()
    cpu: Warp = splat(image, depth, camera, targets)
    for chunk in (1, 4):
        gpu = splat(image.cuda(), depth.cuda(), camera, targets, chunk=chunk)
        assert gpu.image.is_cuda
        # Rounding may move a point across a threshold; nearly all pixels agree, and those in value.
        agree = gpu.visible.cpu() == cpu.visible
        assert agree.float().mean() > 0.999
        difference = ((gpu.image.cpu() - cpu.image).abs() * agree).amax(dim=1)
        assert (difference > 1e-4).float().mean() < 1e-3


@pytest.mark.parametrize("value", [1e-40, 1e-38, 3e38])
@pytest.mark.parametrize("kind", ["orbit", "dolly", "truck", "zoom"])
def test_depths_at_the_ends_of_float32(value: float, kind: str) -> None:
    """One such pixel changes nothing else; a map of them gives finite images or one sentence."""
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    targets = make_trajectory(kind, camera, 3, 2.0)
    plain, odd = flat(2.0), flat(2.0)
    plain[20, 30], odd[20, 30] = 0, value
    found = splat(noise(), odd, camera, targets)
    assert torch.isfinite(found.image).all()
    if value < 1:
        assert torch.equal(found.image, splat(noise(), plain, camera, targets).image)
        with pytest.raises(InputError, match="depth has no usable pixel"):
            splat(noise(), flat(value), camera, targets)
    else:
        far = splat(noise(), flat(value), camera, targets)
        assert torch.isfinite(far.image).all()
        assert torch.isfinite(far.depth).all()


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("distance", [1e30, 1e40, 1e300])
def test_cameras_out_of_all_range(axis: int, distance: float) -> None:
    camera = Camera.from_fov(60, WIDTH, HEIGHT)
    motion = torch.eye(4, dtype=torch.float64)
    motion[axis, 3] = distance
    targets = stack([replace(camera, world_to_camera=motion)])
    if distance > 1e36:
        with pytest.raises(InputError, match="vanishingly small against the cameras' motion"):
            splat(noise(), flat(2.0), camera, targets)
    else:
        assert splat(noise(), flat(2.0), camera, targets).image.isfinite().all()


def random_scene(seed: int) -> tuple[Tensor, Tensor, Tensor, Camera, Camera]:
    """A 16 x 12 image of boxes before a slanted wall, with unknown pixels, and three cameras around it."""
    generator = torch.Generator().manual_seed(seed)
    camera = Camera.from_intrinsics((14, 15, 8.3, 5.9), 16, 12)
    wall = 4 + 0.1 * torch.arange(16) + 0.05 * torch.arange(12)[:, None]
    depth = wall.clone()
    for _ in range(3):
        top, left = (int(torch.randint(0, size - 4, (), generator=generator)) for size in (12, 16))
        depth[top : top + 5, left : left + 5] = 1.5 + 2 * float(torch.rand((), generator=generator))
    valid = torch.rand(12, 16, generator=generator) < 0.9
    degrees, elevation = (30 * torch.rand(2, generator=generator) - 15).tolist()
    path = orbit(camera, 3, target_depth=3.0, degrees=degrees, elevation=elevation)
    return torch.rand(3, 12, 16, generator=generator), depth, valid, camera, path


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("front_tolerance", [0.0, 0.02, 0.5])
def test_the_fast_splat_is_the_readable_one(seed: int, front_tolerance: float) -> None:
    image, depth, valid, camera, path = random_scene(seed)
    fast = splat(image, depth, camera, path, valid=valid, front_tolerance=front_tolerance)
    plain = reference_splat(image, depth, camera, path, valid, front_tolerance)
    assert torch.equal(fast.visible, plain.visible)
    assert 0.4 < float(plain.visible[2].mean()) < 1
    torch.testing.assert_close(fast.image, plain.image, rtol=0, atol=1e-4)
    torch.testing.assert_close(fast.depth, plain.depth, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("factor", "cut"), [(1.5, 1), (2.5, 2), (4.0, 3)])
def test_an_enlarged_picture_is_the_readable_splat_of_finer_points(factor: float, cut: int) -> None:
    image, _, _, camera, _ = random_scene(0)
    target = stack([zoom(camera, 2, factor=factor)[1]])
    fast = splat(image, torch.full((12, 16), 3.0), camera, target)
    finer = interpolate(image[None], scale_factor=cut, mode="bilinear", align_corners=False)[0]
    size = 12 * cut, 16 * cut
    plain = reference_splat(
        finer, torch.full(size, 3.0), camera.resize(16 * cut, 12 * cut), target, torch.ones(size, dtype=torch.bool)
    )
    assert fast.visible.min() == plain.visible.min() == 1
    torch.testing.assert_close(fast.image, plain.image, rtol=0, atol=1e-4)
