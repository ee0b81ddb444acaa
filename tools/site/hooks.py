"""What `mkdocs build` does besides: it adds the generated pages, and files of the repository that pages link to."""

import re
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.site.reference import options_page, python_page  # noqa: E402

_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages, and what pages link to outside docs/."""
    files.append(File.generated(config, "reference/options.md", content=options_page()))
    files.append(File.generated(config, "reference/python.md", content=python_page()))
    for page in list(files.documentation_pages()):
        for target in _outside(page.content_string, page.src_uri):
            uri = _copy(target)
            if (ROOT / target).is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **kwargs: Any) -> str:
    """Let links that leave docs/ lead to the copies."""

    def moved(link: re.Match[str]) -> str:
        target = _target(link[1], page.file.src_uri)
        if not target.startswith("../"):
            return link[1]
        return relpath(_copy(target.removeprefix("../")), PurePosixPath(page.file.src_uri).parent.as_posix())

    return _LINK.sub(moved, markdown)


def _copy(target: str) -> str:
    """Where the site has a file of the repository; a page of Markdown becomes text."""
    return f"files/{target}".replace(".md", ".txt")


def _outside(markdown: str, uri: str) -> set[str]:
    targets = {_target(link, uri) for link in _LINK.findall(markdown)}
    return {target.removeprefix("../") for target in targets if target.startswith("../")}


def _target(link: str, uri: str) -> str:
    """Where a link of a page leads, from docs/."""
    return normpath((PurePosixPath(uri).parent / link).as_posix())
