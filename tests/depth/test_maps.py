import io
import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvguide.depth.kind import FAR
from mvguide.depth.maps import Depth, DepthKind, fit_depth, read_depth
from mvguide.errors import FileError, InputError, MvguideError
from tests.mutations import damaged, result_or_error

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="shared data is not here")

# A floor seen from above the horizon: z falls from 6 to 2 down the image, another way in each column.
MAP = (12 / (2 + np.arange(7)[:, None] * 0.5 + np.arange(9) * 0.1)).astype(np.float32)


def write_pfm(path: Path, values: np.ndarray, order: str = "<") -> None:
    head = f"Pf\n{values.shape[1]} {values.shape[0]}\n{-1.0 if order == '<' else 1.0}\n"
    path.write_bytes(head.encode() + values[::-1].astype(f"{order}f4").tobytes())


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("name", ["a.npy", "A.NPY", "a.npz", "a.pfm", "big.pfm", "a.tiff", "a.tif"])
def test_floats_come_back_exactly(tmp_path: Path, name: str) -> None:
    path, values = tmp_path / name, MAP.copy()
    values[0, :3] = [0, np.inf, 0]
    if path.suffix.lower() == ".npy":
        with path.open("wb") as stream:
            np.save(stream, values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, values)
    elif path.suffix == ".pfm":
        write_pfm(path, values, ">" if name == "big.pfm" else "<")
    else:
        Image.fromarray(values).save(path)
    depth = read_depth(path)
    assert depth.values.dtype == torch.float32
    assert depth.valid.dtype == torch.bool
    assert (depth.height, depth.width) == (7, 9)
    assert depth.is_metric
    assert depth.valid.logical_not().nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]
    assert depth.values[0, :3].tolist() == [0, 0, 0]
    assert np.array_equal(depth.values.numpy()[depth.valid.numpy()], values[depth.valid.numpy()])


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f8", "uint8", "int16", ">u2", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_number_type(tmp_path: Path, dtype: str, order: Literal["C", "F"]) -> None:
    values = np.asarray((MAP * 30).astype(dtype), order=order)
    depth = read_depth(saved(tmp_path / "a.npy", values), unit=0.5)
    assert np.array_equal(depth.values.numpy(), (values.astype(np.float64) * 0.5).astype(np.float32))


def test_npz_takes_the_array_named_depth(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.ones(3), depth=MAP)
    assert np.array_equal(read_depth(tmp_path / "a.npz").values.numpy(), MAP)
    np.savez(tmp_path / "b.npz", one=MAP, two=MAP)
    with pytest.raises(FileError, match=r"holds 'one', 'two'; give one array"):
        read_depth(tmp_path / "b.npz")


def test_singleton_axes_are_dropped(tmp_path: Path) -> None:
    for values in (MAP[None], MAP[..., None]):
        assert np.array_equal(read_depth(saved(tmp_path / "a.npy", values)).values.numpy(), MAP)


