"""The fenced examples of a page, and the folder that they run in: shared by the tests and by the images of the site."""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mvguide.files.video import read_video
from mvguide.scenes import packaged_scene

_FENCE = re.compile(r"(?:^<!-- example: needs (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    place: str
    needs: str
    """What its mark says; empty without one."""
    kind: str
    text: str


def blocks(text: str, page: str = "page.md") -> list[Block]:
    """The fenced blocks of a page, in their order."""
    return [
        Block(f"{page}, line {text[: found.start(3)].count(chr(10)) + 1}", found[1] or "", found[2], found[3])
        for found in _FENCE.finditer(text)
    ]


def lines_of(block: Block) -> list[list[str]]:
    """Words of each command of a sh block."""
    lines = [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines()]
    return [words for words in lines if words]


def fill_folder(folder: Path) -> None:
    """Put what the pages say that a user has into a folder."""
    scenes = packaged_scene("marbles").settings.parent
    Image.open(scenes / "marbles" / "image.png").convert("RGB").save(folder / "photo.jpg", quality=95)
    depth = np.asarray(Image.open(scenes / "marbles" / "depth.png")).astype(np.float32) / 1000
    np.save(folder / "depth.npy", depth)
    (folder / "true_frames").mkdir()
    for number, frame in enumerate(read_video(scenes / "marbles" / "truth.mp4")[:8]):
        picture = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(picture).save(folder / "true_frames" / f"{number:04d}.png")
    shutil.copytree(scenes / "capture", folder / "capture")
    shutil.copy(scenes / "film" / "clip.mp4", folder / "clip.mp4")
    shutil.copytree(scenes / "film" / "disparity", folder / "clip_depth")
