"""Make the images of the tutorials: run the commands of a page, and keep the images that it marks.

``<!-- image: out/mine/sheet.png, 1000 -->`` before an image of a page says which file of the run it is, and how wide.

    python -m tools.site.images docs/tutorials/photo.md ...
    python -m tools.site.images docs/gallery.md --data FOLDER

With a folder of data, blocks that need the data run too.
"""

import argparse
import os
import re
import tempfile
from pathlib import Path

from PIL import Image

from mvguide import cli
from tools.site.examples import blocks, fill_folder, lines_of

MARK = re.compile(r"<!-- image: (\S+), (\d+) -->\n!\[[^\]]*\]\(([^)]+)\)")
QUALITY = 82


def make_images(page: Path, data: Path | None) -> None:
    """Run the commands of a page in a folder of their own, and write its images."""
    text, here = page.read_text(), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        fill_folder(Path(name))
        for entry in data.resolve().iterdir() if data else []:
            (Path(name) / entry.name).symlink_to(entry)
        os.chdir(name)
        names = {"__name__": "example"}
        for block in blocks(text, page.name):
            if block.needs and not (data and block.needs == "the data"):
                continue
            if block.kind == "python":
                exec(compile(block.text, block.place, "exec"), names)
            for words in lines_of(block) if block.kind == "sh" else []:
                if cli.main([*words[1:], "--quiet"] if words[1] != "plan" else words[1:]):
                    raise SystemExit(f"{block.place}: {' '.join(words)} failed")
        os.chdir(here)
        for source, width, target in MARK.findall(text):
            keep(Path(name) / source, page.parent / target, int(width))


def keep(source: Path, target: Path, width: int) -> None:
    """Write an image as a JPEG, not wider than a width."""
    image = Image.open(source).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, quality=QUALITY, optimize=True)
    print(f"{target}: {image.width} x {image.height}, {target.stat().st_size // 1024} KB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, help="folder of photographs that pages need")
    given = parser.parse_args()
    for page in given.pages:
        make_images(page.resolve(), given.data)