def test_16_bit_png_in_millimetres_with_both_marks_of_no_data(tmp_path: Path) -> None:
    values = np.array([[3000, 65535, 65534], [0, 1, 2500]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    depth = read_depth(tmp_path / "a.png", unit=0.001)
    assert depth.valid.tolist() == [[True, False, True], [False, True, True]]
    assert torch.allclose(depth.values, torch.tensor([[3, 0, 65.534], [0, 0.001, 2.5]]), atol=1e-6)
    assert depth.median == pytest.approx(2.5)


def test_65535_counts_in_disparity_and_in_floats(tmp_path: Path) -> None:
    values = np.array([[1, 65535], [2, 3]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert bool(read_depth(tmp_path / "a.png", kind="disparity").valid.all())
    assert bool(read_depth(saved(tmp_path / "a.npy", values.astype(np.float32)), kind="depth").valid.all())


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_8_bit_pictures_whose_channels_agree(tmp_path: Path, mode: str) -> None:
    values = np.array([[200, 100], [50, 0]], dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    assert read_depth(tmp_path / "a.png").values.tolist() == values.tolist()


def test_nearness_needs_a_negative_unit_and_an_offset(tmp_path: Path) -> None:
    values = np.array([[51, 102], [0, 204]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    depth = read_depth(tmp_path / "a.png", unit=-8 / 255, offset=8)
    assert torch.allclose(depth.values, torch.tensor([[6.4, 4.8], [0, 1.6]]))
    with pytest.raises(InputError, match="depth_unit is -1 with offset 0"):
        read_depth(tmp_path / "a.png", unit=-1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((3, 4)), "has no valid value: every pixel is 0"),
        (np.full((3, 4), np.inf), "has no valid value"),
        (-MAP, r"negative in 100\.0% of its pixels; if it is inverse depth, declare it with --depth_kind disparity"),
        (np.where(np.arange(9) == 3, -1, MAP), r"negative in 11\.1%.*--depth_kind disparity.*--depth_invalid"),
        (np.where(np.arange(9) == 3, np.nan, MAP), r"NaN in 11\.1% of its pixels.*--depth_invalid nan"),
        (np.full((3, 4), np.nan), r"NaN in 100\.0%"),
        (np.where(np.arange(9) == 3, -np.inf, MAP), "-infinity"),
        (np.ones(5), "has the shape 5; give one array"),
        (np.float32(3), "has the shape a single number"),
        (np.ones((2, 3, 4)), "has the shape 2 x 3 x 4"),
        (np.ones((0, 4)), "has the shape 0 x 4"),
        (np.ones((3, 4), dtype=bool), "holds bool"),
        (np.ones((3, 4), dtype=complex), "holds complex"),
        (np.full((3, 4), "x"), "holds <U1"),
        (np.full((3, 4), 1e300), "no depth that can be told from 0 or infinity"),
    ],
)
def test_maps_that_are_no_depth_are_refused_with_a_sentence(tmp_path: Path, values: np.ndarray, words: str) -> None:
    path = saved(tmp_path / "a.npy", values)
    with pytest.raises(FileError, match=words) as caught:
        read_depth(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_marks_of_no_data(tmp_path: Path) -> None:
    values = MAP.copy()
    values[2, 3], values[4, 5] = np.nan, 0
    depth = read_depth(saved(tmp_path / "a.npy", values), invalid=float("nan"))
    assert depth.valid.logical_not().nonzero().tolist() == [[2, 3], [4, 5]]
    assert bool(torch.isfinite(depth.values).all())
    values[2, 3] = -1
    depth = read_depth(saved(tmp_path / "a.npy", values), invalid=-1)
    assert depth.valid.logical_not().nonzero().tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "inverse"}, "depth_kind is 'inverse'; it is 'depth' or 'disparity'"),
        ({"unit": 0}, "depth_unit is 0"),
        ({"unit": float("nan")}, "depth_unit is nan"),
        ({"kind": "disparity", "unit": 0.001}, "inverse depth has no unit"),
        ({"kind": "disparity", "offset": 0.6}, "depth_offset is 0.6, but relative inverse depth has no unit"),
        ({"median_depth": 2.0}, "sets the scale of inverse depth"),
        ({"kind": "disparity", "median_depth": 0.0}, "median_depth is 0"),
        ({"kind": "disparity", "baseline": 0.1}, "baseline was given without focal; stereo disparity needs both"),
        ({"kind": "disparity", "focal": 500.0}, "focal was given without baseline"),
        ({"baseline": 0.1, "focal": 500.0}, "belong to stereo disparity, but depth_kind is None"),
        ({"kind": "disparity", "baseline": 0.0, "focal": 500.0}, "baseline is 0 and focal 500; both must be above 0"),
        ({"kind": "disparity", "baseline": 0.1, "focal": 9.0, "median_depth": 2.0}, "already give one"),
        ({"kind": "disparity", "baseline": 0.1, "focal": 9.0, "unit": -1.0, "offset": 9.0}, "pixels in one stored"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_depth(saved(tmp_path / "a.npy", MAP), **options)


def test_stereo_disparity_is_metric(tmp_path: Path) -> None:
    # z = b f / d: KITTI's baseline and focal length, disparity in 1/256 pixels, 0 where nothing was matched.
    values = np.array([[0, 256 * 40], [256 * 80 + 128, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    depth = read_depth(tmp_path / "a.png", kind="disparity", baseline=0.54, focal=721.5, unit=1 / 256)
    assert depth.is_metric
    assert depth.valid.tolist() == [[False, True], [True, False]]
    assert depth.values[depth.valid].tolist() == pytest.approx([0.54 * 721.5 / 40, 0.54 * 721.5 / 80.5], rel=1e-6)
    pixels = 0.1 * 300 / MAP - 2  # Middlebury: doffs = 2 pixels
    depth = read_depth(
        saved(tmp_path / "b.npy", pixels), kind="disparity", baseline=0.1, focal=300.0, offset=2.0, invalid=-1.0
    )
    assert np.allclose(depth.values.numpy(), MAP, rtol=1e-5)
    pixels[2, 3] = -16
    with pytest.raises(FileError, match=r"negative in 1\.6% of its pixels.*--depth_invalid"):
        read_depth(saved(tmp_path / "c.npy", pixels), kind="disparity", baseline=0.1, focal=300.0)
    depth = read_depth(tmp_path / "c.npy", kind="disparity", baseline=0.1, focal=300.0, offset=2.0, invalid=-16)
    assert depth.valid.logical_not().nonzero().tolist() == [[2, 3]]


def test_disparity_becomes_depth_with_the_median_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", 1000 / MAP)
    depth = read_depth(path, kind="disparity")
    assert not depth.is_metric
    assert np.allclose(depth.values.numpy(), MAP / np.median(MAP), rtol=1e-5)
    assert read_depth(path, kind="disparity", median_depth=2.5).median == pytest.approx(2.5, rel=1e-5)


def test_disparity_zero_is_far_and_negatives_are_shifted(tmp_path: Path) -> None:
    values = np.array([[0, 0, 1], [2, 4, 2]], dtype=np.float32)
    depth = read_depth(saved(tmp_path / "a.npy", values), kind="disparity")
    assert bool(depth.valid.all())
    assert np.allclose(depth.values.numpy(), [[FAR, FAR, 2], [1, 0.5, 1]])
    shifted = read_depth(saved(tmp_path / "b.npy", values - 3), kind="disparity")
    assert torch.allclose(shifted.values, depth.values)
    with pytest.raises(FileError, match="negative"):
        read_depth(tmp_path / "b.npy")


def test_disparity_keeps_declared_holes_and_refuses_the_rest(tmp_path: Path) -> None:
    values = np.array([[np.nan, 1], [2, np.inf]])
    depth = read_depth(saved(tmp_path / "a.npy", values), kind="disparity", invalid=float("nan"))
    assert depth.valid.tolist() == [[False, True], [True, False]]
    with pytest.raises(FileError, match="NaN in"):
        read_depth(tmp_path / "a.npy", kind="disparity")
    for flat in (0.0, -2.0):
        with pytest.raises(FileError, match="no value above 0"):
            read_depth(saved(tmp_path / "b.npy", np.full((3, 3), flat)), kind="disparity")
    assert read_depth(saved(tmp_path / "c.npy", np.full((3, 3), 7.0)), kind="disparity").values.unique().tolist() == [1]


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "text.npz").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "text.pfm").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "text.png").write_text("1 2 3\n4 5 6\n")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "pickled.npz", np.array([{"a": 1}], dtype=object))
    (tmp_path / "a.txt").write_text("1 2 3")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    for name, words in [
        ("text.npy", "is not a NumPy file, whatever its name says"),
        ("text.npz", "cannot be read"),
        ("text.pfm", "is not a PFM file"),
        ("text.png", "cannot be read"),
        ("pickled.npy", "pickled Python objects, which are never opened"),
        ("pickled.npz", "pickled Python objects, which are never opened"),
        ("a.txt", r"must be one of \.npy"),
        ("colour.png", "an image in colours"),
        ("none.npy", "does not exist"),
        ("", "is a folder"),
    ]:
        with pytest.raises(FileError, match=words):
            read_depth(tmp_path / name)


def test_sizes_that_lie_take_no_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (9000, 9000)})
    (tmp_path / "cut.npy").write_bytes(stream.getvalue() + b"\0" * 100)
    with pytest.raises(FileError, match="is cut short"):
        read_depth(tmp_path / "cut.npy")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)})
    (tmp_path / "huge.npy").write_bytes(stream.getvalue())
    with pytest.raises(FileError, match="numbers, more than"):
        read_depth(tmp_path / "huge.npy")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(zipfile.ZipInfo("depth.npy"), "w", force_zip64=True) as member,
    ):
        for _ in range(1000):
            member.write(b"\0" * 1_000_000)
    with pytest.raises(FileError, match="bytes, more than any depth map needs"):
        read_depth(tmp_path / "bomb.npz")
    (tmp_path / "huge.pfm").write_bytes(b"Pf\n900000000 900000000\n-1\n" + b"\0" * 64)
    with pytest.raises(FileError, match=r"but 64 follow"):
        read_depth(tmp_path / "huge.pfm")


