"""The house: imports go one way, and starting is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mvguide"

# Each room may import itself and the rooms named here; see docs/design.md, section 3.
BASE = {"errors", "reading"}
LOWER = BASE | {"diffusion"}
MAY_IMPORT = {
    "errors": set(),
    "reading": BASE,
    "diffusion": BASE,
    "guidance": LOWER,
    "geometry": LOWER,
    "files": LOWER | {"geometry"},
    "depth": LOWER | {"geometry", "files"},
    "evaluation": LOWER | {"geometry", "guidance", "files"},
    "backbones": LOWER,
    "view": LOWER | {"geometry", "files", "depth"},
    "scenes": LOWER | {"geometry", "files", "depth", "view"},
    "moments": BASE,
    "warps": LOWER | {"geometry", "view", "moments"},
    "targets": LOWER | {"geometry", "guidance", "backbones", "view", "moments", "warps"},
    "calibration": LOWER | {"geometry", "guidance", "files", "view", "warps", "targets"},
    "result": LOWER | {"geometry", "guidance", "files", "evaluation", "view", "warps"},
    "diagnosis": LOWER | {"geometry", "depth", "view", "warps"},
    "preview": LOWER | {"geometry", "files", "evaluation", "view", "moments", "warps", "diagnosis"},
    "pipeline": LOWER | {"geometry", "guidance", "backbones", "view", "moments", "warps", "targets", "result"},
    "config": BASE,
    "truth": LOWER | {"config", "evaluation", "view", "inputs"},
    "compare": LOWER | {"geometry", "files", "evaluation", "view"},
    "inputs": LOWER | {"config", "geometry", "files", "depth", "view", "moments"},
    "presets": BASE | {"config"},
}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "mvguide")
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in MAY_IMPORT:
        assert room in {"__init__", "__main__", "cli", "commands"}, f"say in MAY_IMPORT what {room} may import"
        return
    used = {room_of(module) for module in imports(path) if module.startswith("mvguide.")}
    assert used <= MAY_IMPORT[room] | {room}


def test_diffusers_and_transformers_models_are_only_used_by_backbones_and_depth() -> None:
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] not in {"backbones", "depth"}:
            heavy = {module.split(".")[0] for module in imports(path)} & {"diffusers", "transformers"}
            assert not heavy, f"{path} imports {heavy}"


def test_solvers_do_not_know_guidance() -> None:
    for path in (PACKAGE / "diffusion").glob("*.py"):
        assert not any(module.startswith("mvguide.guidance") for module in imports(path))


@pytest.mark.parametrize("code", ["import mvguide", "import mvguide.cli; mvguide.cli.build_parser()"])
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    check = f"{code}\nimport sys\nprint([m for m in ('torch', 'diffusers', 'scipy', 'matplotlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_are_all_there() -> None:
    import mvguide

    for name in mvguide.__all__:
        assert getattr(mvguide, name).__name__ == name
    assert set(mvguide._HOME) == set(mvguide.__all__)
    with pytest.raises(AttributeError, match="no attribute 'renderer'"):
        _ = mvguide.renderer


def test_trajectory_kinds_of_the_command_line_are_those_of_the_library() -> None:
    from typing import get_args

    from mvguide.config import TrajectoryConfig, TrajectoryKind
    from mvguide.geometry.trajectory import TRAJECTORIES

    assert set(get_args(TrajectoryKind)) == set(TRAJECTORIES) | {"views", "still", "file"}
    assert set(TrajectoryConfig().params()) == set()
