import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvguide.errors import FileError, InputError, MvguideError, OutputError
from mvguide.files import images
from mvguide.files.images import read_image, read_image_and_alpha, write_png
from tests.mutations import damaged, result_or_error

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 255


def png_bytes(values: np.ndarray) -> bytes:
    """A 16-bit PNG of [H, W, C] by hand, as Pillow cannot write 16-bit colour."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_colour_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(COLOUR).save(path, **options)
    image = read_image(path)
    assert image.dtype == torch.float32
    assert image.shape == (3, 6, 9)
    assert torch.equal(image, as_tensor(COLOUR))
    assert read_image_and_alpha(path)[1] is None


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])  # Pillow 12 cannot read its own YCbCr files
def test_other_modes_agree_with_their_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(COLOUR).convert(mode)
    path = tmp_path / "a.tiff"
    picture.save(path)
    assert torch.equal(read_image(path), as_tensor(np.asarray(picture.convert("RGB"))))


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    flat = Image.new("RGB", (32, 32), (200, 60, 30))
    flat.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert (read_image(tmp_path / "a.jpg")[:, 16, 16] * 255 - torch.tensor([200.0, 60, 30])).abs().max() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_lie_over_white(tmp_path: Path, mode: str) -> None:
    alpha = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
    alpha[0] = 0
    picture = Image.fromarray(COLOUR).convert("L" if mode == "LA" else "RGB")
    colour = np.asarray(picture.convert("RGB")).astype(np.float64) / 255
    picture.putalpha(Image.fromarray(alpha))
    assert picture.mode == mode
    picture.save(tmp_path / "a.png")
    image, read_alpha = read_image_and_alpha(tmp_path / "a.png")
    share = alpha[..., None] / 255
    assert np.abs(image.permute(1, 2, 0).numpy() - (colour * share + 1 - share)).max() < 1e-6
    assert torch.equal(image[:, 0], torch.ones(3, 9))
    assert read_alpha is not None
    assert torch.equal(read_alpha, torch.from_numpy(alpha[None].astype(np.float32)) / 255)


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "a.png", transparency=0)
    image = read_image(tmp_path / "a.png")
    assert image[:, 0, 0].tolist() == [1, 1, 1]
    assert image[:, 1, 3].tolist() == [0, 0, 1]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256], [1000, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert np.abs(image.numpy() - values / 65535).max() < 1e-7


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_keeps_its_upper_8_bits(tmp_path: Path, channels: int) -> None:
    values = RANDOM.integers(0, 65536, (3, 5, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_bytes(values))
    scaled = values / 65535
    alpha = scaled[..., -1:] if channels in (2, 4) else np.ones((3, 5, 1))
    colour = np.broadcast_to(scaled[..., : 1 if channels == 2 else 3], (3, 5, 3))
    wanted = colour * alpha + 1 - alpha
    assert np.abs(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy() - wanted).max() < 2.01 / 255


@pytest.mark.parametrize("depth", ["L", "I;16", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, depth: str) -> None:
    upright: np.ndarray = RANDOM.integers(0, 256, (4, 7, 3) if depth == "RGB" else (4, 7), dtype=np.uint8)
    upright = upright.astype(np.uint16) * 200 if depth == "I;16" else upright
    # What a camera stores, from the definition of the tag: where row 0 and column 0 of the stored image lie.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")
    top = 65535 if depth == "I;16" else 255
    wanted = upright[..., None].repeat(3, -1) if upright.ndim == 2 else upright
    assert image.shape == (3, 4, 7)
    assert np.abs(image.permute(1, 2, 0).numpy() - wanted / top).max() < 1e-6


def test_jpeg_from_a_phone_held_upright(tmp_path: Path) -> None:
    scene = Image.new("RGB", (40, 64), "white")
    scene.paste("red", (0, 0, 40, 16))  # a red sky
    exif = Image.Exif()
    exif[0x0112] = 6  # the sensor lay on its side: turn clockwise to see it upright
    scene.rotate(90, expand=True).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (3, 64, 40)
    assert image[1, :12].max() < 0.1
    assert image[1, 24:].min() > 0.9


def test_float_tiff_in_range_is_read_and_others_are_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(read_image(tmp_path / "a.tiff")[1].numpy(), values)
    Image.fromarray(values * 40).save(tmp_path / "b.tiff")
    with pytest.raises(FileError, match=r"floats from 0 to 40, not 0 to 1"):
        read_image(tmp_path / "b.tiff")
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "c.tiff")
    with pytest.raises(FileError, match=r"32-bit integers from 0 to 70000"):
        read_image(tmp_path / "c.tiff")


def test_what_is_not_a_picture_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"image .*none\.png does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileError, match=r"is a folder"):
        read_image(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(FileError, match=r"is empty"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(FileError, match=r"text\.png cannot be read .*give a PNG or JPEG"):
        read_image(tmp_path / "text.png")
    with pytest.raises(FileError, match=r"cannot be read"):
        read_image("a\0b.png")
    with pytest.raises(FileError, match=r"is not a folder|cannot be read"):
        read_image(tmp_path / "text.png" / "below.png")


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileError, match=r"is a pipe or a device"):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "gif", "bmp"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    name = {"jpg": "jpeg"}.get(suffix, suffix)
    Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, name)
    data = buffer.getvalue()
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match=r"cannot be read"):
        read_image(tmp_path / f"a.{suffix}")


def test_decompression_bombs_are_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(bomb + png_bytes(np.zeros((1, 1, 1), np.uint16))[33:])
    with pytest.raises(FileError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")
    write_png(tmp_path / "a.png", torch.zeros(3, 10, 11))
    monkeypatch.setattr(images, "MAX_PIXELS", 109)
    with pytest.raises(FileError, match=r"11 x 10, more than"):
        read_image(tmp_path / "a.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def encoded() -> list[bytes]:
    picture = Image.fromarray(RANDOM.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [png_bytes(RANDOM.integers(0, 65536, (5, 4, 4), dtype=np.uint16))]
    for name, mode in [("png", "RGBA"), ("jpeg", "RGB"), ("gif", "P"), ("tiff", "RGB"), ("webp", "RGB"), ("png", "P")]:
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, name, **({"exif": exif} if name in ("jpeg", "png", "webp") else {}))
        found.append(buffer.getvalue())
    return found


ENCODED = encoded()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(ENCODED).flatmap(lambda content: damaged(content, ENCODED)))
def test_damaged_pictures_raise_nothing_else(folder: Path, content: bytes) -> None:
    path = folder / "damaged.png"
    path.write_bytes(content)
    image = result_or_error(read_image, path)
    if isinstance(image, MvguideError):
        assert str(path) in str(image)
        return
    assert image.dtype == torch.float32
    assert image.ndim == 3
    assert image.shape[0] == 3
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1


@pytest.mark.parametrize("layout", ["chw", "hwc", "numpy", "bytes"])
def test_png_round_trip(tmp_path: Path, layout: str) -> None:
    image = as_tensor(COLOUR)
    layouts: dict[str, torch.Tensor | np.ndarray] = {
        "chw": image,
        "hwc": image.permute(1, 2, 0),
        "numpy": image.numpy().astype(np.float64),
        "bytes": torch.from_numpy(COLOUR),
    }
    write_png(tmp_path / "new" / "a.png", layouts[layout])
    assert torch.equal(read_image(tmp_path / "new" / "a.png"), image)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


def test_write_png_clips_rounds_and_takes_grey(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.tensor([[-1.0, 2.0, 0.5, 0.999]], dtype=torch.float16))
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "L"
    assert np.asarray(picture).tolist() == [[0, 255, 128, 255]]
    write_png(tmp_path / "b.png", torch.full((1, 2, 2), 0.2))
    assert read_image(tmp_path / "b.png").shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(4, 5, 6), "shape 4 x 5 x 6"),
        (torch.zeros(2, 3, 4, 5), "shape 2 x 3 x 4 x 5"),
        (torch.zeros(3, 0, 5), "shape 3 x 0 x 5"),
        (torch.full((3, 2, 2), float("nan")), "NaN"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "int64"),
    ],
)
def test_write_png_refuses_what_is_no_picture(tmp_path: Path, image: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_png(tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


def test_write_png_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png"):
        write_png(tmp_path / "a.jpg", torch.zeros(3, 2, 2))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"is not a folder"):
        write_png(tmp_path / "file" / "a.png", torch.zeros(3, 2, 2))