def test_pfm_headers(tmp_path: Path) -> None:
    body = MAP[::-1].astype("<f4").tobytes()
    for head in (b"Pf\n9 7\n-1\n", b"Pf\r\n9 7\r\n-1.000000\r\n", b"Pf 9 7 -0.00333 "):
        (tmp_path / "a.pfm").write_bytes(head + body)
        assert np.array_equal(read_depth(tmp_path / "a.pfm").values.numpy(), MAP)
    for head, words in [
        (b"PF\n9 7\n-1\n", "colour PFM"),
        (b"Pf\n9 7\n0\n", "PFM scale 0"),
        (b"Pf\n9 7\n-1e999\n", "PFM scale -inf"),
        (b"Pf\n9 7\n--1\n", "cannot be read"),
        (b"Pf\n8 7\n-1\n", "says 8 x 7"),
        (b"Pf\n0 0\n-1\n", "says 0 x 0"),
        (b"P5\n9 7\n255\n", "is not a PFM"),
    ]:
        (tmp_path / "a.pfm").write_bytes(head + body)
        with pytest.raises(FileError, match=words):
            read_depth(tmp_path / "a.pfm")


def test_resizing_takes_the_nearest_centre_and_mixes_nothing() -> None:
    values = torch.tensor([[1.0, 9.0], [0.0, 5.0]])
    depth = Depth(values, values > 0, True)
    bigger = depth.resize(6, 4)
    assert bigger.values.tolist() == [[1, 1, 1, 9, 9, 9]] * 2 + [[0, 0, 0, 5, 5, 5]] * 2
    assert torch.equal(bigger.valid, bigger.values > 0)
    again = bigger.resize(2, 2)
    assert torch.equal(again.values, values)
    assert again.is_metric
    line = Depth(torch.arange(1.0, 11.0)[None], torch.ones(1, 10, dtype=torch.bool), False)
    assert line.resize(5, 1).values.tolist() == [[2, 4, 6, 8, 10]]
    assert line.resize(3, 1).values.tolist() == [[2, 6, 9]]
    with pytest.raises(InputError, match="resized to 0 x 3"):
        depth.resize(0, 3)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
