"""Make the example scenes that ship with mvguide: image, depth, cameras and the true video of each; two captures.

python tools/make_example_scenes.py            # writes mvguide/scenes/<name>/
"""

import argparse
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from mvguide.cameras.transforms import write_transforms
from mvguide.files.images import write_png
from mvguide.files.video import write_video
from mvguide.geometry.camera import Camera

# Run as a script, Python looks for modules beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.example_captures import make_film, make_views
from tools.scenes import EXAMPLES, render_scenes

SCENES = {
    "marbles": 10031,
    "blocks": 10030,
    "courtyard": 10041,
    "gallery": 10027,
    "corner": 10040,
    "hall": 10025,
    "carousel": 10043,
}
"""Held-out seeds of different kinds: orbit, pedestal, truck, forward with a turn, pan, dolly; carousel moves."""

PICTURE, VIDEO, FRAMES = 256, 128, 16
DEPTH_UNIT = 0.001
SETTINGS = """\
# One image with exact depth in millimetres, seen along the scene's own camera path.
image: {name}/image.png
depth: {name}/depth.png
depth_unit: {unit}
depth_kind: depth
intrinsics: {lens}
trajectory:
  kind: file
  file: {name}/cameras.json
"""


def make_scene(name: str, seed: int, folder: Path) -> None:
    """Render a scene and write its files. Depth is 16-bit millimetres; the sky, beyond 65 m, is put at 65 m."""
    if seed not in EXAMPLES:
        raise SystemExit(f"seed {seed} of {name} is not one that is kept for examples")
    scene = render_scenes([seed], size=PICTURE, frames=FRAMES, supersample=3, with_depth=True)
    assert scene.depth is not None  # it was asked for
    out = folder / name
    out.mkdir(parents=True, exist_ok=True)
    write_png(out / "image.png", scene.video[0, 0])
    millimetres = (scene.depth[0, 0].double() / DEPTH_UNIT).clamp(1, 65000).round()
    iio.imwrite(out / "depth.png", millimetres.numpy().astype(np.uint16))
    cameras = Camera(scene.intrinsics[0].double(), scene.world_to_camera[0].double(), PICTURE, PICTURE)
    notes = {"depth_unit_scale_factor": DEPTH_UNIT, "move": scene.move[0], "moving": bool(scene.moving[0])}
    names = [f"truth.mp4#{index}" for index in range(FRAMES)]
    write_transforms(out / "cameras.json", cameras, names, extra=notes)
    lens = cameras.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    (folder / f"{name}.yaml").write_text(SETTINGS.format(name=name, unit=DEPTH_UNIT, lens=lens))
    truth = scene.video[0].unflatten(-1, (VIDEO, -1)).mean(-1).unflatten(-2, (VIDEO, -1)).mean(-2)
    write_video(out / "truth.mp4", truth, fps=7)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{name}: {scene.move[0]}, {scene.new_share[0]:.0%} of the last frame is new, {size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "mvguide" / "scenes")
    arguments = parser.parse_args()
    for name, seed in SCENES.items():
        make_scene(name, seed, arguments.out)
    make_views(arguments.out / "capture")
    make_film(arguments.out / "film")


if __name__ == "__main__":
    main()
