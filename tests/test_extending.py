"""The examples of docs/extending.md run as they stand, and what they add works."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvguide
from mvguide.cameras import formats
from mvguide.config.generated import options_of
from mvguide.config.input_options import DepthOptions, SourceOptions
from mvguide.config.render_options import GuidanceConfig
from mvguide.diffusion.denoiser import GaussianDenoiser
from mvguide.diffusion.path import VarianceExploding
from mvguide.diffusion.sampler import sample
from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.diffusion.solvers import SOLVERS
from mvguide.files.depth_formats import DEPTH_FORMATS
from mvguide.files.images import write_png
from mvguide.geometry.trajectory import TRAJECTORIES
from mvguide.guidance.guides import GUIDES, make_guide
from mvguide.inputs.missing_depth import DEPTH_SOURCES
from mvguide.scenes import packaged_scene

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"\n## (.+?)\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture(autouse=True)
def _tables_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tables: list[dict[str, Any]] = [SOLVERS, GUIDES, TRAJECTORIES, DEPTH_FORMATS, DEPTH_SOURCES]
    kept = [dict(table) for table in tables]
    monkeypatch.setattr(formats, "FORMATS", formats.FORMATS)
    yield
    for table, entries in zip(tables, kept, strict=True):
        table.clear()
        table.update(entries)


def run(title: str) -> dict[str, Any]:
    """Names that the example of a section defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[title], f"{PAGE.name}: {title}", "exec"), names)
    return names


def test_every_example_is_short() -> None:
    assert len(EXAMPLES) == 8
    for title, code in EXAMPLES.items():
        assert len(code.strip().splitlines()) <= 25, title


def test_a_solver() -> None:
    run("A solver")
    exact = GaussianDenoiser(torch.tensor(0.2), torch.tensor(0.5), VarianceExploding())
    schedule = SigmaSchedule(karras_sigmas(30, 0.01, 20))
    x = 20 * torch.randn(1, 2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    fine = sample(exact, x, SigmaSchedule(karras_sigmas(600, 0.01, 20)), SOLVERS["heun"]())
    errors = {name: (sample(exact, x, schedule, SOLVERS[name]()) - fine).abs().max() for name in ("euler", "midpoint")}
    assert errors["midpoint"] < 0.2 * errors["euler"]


def test_a_guide_and_a_trajectory_are_options_of_the_command_line(tmp_path: Path) -> None:
    run("A guide")
    run("A trajectory")
    view, _ = packaged_scene().load(2)
    path = mvguide.make_trajectory("sway", view.camera, 5, target_depth=2.0, width=0.1)
    assert float((path.center[1] - path.center[0]).norm()) == pytest.approx(0.2)
    assert torch.allclose(path.center[-1], path.center[0], atol=1e-6)
    pipe = mvguide.MultiViewPipeline.from_pretrained("tiny", device="cpu")
    schedule = pipe.backbone.schedule(2)
    made = [
        pipe([view], path, schedule=schedule, size=(32, 32), guidance=guide).latents
        for guide in (make_guide("early_blend", until=1.0), mvguide.Blend(), make_guide("early_blend", until=0.0))
    ]
    torch.testing.assert_close(made[0], made[1])
    assert not torch.allclose(made[0], made[2])
    # The settings class is made when its module is first imported: look at a fresh one.
    options = options_of(GUIDES)(GuidanceConfig)
    assert "early_blend: share of the steps that are guided" in str(options.__doc__)
    assert options(kind="early_blend", until=0.5).guide().until == 0.5  # type: ignore[call-arg,attr-defined]


def test_a_camera_format_and_a_depth_file_and_a_depth_source(tmp_path: Path) -> None:
    run("A camera format")
    run("A depth file format")
    run("A source of depth")
    write_png(tmp_path / "a.png", np.full((8, 12, 3), 99, np.uint8))
    (tmp_path / "poses.csv").write_text("a.png,1,2,3\n")
    np.savetxt(tmp_path / "a.txt", np.full((8, 12), 4.0))
    lens = mvguide.LensOptions(intrinsics=[10, 10, 6, 4])
    source = SourceOptions(cameras=str(tmp_path / "poses.csv"))
    (view,) = mvguide.load_views(source, DepthOptions(depth=str(tmp_path / "a.txt")), lens).views
    assert view.camera.center.tolist() == [1, 2, 3]
    assert view.median_depth == 4
    walls = DepthOptions(depth_source="wall", depth_align="none")
    (view,) = mvguide.load_views(SourceOptions(image=str(tmp_path / "a.png")), walls).views
    assert view.median_depth == 1


def test_a_model_family() -> None:
    pipe = mvguide.MultiViewPipeline(run("A model family")["Still"]())
    view, path = packaged_scene().load(4)
    result = pipe([view], path)
    assert result.frames.shape == (4, 3, 64, 64)
    shown = torch.nn.functional.avg_pool2d(result.warps.image[:1], 8)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(result.frames[:1], 8), shown, atol=0.02, rtol=0)


def test_guidance_in_a_script_of_your_own() -> None:
    names = run("Guidance in a script of your own")
    warps = names["context"].warps
    seen = warps.visible.expand_as(warps.image) > 0.99
    errors = {name: (names[name] - warps.image)[seen].abs().mean() for name in ("without", "frames")}
    assert errors["frames"] < 0.8 * errors["without"]
