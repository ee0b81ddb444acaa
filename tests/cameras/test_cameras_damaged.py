"""Every camera reader on damaged files: a result or a sentence, never anything else and never for long."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvguide.cameras.formats import read_cameras
from mvguide.cameras.intrinsics_files import read_intrinsics
from mvguide.errors import MvguideError
from tests.cameras.camera_cases import GIVEN, SIZE, write_all
from tests.mutations import damaged, result_or_error

CASES = [
    ("transforms", {}),
    ("log", GIVEN),
    ("matrices", GIVEN),
    ("tum", GIVEN),
    ("rows", GIVEN),
    ("mvsnet", {"size": SIZE}),
    ("llff", {}),
    *((f"colmap {place} {part}", {}) for place in ("text", "binary") for part in ("cameras", "images", "points3D")),
]
SECONDS = 5.0
"""Of the processor, not the clock: far above what a case takes, far below what a damaged count of 2^63 would."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, bytes]]:
    paths = write_all(tmp_path_factory.mktemp("cameras"))
    return paths, {name: path.read_bytes() for name, path in paths.items()}


@pytest.mark.parametrize(("name", "options"), CASES, ids=[name for name, _ in CASES])
def test_damaged_files_raise_nothing_else(
    files: tuple[dict[str, Path], dict[str, bytes]], name: str, options: dict[str, Any]
) -> None:
    paths, contents = files
    others = [content for other, content in contents.items() if other != name]

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(contents[name], others), st.booleans())
    def check(content: bytes, forced: bool) -> None:
        paths[name].write_bytes(content)
        started = time.process_time()
        read = result_or_error(read_cameras, paths[name], format=name.split()[0] if forced else None, **options)
        assert time.process_time() - started < SECONDS
        if isinstance(read, MvguideError):
            assert str(paths[name].parent) in str(read)
            return
        assert len(read) > 0
        for image in read.images:
            image.camera.check()
            assert image.camera.batch_shape == ()
        assert read.tracks is None or len(read.tracks) == len(read)
        assert read.points is None or read.points.isfinite().all()

    try:
        check()
    finally:
        paths[name].write_bytes(contents[name])


@pytest.mark.parametrize(
    "text",
    ["9 0 4 0\n0 9 5 0\n0 0 1 0\n0 0 0 1\n", "P0: 9 0 4 0 0 9 5 0 0 0 1 0\nP1: 9 0 4 -1 0 9 5 0 0 0 1 0\nTr: 1 2 3\n"],
)
def test_damaged_intrinsics_raise_nothing_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calib.txt"
    path.write_text(text)
    assert read_intrinsics(path) == [9, 9, 4, 5]

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(text.encode()))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        read = result_or_error(read_intrinsics, path)
        if isinstance(read, MvguideError):
            assert str(path) in str(read)
            return
        assert len(read) == 4
        assert all(map(math.isfinite, read))

    check()
