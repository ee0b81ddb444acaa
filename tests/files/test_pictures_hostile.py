"""Images that are not what their names say, and images that need a lot of memory."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from mvguide import memory
from mvguide.cameras.transforms_frames import read_posed_transforms
from mvguide.depth.maps import read_depth
from mvguide.errors import FileError, InputError
from mvguide.files.images import read_image
from tests.files.test_images import png_bytes

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"
TRANSFORMS = """{"fl_x": 10, "frames": [{"file_path": "a.png",
"transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}]}"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once Ghostscript was started."""
    program, marker = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent) + os.pathsep + os.environ["PATH"])
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return marker


@pytest.mark.parametrize("reader", [read_image, read_depth])
def test_a_png_that_is_postscript_starts_no_program(
    tmp_path: Path, started: Path, reader: Callable[[Path], object]
) -> None:
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(FileError, match=r"a\.png cannot be read \(UnidentifiedImageError"):
        reader(tmp_path / "a.png")
    assert not started.exists()


def test_the_size_of_a_capture_is_not_asked_of_postscript(tmp_path: Path, started: Path) -> None:
    (tmp_path / "a.png").write_bytes(EPS)
    (tmp_path / "transforms.json").write_text(TRANSFORMS)
    with pytest.raises(FileError, match=r"a\.png cannot be read \(UnidentifiedImageError"):
        read_posed_transforms(tmp_path / "transforms.json")


def test_a_tiff_with_fewer_rows_than_it_says_is_not_filled_with_black(tmp_path: Path) -> None:
    Image.new("RGB", (16, 12), "red").save(tmp_path / "a.tiff")
    data = (tmp_path / "a.tiff").read_bytes()
    place = max(data.find(struct.pack("<HHI", 257, kind, 1)) for kind in (3, 4)) + 8
    assert data[place] == 12
    (tmp_path / "a.tiff").write_bytes(data[:place] + b"\x04\x80" + data[place + 2 :])
    with pytest.raises(FileError, match=r"a\.tiff says 16 x 32772, but holds 16 x 12 pixels"):
        read_image(tmp_path / "a.tiff")


def test_a_gif_of_a_few_bytes_does_not_become_a_giant(tmp_path: Path) -> None:
    Image.new("L", (16, 12), 200).save(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 9000, 9000)
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(FileError, match=r"a\.gif says 9000 x 9000, but holds 16 x 12 pixels; save it again"):
        read_image(tmp_path / "a.gif")


PEAK = """
import sys
from mvguide.files.images import read_image
def peak():
    rows = open("/proc/self/status").read().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) * 1024
read_image(sys.argv[1])
before = peak()
image = read_image(sys.argv[2])
print((peak() - before) / image[0].numel())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_picture_is_held_once_as_stored_and_once_as_floats(tmp_path: Path) -> None:
    """4 bytes a pixel as Pillow stores it, 16 as floats; it was 48."""
    side = 3000
    values = np.zeros((1, side, 4), np.uint16)
    values[..., :2], values[..., 3] = 40_000, 30_000
    (tmp_path / "small.png").write_bytes(png_bytes(values))
    (tmp_path / "large.png").write_bytes(png_bytes(np.broadcast_to(values, (side, side, 4))))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.png"), str(tmp_path / "large.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 26
    image = read_image(tmp_path / "large.png")
    alpha = (30_000 >> 8) / 255
    wanted = [(40_000 >> 8) / 255 * alpha + 1 - alpha] * 2 + [1 - alpha]
    assert np.abs(image.numpy().reshape(3, -1) - np.array(wanted)[:, None]).max() < 1e-6


def test_a_picture_too_large_for_memory_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = png_bytes(np.zeros((1, 1, 4), np.uint16))
    header = b"IHDR" + (10_000).to_bytes(4, "big") + (9_000).to_bytes(4, "big") + bytes([16, 6, 0, 0, 0])
    data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    for name, reader in (("image", read_image), ("depth map", read_depth)):
        (tmp_path / "a.png").write_bytes(data)
        words = (
            rf"^{name} .*a\.png of 10000 x 9000 needs about 2\.0 GiB of memory, and 1\.0 GiB are free; make it smaller"
        )
        with pytest.raises(InputError, match=words):
            reader(tmp_path / "a.png")


def test_a_depth_map_too_large_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3000, 1000)))
    np.savez_compressed(tmp_path / "a.npz", np.zeros((3000, 1000)))
    monkeypatch.setattr(memory, "free_memory", lambda: 2**25)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match=rf"depth map .*{name}.* needs about 69 MiB of memory"):
            read_depth(tmp_path / name)
