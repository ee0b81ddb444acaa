import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvguide.depth.maps import DepthKind, read_depth
from mvguide.errors import FileError, MvguideError
from mvguide.files.depth_formats import read_stored
from tests.mutations import damaged, result_or_error

OpenEXR = pytest.importorskip("OpenEXR")

# A floor seen from above the horizon: z falls from 6 to 2 down the image, another way in each column.
MAP = (12 / (2 + np.arange(7)[:, None] * 0.5 + np.arange(9) * 0.1)).astype(np.float32)


def write(path: Path, channels: dict[str, np.ndarray], compression: Any = OpenEXR.ZIP_COMPRESSION) -> Path:
    header = {"compression": compression, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {name: np.ascontiguousarray(values) for name, values in channels.items()}).write(str(path))
    return path


@pytest.mark.parametrize(
    "channels",
    [
        {"Z": MAP},
        {"Y": MAP},
        {"R": MAP},
        {"depth": MAP},
        {"R": MAP, "G": MAP, "B": MAP},
        {"R": MAP + 1, "G": MAP, "B": MAP, "Z": MAP},
        {"View.Depth.Z": MAP, "View.Combined.R": MAP * 2},
        {"Z": MAP, "other.Z": MAP * 2},
    ],
    ids=lambda channels: "+".join(channels),
)
def test_the_depth_channel_is_found_and_comes_back_exactly(tmp_path: Path, channels: dict[str, np.ndarray]) -> None:
    depth = read_depth(write(tmp_path / "a.EXR", channels), kind="depth")
    assert depth.is_metric
    assert np.array_equal(depth.values.numpy(), MAP)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint32])
@pytest.mark.parametrize("compression", ["NO", "RLE", "ZIPS", "ZIP", "PIZ"])
def test_number_types_and_packings(tmp_path: Path, dtype: type[np.generic], compression: str) -> None:
    values = (MAP * 100).astype(dtype)
    stored = read_stored(write(tmp_path / "a.exr", {"Z": values}, getattr(OpenEXR, f"{compression}_COMPRESSION")))
    assert stored.dtype == dtype
    assert np.array_equal(stored, values)


def test_marks_of_no_data_count(tmp_path: Path) -> None:
    values = MAP.copy()
    values[0, :3] = [0, np.inf, 1e10]
    depth = read_depth(write(tmp_path / "a.exr", {"Z": values}), invalid=1e10)
    assert depth.valid.logical_not().nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ({"R": MAP, "G": MAP + 1, "B": MAP}, "image in colours"),
        ({"u": MAP, "v": MAP}, "has the channels 'u', 'v'; give one channel, or name the one that counts 'Z'"),
        ({"a.Z": MAP, "b.Z": MAP}, "has the channels 'a.Z', 'b.Z'"),
    ],
)
def test_files_that_are_no_depth_map(tmp_path: Path, channels: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(FileError, match=words):
        read_depth(write(tmp_path / "a.exr", channels))


def test_sizes_that_lie_take_no_memory(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.exr", {"Z": MAP}).read_bytes())
    place = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    for corner, words in (((9999, 9999), "bytes cannot hold"), ((2**30, 2**30), "says|cannot be read")):
        data[place + 8 : place + 16] = np.array(corner, "<i4").tobytes()
        (tmp_path / "b.exr").write_bytes(data)
        with pytest.raises(FileError, match=words):
            read_depth(tmp_path / "b.exr")


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.exr", {"Z": MAP})
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "OpenEXR":
            raise ImportError("No module named 'OpenEXR'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FileError, match=r"pip install mvguide\[exr\]"):
        read_depth(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exr")


def test_damaged_files_raise_nothing_else(folder: Path) -> None:
    originals = [
        write(folder / f"{k}.exr", channels, compression).read_bytes()
        for k, (channels, compression) in enumerate(
            [
                ({"Z": MAP}, OpenEXR.NO_COMPRESSION),
                ({"Z": MAP}, OpenEXR.ZIP_COMPRESSION),
                ({"R": MAP, "G": MAP, "B": MAP}, OpenEXR.PIZ_COMPRESSION),
            ]
        )
    ]
    path = folder / "damaged.exr"

    @settings(max_examples=250, deadline=None)
    @given(st.sampled_from(originals).flatmap(damaged), st.sampled_from([None, "depth", "disparity"]))
    def run(content: bytes, kind: DepthKind | None) -> None:
        path.write_bytes(content)
        depth = result_or_error(read_depth, path, kind=kind)
        if isinstance(depth, MvguideError):
            assert str(path) in str(depth)
            return
        assert bool(torch.isfinite(depth.values).all())
        assert torch.equal(depth.values > 0, depth.valid)

    run()


def test_tiff_of_two_channels_is_refused_and_one_is_read(tmp_path: Path) -> None:
    Image.fromarray(MAP).save(tmp_path / "a.tif")
    assert np.array_equal(read_depth(tmp_path / "a.tif").values.numpy(), MAP)
    Image.fromarray((np.stack([MAP, MAP + 1], -1) * 20).astype(np.uint8), "LA").save(tmp_path / "b.tif")
    assert read_depth(tmp_path / "b.tif").values.shape == (7, 9)  # grey and alpha: the grey counts
    (tmp_path / "c.tif").write_bytes(float_tiff(np.stack([MAP, MAP + 1], axis=-1)))
    with pytest.raises(FileError, match=r"c\.tif"):
        read_depth(tmp_path / "c.tif")


def float_tiff(values: np.ndarray) -> bytes:
    """A little-endian TIFF of float32 pixels with interleaved samples, written by hand: Pillow cannot."""
    height, width, samples = values.shape
    pixels = values.astype("<f4").tobytes()
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 2, 32 | 32 << 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
        (338, 3, 1, 0),
        (339, 3, 2, 3 | 3 << 16),
    ]
    directory = len(tags).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in tags
    )
    return b"II*\0" + (8 + len(pixels)).to_bytes(4, "little") + pixels + directory + bytes(4)