def test_resizing_is_within_half_a_pixel(height: int, width: int, new_height: int, new_width: int) -> None:
    values = (1 + torch.arange(height)[:, None] * 100 + torch.arange(width)).float()
    resized = Depth(values, values > 0, True).resize(new_width, new_height).values - 1
    rows, columns = resized // 100, resized % 100
    wanted_rows = (torch.arange(new_height) + 0.5) * height / new_height - 0.5
    wanted_columns = (torch.arange(new_width) + 0.5) * width / new_width - 0.5
    assert (rows - wanted_rows[:, None]).abs().max() <= 0.5 + 1e-5
    assert (columns - wanted_columns).abs().max() <= 0.5 + 1e-5


def test_fit_takes_the_same_shape_and_refuses_another() -> None:
    depth = Depth(torch.ones(100, 150), torch.ones(100, 150, dtype=torch.bool), True)
    assert fit_depth(depth, 150, 100) is depth
    for width, height in [(300, 200), (1921, 1280), (75, 50), (76, 50), (451, 300)]:
        assert fit_depth(depth, width, height).values.shape == (height, width)
    for width, height in [(100, 150), (300, 210), (150, 110), (160, 100), (75, 53)]:
        with pytest.raises(InputError, match=rf"depth is 150 x 100, but the image is {width} x {height}"):
            fit_depth(depth, width, height)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("depths")


