"""Images of results say what they should."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvguide.diffusion.schedule import SigmaSchedule, karras_sigmas
from mvguide.drawing.sheets import mark_holes, pick_columns, video_sheet
from mvguide.drawing.table_plot import plot_table
from mvguide.tables.table import LambdaTable


def test_holes_are_marked_and_seen_pixels_are_not_touched() -> None:
    frames = torch.rand(2, 3, 24, 24)
    visible = torch.ones(2, 1, 24, 24)
    visible[1, :, 4:20, 4:20] = 0
    marked = mark_holes(frames, visible)
    seen = visible.expand_as(frames) > 0
    assert torch.equal(marked[seen], frames[seen])
    hole = marked[1, :, 4:20, 4:20]
    assert torch.equal(hole[0], hole[1]), "grey"
    assert hole.unique().numel() == 2, "stripes of two greys"


def test_columns_are_spread_evenly_with_both_ends() -> None:
    assert pick_columns(5) == [0, 1, 2, 3, 4]
    assert pick_columns(25) == [0, 3, 7, 10, 14, 17, 21, 24]


@pytest.mark.parametrize(("size", "tile"), [((16, 16), (144, 144)), ((64, 48), (192, 144)), ((1024, 576), (256, 144))])
def test_a_sheet_shows_every_row(size: tuple[int, int], tile: tuple[int, int]) -> None:
    red, blue = torch.zeros(3, 3, size[1], size[0]), torch.zeros(3, 3, size[1], size[0])
    red[:, 0], blue[:, 2] = 1, 1
    sheet = (video_sheet({"input": red, "result": blue}, ["a", "b", "c"]) * 255).byte().permute(1, 2, 0).numpy()
    assert (sheet == [255, 0, 0]).all(-1).sum() == 3 * tile[0] * tile[1]
    assert (sheet == [0, 0, 255]).all(-1).sum() == 3 * tile[0] * tile[1]


@pytest.mark.parametrize("note", ["87% seen", "a note that is drawn smaller"])
def test_words_of_a_sheet_can_be_read_where_a_page_shrinks_it(note: str) -> None:
    """The page of a result shows eight columns about 1100 pixels wide."""
    frames = torch.zeros(8, 3, 128, 128)
    sheet = video_sheet({"result": frames}, [note] * 8)
    words = sheet[:, 6 + 256 :].mean(0) < 0.6
    assert sheet.shape[-1] > 2000
    lines = words.any(-1).int().diff().clamp(min=0).sum()
    assert lines == 2, "the number of the frame, and the note below it"
    heights = words.any(-1).sum() / 2
    assert heights * 1100 / sheet.shape[-1] >= (8 if len(note) < 10 else 4)
    margin = sheet.shape[-1] - 8 * (256 + 6)
    columns = words.any(0)[margin:].view(8, 262)
    assert not columns[:, -6:].any(), "no word reaches the next column"


@pytest.mark.parametrize("num_steps", [1, 25])
def test_the_plot_of_a_table_is_drawn(tmp_path: Path, num_steps: int) -> None:
    table = LambdaTable.constant(0.3, SigmaSchedule(karras_sigmas(num_steps)), 8)
    plot_table(table, tmp_path / "t.png")
    pixels = np.asarray(Image.open(tmp_path / "t.png").convert("RGB"))
    assert pixels.shape[0] > 400
    bright = (np.abs(pixels.astype(int) - [253, 231, 37]).sum(-1) < 12).mean()
    assert 0.02 < bright < 0.2, "the first frame's column has weight 1, viridis' yellow"
