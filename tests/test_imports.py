"""The house: imports go one way, and starting is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mvguide"

# Rooms from the ground up: a room may import itself and the rooms above it in this list; see docs/design.md, section 3.
ROOMS = [
    "errors",
    "memory",
    "decoding",
    "drawing",
    "diffusion",
    "tables",
    "guidance",
    "geometry",
    "files",
    "cameras",
    "depth",
    "views",
    "backbones",
    "pipeline",
    "evaluation",
    "viewer",
    "config",
    "inputs",
    "scenes",
    "commands",
    "studio",
    "cli",
]
NOT_EVEN_SO = {
    "diffusion": {"tables"},
    "guidance": {"drawing"},
    "geometry": {"diffusion", "tables", "guidance"},
    "files": {"drawing", "diffusion", "tables", "guidance", "geometry"},
    "cameras": {"drawing", "diffusion", "tables", "guidance"},
    "depth": {"drawing", "diffusion", "tables", "guidance", "cameras"},
    "views": {"diffusion", "tables", "guidance", "cameras"},
    "backbones": {"drawing", "tables", "guidance", "geometry", "files", "cameras", "depth", "views"},
    "evaluation": {"diffusion", "tables", "guidance", "depth", "backbones", "pipeline"},
    "viewer": {"diffusion", "tables", "guidance", "depth", "backbones"},
    "config": {"files", "cameras", "depth", "views", "drawing", "pipeline", "evaluation", "viewer"},
    "inputs": {"diffusion", "tables", "guidance", "drawing", "pipeline", "viewer"},
    "scenes": {
        *("diffusion", "tables", "guidance", "backbones", "drawing", "pipeline", "evaluation", "viewer"),
        *("config", "inputs"),
    },
}
"""Rooms that stand beside each other rather than on each other."""


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
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"enter {room} into ROOMS, above all that it imports"
    below = set(ROOMS[: ROOMS.index(room)]) - NOT_EVEN_SO.get(room, set())
    used = {room_of(module) for module in imports(path) if module.startswith("mvguide.")}
    assert used <= below | {room}


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem for path in FILES if not path.stem.startswith("__")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
    assert len(list(PACKAGE.glob("*.py"))) <= 8


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


def test_the_choices_of_the_command_line_are_the_entries_of_the_tables() -> None:
    from typing import get_args, get_type_hints

    from mvguide.config.input_options import TrajectoryOptions
    from mvguide.config.render_options import GuidanceConfig, RenderConfig
    from mvguide.diffusion.solvers import SOLVERS
    from mvguide.geometry.trajectory import TRAJECTORIES
    from mvguide.guidance.guides import GUIDES

    def choices(settings: type, name: str) -> set[str]:
        hint = get_type_hints(settings)[name]
        members = get_args(hint)
        return set(members if isinstance(members[0], str) else get_args(members[0]))

    assert choices(TrajectoryOptions, "kind") == set(TRAJECTORIES) | {"views", "still", "file"}
    assert choices(GuidanceConfig, "kind") == set(GUIDES)
    assert choices(RenderConfig, "solver") == set(SOLVERS) | {"model"}
    assert set(TrajectoryOptions().params()) == set()
