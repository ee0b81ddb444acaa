"""What the other families' stock pipelines do, at tiny size: facts that the backbones rest on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.backbones.tiny_families import FAMILIES, HEIGHT, WIDTH, run

KINDS = list(FAMILIES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stock_pipeline_runs(kind: str, tiny_pipeline: Callable[[str], Any]) -> None:
    frames = run(kind, tiny_pipeline(kind))
    assert frames.shape == (FAMILIES[kind].frames - FAMILIES[kind].dropped, 3, HEIGHT, WIDTH)
    assert torch.isfinite(frames).all()
    assert frames.std((0, 2, 3)).min() > 0.03  # not a flat grey, on which any two latents look alike


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_gives_the_same_video(
    kind: str, tiny_pipeline: Callable[[str], Any], tiny_folder: Callable[[str], Path]
) -> None:
    expected = run(kind, tiny_pipeline(kind))
    loaded = DiffusionPipeline.from_pretrained(tiny_folder(kind))
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is type(tiny_pipeline(kind))
    torch.testing.assert_close(run(kind, loaded), expected, atol=1e-3, rtol=0)
