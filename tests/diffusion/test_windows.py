"""Windows: their weights, and that denoising in windows is denoising the whole where windows agree."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mvguide.diffusion.denoiser import GaussianDenoiser
from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.sampler import initial_noise, sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import SOLVERS, Step
from mvguide.diffusion.time_grid import TimeGrid
from mvguide.diffusion.windows import LongOptions, WindowDenoiser, make_windows
from mvguide.errors import ConfigError, InputError
from mvguide.guidance.gradient import PosteriorGradient
from mvguide.guidance.guides import Blend, bind
from mvguide.guidance.targets import Targets
from mvguide.tables.table import LambdaTable

FRAMES, SIZE = 21, 8
SCHEDULE = SigmaSchedule(karras_sigmas(6))


def gaussian(frames: int = FRAMES) -> GaussianDenoiser:
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(1, frames, 2, 3, 4, generator=generator)
    std = 0.5 + torch.rand(1, frames, 2, 3, 4, generator=generator)
    return GaussianDenoiser(mean, std, VarianceExploding())


def in_windows(whole: GaussianDenoiser, size: int = SIZE, overlap: float = 0.25, unused: int = 0) -> WindowDenoiser:
    windows = make_windows(whole.mean.shape[1], size, overlap, unused)
    parts = [
        GaussianDenoiser(whole.mean[:, w.latent_frames], whole.std[:, w.latent_frames], whole.path) for w in windows
    ]
    return WindowDenoiser(windows, parts)


def noise(frames: int = FRAMES) -> Tensor:
    return initial_noise((1, frames, 2, 3, 4), VarianceExploding(), SCHEDULE, torch.Generator().manual_seed(5))


@given(
    length=st.integers(1, 300),
    size=st.integers(2, 40),
    overlap=st.floats(0, 0.5),
    unused=st.integers(0, 2),
)
def test_weights_sum_to_one_in_every_frame(length: int, size: int, overlap: float, unused: int) -> None:
    if unused + max(1, round(overlap * (size - unused))) >= size:
        return
    windows = make_windows(length, size, overlap, unused)
    total = torch.zeros(length)
    for index, window in enumerate(windows):
        inside = window.latent_frames
        assert inside.stop - inside.start == min(size, length)
        assert bool((window.weight >= 0).all())
        total[inside] += window.weight
        if index:
            shared = windows[index - 1].latent_frames.stop - inside.start
            assert shared > unused, "every window fades into the next"
            assert torch.equal(window.weight[:unused], torch.zeros(unused))
    torch.testing.assert_close(total, torch.ones(length))


def test_no_more_windows_than_needed() -> None:
    assert [(w.latent_frames.start, w.latent_frames.stop) for w in make_windows(20, 8, 0.25)] == [
        (0, 8),
        (6, 14),
        (12, 20),
    ]
    assert len(make_windows(21, 8, 0.25)) == 4
    assert len(make_windows(8, 8, 0.25)) == 1


def test_an_exact_denoiser_in_windows_gives_its_own_estimate_bit_for_bit() -> None:
    whole, x = gaussian(), noise()
    for overlap, unused in ((0.25, 0), (0.5, 0), (0.0, 1)):
        parts = in_windows(whole, overlap=overlap, unused=unused)
        assert len(parts.windows) > 1
        for sigma in SCHEDULE.levels:
            assert torch.equal(parts(x, sigma), whole(x, sigma))


def test_where_windows_differ_the_estimate_fades_from_one_to_the_next() -> None:
    windows = make_windows(14, 8, 0.25)
    flat = [GaussianDenoiser(torch.tensor(float(k)), torch.tensor(1e-6), VarianceExploding()) for k in range(2)]
    found = WindowDenoiser(windows, flat)(torch.zeros(1, 14, 1, 1, 1), torch.tensor(1.0))[0, :, 0, 0, 0]
    torch.testing.assert_close(found[6:8], windows[1].weight[:2])
    assert found[:6].abs().max() < 1e-5
    assert (found[8:] - 1).abs().max() < 1e-5
    assert bool((found.diff() > -1e-6).all())


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_runs_through_windows(name: str) -> None:
    whole = gaussian()
    alone, windowed = (
        sample(denoiser, noise(), SCHEDULE, SOLVERS[name](), generator=torch.Generator().manual_seed(1))
        for denoiser in (whole, in_windows(whole))
    )
    assert torch.equal(alone, windowed)


def test_weight_one_ends_at_the_target() -> None:
    target = torch.randn(FRAMES, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    targets = Targets(target, torch.ones(FRAMES, 1, 3, 4), torch.zeros(FRAMES, dtype=torch.bool))
    guidance = bind(Blend(), targets, LambdaTable.constant(1.0, SCHEDULE, FRAMES))
    found = sample(in_windows(gaussian()), noise(), SCHEDULE, guidance=guidance)
    torch.testing.assert_close(found[0], target)


class Counting:
    """A denoiser that counts its evaluations."""

    def __init__(self, inner: GaussianDenoiser) -> None:
        self.inner, self.path, self.count = inner, inner.path, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.count += 1
        return self.inner(x, sigma)


def test_the_gradient_through_windows_is_that_of_the_whole_and_keeps_one_window_at_a_time() -> None:
    whole = gaussian()
    targets = Targets(torch.zeros(FRAMES, 2, 3, 4), torch.ones(FRAMES, 1, 3, 4), torch.zeros(FRAMES, dtype=torch.bool))
    table, step = LambdaTable.constant(0.7, SCHEDULE, FRAMES), Step(0, 6, SCHEDULE.sigmas[2], SCHEDULE.sigmas[3])
    parts = in_windows(whole)
    counted = WindowDenoiser(parts.windows, [Counting(part) for part in parts.denoisers])  # type: ignore[arg-type]
    expected, found = (PosteriorGradient()(denoiser, noise(), step, targets, table).x for denoiser in (whole, counted))
    torch.testing.assert_close(found, expected)
    # Forward, again on the way back, and the plain estimate afterwards.
    assert [part.count for part in counted.denoisers] == [3] * len(parts.windows)  # type: ignore[attr-defined]
    tiled = PosteriorGradient(tiles=2)(parts, noise(), step, targets, table).x
    torch.testing.assert_close(tiled, PosteriorGradient(tiles=2)(whole, noise(), step, targets, table).x)


def test_a_model_without_tiles_is_refused_in_windows_too() -> None:
    counted = WindowDenoiser(make_windows(FRAMES, SIZE, 0.25), [Counting(gaussian(SIZE))] * 3)
    with pytest.raises(ConfigError, match="cannot be cut into tiles; give tiles 1"):
        counted.window(slice(0, 2), slice(0, 2))


def test_windows_of_models_that_pack_time() -> None:
    """Frames of a window start at the last frame that its first latent frame holds, and are grouped as in the whole."""
    grid, options = TimeGrid(ratio=4), LongOptions()
    windows = options.windows(grid, 41, 17)
    assert [(w.latent_frames.start, w.latent_frames.stop) for w in windows] == [(0, 5), (3, 8), (6, 11)]
    assert all(float(w.weight[0]) == 0 for w in windows[1:]), (
        "no latent frame in the middle is a frame that stands alone"
    )
    frames = [grid.frames(w.latent_frames) for w in windows]
    assert frames == [slice(0, 17), slice(12, 29), slice(24, 41)]
    everything = torch.arange(41)
    for window, inside in zip(windows, frames, strict=True):
        own, whole = grid.group(everything[inside]), grid.group(everything)[window.latent_frames]
        assert torch.equal(own[1:], whole[1:])
        assert own[0, 0] == whole[0, -1]


@pytest.mark.parametrize("grid", [TimeGrid(4, lead=1), TimeGrid(4, lead=1, unit=8), TimeGrid(8)])
@pytest.mark.parametrize("num_frames", [73, 81, 121])
def test_a_window_is_a_video_that_the_model_takes(grid: TimeGrid, num_frames: int) -> None:
    windows = LongOptions().windows(grid, num_frames, 33)
    for window in windows:
        frames = grid.frames(window.latent_frames)
        own = frames.stop - frames.start
        assert grid.latent_frames(own) == window.latent_frames.stop - window.latent_frames.start
    assert grid.frames(windows[-1].latent_frames).stop == num_frames


def test_the_window_is_the_models_own_length_unless_given() -> None:
    grid = TimeGrid()
    assert len(LongOptions().windows(grid, 25, 25)) == 1
    assert len(LongOptions().windows(grid, 26, 25)) == 2
    assert len(LongOptions(window=40).windows(grid, 26, 25)) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"long": "chained"}, "long is 'chained'; use one of windows, anchors"),
        ({"window": 1}, "window is 1; it is a number of frames, at least 2"),
        ({"window_overlap": 0.6}, "window_overlap is 0.6; it is a share of a window, between 0 and 0.5"),
    ],
)
def test_bad_options_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LongOptions(**options)


def test_a_window_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="a window of 2 latent frames is too short: .* use one of at least 3"):
        LongOptions(window=5).windows(TimeGrid(4), 41, 81)
    with pytest.raises(InputError, match="window is 6, but the model packs frames into latent frames"):
        LongOptions(window=6).windows(TimeGrid(4), 41, 81)
