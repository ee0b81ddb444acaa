"""The wheel holds what the package needs, and works from an empty folder."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "mvguide", source / "mvguide", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("sigmas", "configs"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_is_whole_and_small(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mvguide").rglob("*.py")}
    assert modules <= names
    for name in (
        "mvguide/configs/orbit.yaml",
        "mvguide/configs/tiny_25x8.npz",
        "mvguide/scenes/two_views.yaml",
        "mvguide/sigmas/sigmas_25.npy",
        "mvguide/scenes/marbles/image.png",
        "mvguide/scenes/capture/images/0000.png",
        "mvguide/scenes/capture/sparse/0/cameras.txt",
        "mvguide/scenes/film/disparity/0007.png",
        "mvguide/backbones/assets/tiny/unet/diffusion_pytorch_model.safetensors",
        "mvguide/py.typed",
    ):
        assert name in names
    assert not any(name.startswith(("tests", "tools", "sigmas/", "configs/")) for name in names)
    assert wheel.stat().st_size < 20 * 2**20


def test_an_installed_wheel_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import mvguide
assert mvguide.__file__.startswith(sys.argv[1]), mvguide.__file__
from mvguide.cli import main
from mvguide.config.parsing import packaged_configs
from mvguide.scenes import packaged_scenes
assert "orbit" in packaged_configs()
assert main(["preview", "--scene", "two_views", "--num_frames", "2", "--quiet", "--out", "out"]) == 0
print(len(mvguide.load_sigmas("sigmas_100")), len(packaged_scenes()))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split()[0] == "100"
    assert int(run.stdout.split()[1]) >= 6