def encoded(folder: Path) -> dict[str, bytes]:
    np.save(folder / "a.npy", MAP)
    np.savez_compressed(folder / "a.npz", MAP)
    np.savez(folder / "b.npz", depth=MAP, other=MAP)
    write_pfm(folder / "a.pfm", MAP)
    Image.fromarray((MAP * 1000).astype(np.uint16)).save(folder / "a.png")
    Image.fromarray(MAP).save(folder / "a.tiff", compression="tiff_lzw")
    return {name: (folder / name).read_bytes() for name in ("a.npy", "a.npz", "b.npz", "a.pfm", "a.png", "a.tiff")}


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npz", "a.pfm", "a.png", "a.tiff"])
def test_damaged_files_raise_nothing_else(folder: Path, name: str) -> None:
    everything = encoded(folder)
    path = folder / f"damaged{Path(name).suffix}"

    @settings(max_examples=200, deadline=None)
    @given(damaged(everything[name], list(everything.values())), st.sampled_from([None, "depth", "disparity"]))
    def run(content: bytes, kind: DepthKind | None) -> None:
        path.write_bytes(content)
        depth = result_or_error(read_depth, path, kind=kind)
        if isinstance(depth, MvguideError):
            assert str(path) in str(depth)
            return
        assert depth.values.shape == depth.valid.shape
        assert bool(depth.valid.any())
        assert bool(torch.isfinite(depth.values).all())
        assert torch.equal(depth.values > 0, depth.valid)

    run()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=64), min_size=4, max_size=12), st.sampled_from([None, "depth", "disparity"]))
