"""What holds for every page that mvguide writes."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Tags, targets and texts of a page; a tag that is closed out of turn is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.open, self.targets = path, list[str](), list[str]()
        self.tags, self.texts, self.heads = list[str](), list[str](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.targets += [value for name in ("src", "href") if (value := given.get(name)) is not None]
        if tag == "img":
            assert given.get("alt"), "a picture without words"
        if tag == "video":
            assert given.get("aria-label"), "a video without words"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append(data.strip())
            if self.open[-1] in ("h1", "h2"):
                self.heads.append(data.strip())


def check_page(path: Path) -> Page:
    """Parse a page: well formed, no scripts, and everything that it names is there, on this disk."""
    page = Page(path)
    assert "script" not in page.tags
    assert page.targets
    for target in page.targets:
        assert "//" not in target, f"{target}: from outside"
        assert (path.parent / unquote(target)).exists(), target
    return page
