"""A still world along a turn of any length, and the scores of a video of it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvguide.backbones import Backbone
from mvguide.evaluation.metrics import psnr
from mvguide.evaluation.motion import flicker
from mvguide.files.atomic import atomic_path
from mvguide.views.warps import warp_views
from tools.quality.conditions import exact_view, scene_cameras
from tools.quality.report import mean_and_error
from tools.scenes.render import trace_paths
from tools.scenes.turns import sample_turn
from tools.scenes.world import sample_worlds

REGIONS = ("whole", "seen", "holes")
COLUMNS = (*(f"psnr {region}" for region in REGIONS), "flicker", "border", "border of truth", "meets")
Row = dict[str, str | int | float]


class LongScene:
    """The truth along a turn with its depth, its cameras, and the one picture that methods are given, with exact depth.

    Args:
        seed: of the world, from ``tools.scenes.turns.turning_seeds``.
        side: width and height, pixels.
        frames: F.
        degrees: of the whole turn.
    """

    def __init__(self, seed: int, side: int, frames: int, degrees: float) -> None:
        path = sample_turn(seed, frames, degrees)
        assert path is not None  # the seed is of a world with room for it
        found = trace_paths(sample_worlds([seed]), path, size=side, with_depth=True)
        self.seed, self.size, self.is_closed = seed, (side, side), degrees % 360 == 0
        assert found.depth is not None
        self.truth, self.depth, self.cameras = found.video[0], found.depth[0], scene_cameras(found)
        self.view = exact_view(found, self.cameras, 0)
        self.warps = warp_views([self.view], self.cameras)


def score(scene: LongScene, video: Tensor, borders: Sequence[int], backbone: Backbone) -> dict[str, float]:
    """PSNR over the frames that are not the picture itself, steadiness, and how a closed path meets its start.

    Args:
        scene: its truth.
        video: ``[F, 3, H, W]``.
        borders: frames whose change from the frame before is one across a border.
        backbone: for the round trip of its VAE.

    Returns:
        By column: PSNR in dB; flicker relative to the truth's; the mean change across a border relative to that
        elsewhere, of the video and of the truth; and for a closed path the PSNR of the last frame against the picture,
        less that of the picture through the VAE.
    """
    scored = ~scene.warps.pinned
    visible = scene.warps.visible[scored]
    masks = {"whole": None, "seen": visible, "holes": 1 - visible}
    found = {f"psnr {name}": _mean(psnr(video[scored], scene.truth[scored], mask)) for name, mask in masks.items()}
    found["flicker"] = flicker(video) / flicker(scene.truth)
    found["border"], found["border of truth"] = step_at(video, borders), step_at(scene.truth, borders)
    found["meets"] = float("nan")
    if scene.is_closed:
        picture = scene.view.image
        round_trip = backbone.decode(backbone.encode(picture[None].expand(2, -1, -1, -1))[None])[0]
        found["meets"] = float(psnr(video[-1], picture) - psnr(round_trip, picture))
    return found


def step_at(video: Tensor, borders: Sequence[int]) -> float:
    """Mean change ``|I(k) - I(k - 1)|`` into the frames k of the borders, over that into all others."""
    change = (video[1:] - video[:-1]).abs().mean(dim=(1, 2, 3))
    across = torch.zeros(len(change), dtype=torch.bool)
    across[[border - 1 for border in borders]] = True
    return float(change[across].mean() / change[~across].mean())


def _mean(values: Tensor) -> float:
    return float(values[torch.isfinite(values)].mean())


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [
            {"seed": int(row["seed"]), "method": row["method"], "seconds": float(row["seconds"])}
            | {name: float(row[name]) for name in COLUMNS}
            for row in csv.DictReader(stream)
        ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """All rows as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["seed", "method", "seconds", *COLUMNS])
        writer.writeheader()
        writer.writerows(rows)


def report(rows: Sequence[Row], methods: Sequence[str], baseline: str) -> str:
    """Markdown: means over scenes, and differences to the baseline scene by scene, with standard errors."""
    by_method = {name: {int(row["seed"]): row for row in rows if row["method"] == name} for name in methods}
    lines = [_line(["method", *COLUMNS, "seconds", "scenes"]), _line(["---"] * (len(COLUMNS) + 3))]
    for name, mine in by_method.items():
        means = [mean_and_error([float(row[column]) for row in mine.values()]) for column in (*COLUMNS, "seconds")]
        lines.append(_line([name, *means, str(len(mine))]))
    base = by_method.get(baseline, {})
    compared = [column for column in COLUMNS if column.startswith("psnr")]
    lines += ["", f"Minus {baseline!r}, scene by scene:", "", _line(["method", *compared]), _line(["---"] * 4)]
    lines += [
        _line([name, *_differences(mine, base, compared)]) for name, mine in by_method.items() if name != baseline
    ]
    return "\n".join(lines) + "\n"


def _differences(mine: Mapping[int, Row], base: Mapping[int, Row], columns: Sequence[str]) -> list[str]:
    both = [seed for seed in mine if seed in base]
    return [mean_and_error([float(mine[s][name]) - float(base[s][name]) for s in both], "+") for name in columns]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