def test_hostile_numbers_raise_nothing_else(folder: Path, numbers: list[float], kind: DepthKind | None) -> None:
    path = folder / "numbers.npy"
    np.save(path, np.array(numbers[: len(numbers) // 2 * 2]).reshape(2, -1))
    try:
        depth = read_depth(path, kind=kind, invalid=float("nan"))
    except MvguideError:
        return
    assert bool(torch.isfinite(depth.values).all())
    assert torch.equal(depth.values > 0, depth.valid)


@needs_data
def test_real_files_have_the_depth_that_their_sources_state() -> None:
    redwood = read_depth(DATA / "redwood_rgbd/depth/00000.png", unit=0.001)
    assert (redwood.width, redwood.height) == (640, 480)
    assert redwood.median == pytest.approx(1.861, abs=1e-3)
    assert float(redwood.valid.float().mean()) == pytest.approx(0.87, abs=0.01)
    kitchen = read_depth(DATA / "7scenes_rgbd/frame-000000.depth.png", unit=0.001)
    assert float(kitchen.values.max()) < 10  # 65535 is no data
    lego = read_depth(DATA / "nerf_lego/test/r_0_depth_0001.png", unit=-8 / 255, offset=8)
    assert 2.8 < float(lego.values[lego.valid].min()) < lego.median < float(lego.values.max()) < 5.5
    dtu = read_depth(DATA / "nvs_dtu_scan1/000001.pfm")
    assert float(dtu.valid.float().mean()) == pytest.approx(0.735, abs=0.01)
    # No data lies at the top of the image (the black background), which rows the wrong way round would put below.
    assert float(dtu.valid[:42].float().mean()) < 0.6 < 0.9 < float(dtu.valid[-42:].float().mean())
    with pytest.raises(InputError, match="depth is 160 x 128, but the image is 1600 x 1200"):
        fit_depth(dtu, 1600, 1200)
    street = read_depth(DATA / "nvs_dynamic_street/depth/frame_000000.npy", kind="disparity")
    assert bool(street.valid.all())
    assert float(street.values[:40].median()) == pytest.approx(FAR)  # sky
    assert float(street.values[-20:].median()) < 0.6  # road
    moon = read_depth(DATA / "moon_single/moon.npy", kind="disparity")
    assert fit_depth(moon, 2100, 2100).values.shape == (2100, 2100)
    assert moon.median == pytest.approx(1, rel=1e-3)


@needs_data
@pytest.mark.parametrize("name", ["nvs_dynamic_street/depth/frame_000000.npy", "moon_single/moon.npy"])
def test_undeclared_inverse_depth_is_refused_with_the_way_to_declare_it(name: str) -> None:
    with pytest.raises(FileError, match=r"--depth_kind disparity"):
        read_depth(DATA / name)


@needs_data
def test_who_says_depth_is_believed_unless_it_is_negative() -> None:
    assert read_depth(DATA / "nvs_dynamic_street/depth/frame_000000.npy", kind="depth").is_metric
    with pytest.raises(FileError, match="negative in"):
        read_depth(DATA / "moon_single/moon.npy", kind="depth")


def test_struct_of_the_pfm_reader_matches_the_definition(tmp_path: Path) -> None:
    # Two rows written by hand: the file's first row is the image's last.
    (tmp_path / "a.pfm").write_bytes(b"Pf\n2 2\n1.0\n" + struct.pack(">4f", 3, 4, 1, 2))
    assert read_depth(tmp_path / "a.pfm", kind="depth").values.tolist() == [[1, 2], [3, 4]]


def test_crops_keep_values_validity_and_unit(tmp_path: Path) -> None:
    depth = Depth(torch.arange(12.0).view(3, 4), torch.arange(12).view(3, 4) > 0, is_metric=False)
    part = depth.crop(1, 2, 3, 1)
    assert part.values.tolist() == [[9, 10, 11]]
    assert part.valid.all()
    assert not part.is_metric
    assert torch.equal(depth.to("cpu").values, depth.values)
    for box in ((-1, 0, 2, 2), (2, 0, 3, 1), (0, 0, 0, 1)):
        with pytest.raises(InputError, match="leaves the depth map of 4 x 3"):
            depth.crop(*box)


def test_depth_without_an_inverse_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no depth that can be told from 0 or infinity"):
        read_depth(saved(tmp_path / "a.npy", np.full((4, 4), 1e-40)), kind="depth")
    depth = read_depth(saved(tmp_path / "b.npy", np.array([[1e-40, 1.0]])), kind="depth")
    assert depth.valid.tolist() == [[False, True]]


def test_how_much_a_map_was_enlarged_is_kept_and_bounded() -> None:
    depth = Depth(torch.ones(3, 4), torch.ones(3, 4, dtype=torch.bool), True)
    fitted = fit_depth(depth, 64, 48)
    assert fitted.enlarged == 16
    assert fitted.crop(0, 0, 9, 9).enlarged == fitted.resize(8, 6).enlarged == 16
    assert fit_depth(depth, 2, 1).enlarged == fit_depth(depth, 4, 3).enlarged == 1
    with pytest.raises(InputError, match="depth is 4 x 3, but the image is 640 x 480: 160 times larger, and 16 is"):
        fit_depth(depth, 640, 480)
