"""The documentation site builds without a warning and without a network, and every link in it leads somewhere."""

import ast
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import mvguide
from mvguide import cli
from mvguide.config.manual import options_of_parser
from mvguide.config.parsing import make_parser
from tools.site.examples import blocks
from tools.site.images import MARK

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


class Page(HTMLParser):
    """Links, what is loaded, and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        source = found.get("src") or (found.get("href") if tag == "link" else None)
        if source:
            self.loaded.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, with warnings as errors; connections are refused."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site") / "site"
    offline = (
        "import socket, sys\n"
        "def refuse(*arguments, **options): raise OSError('the site is built without a network')\n"
        "socket.socket.connect = refuse\n"
        "from mkdocs.__main__ import cli\n"
        "cli(sys.argv[1:])\n"
    )
    command = [
        sys.executable,
        "-c",
        offline,
        "build",
        "--strict",
        "-q",
        "-f",
        str(ROOT / "tools" / "site" / "mkdocs.yml"),
    ]
    done = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_built(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()
    assert (site / "search" / "search_index.json").is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for source in page.loaded:
            assert not re.match(r"(https?:)?//", source), f"{path.name}: {source}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\((https?:)?//", style.read_text()), style


def test_links_and_images_lead_to_files_and_anchors(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in {*page.links, *page.loaded}:
            if re.match(r"[a-z]+:", link) or not link:
                continue
            place, anchor = urldefrag(link)
            target = (path.parent / unquote(place)).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if anchor and target in pages:
                assert unquote(anchor) in pages[target].anchors, f"{path.relative_to(site)}: {link}"


def test_the_reference_has_every_option(site: Path) -> None:
    text = (site / "reference" / "options.html").read_text()
    for name, command in cli.COMMANDS.items():
        settings = cli._load("config", command.settings)
        start = text.index(f">mvguide {name}<")
        part = text[start : text.find("<h2", start + 1)]
        for option in options_of_parser(make_parser(settings, name, command.positional), settings):
            for word in option.names:
                assert part.count(f"<code>{word}</code>") >= 1, f"mvguide {name}: {word}"


def test_the_reference_has_every_public_name(pages: dict[Path, Page], site: Path) -> None:
    anchors = pages[site / "reference" / "python.html"].anchors
    for name in mvguide.__all__:
        home = getattr(mvguide, name)
        assert f"{home.__module__}.{home.__qualname__}" in anchors, name


def test_the_readmes_have_the_same_commands() -> None:
    english, korean = (
        [(block.needs, block.kind, block.text) for block in blocks((ROOT / name).read_text())]
        for name in ("README.md", "README.ko.md")
    )
    assert len(english) >= 5
    assert english == korean


@pytest.mark.parametrize("page", ["tutorials/photo.md", "explanation/method.md"])
def test_the_korean_pages_have_the_same_commands_and_formulas(page: str) -> None:
    """Comments beside a formula are translated."""

    def plain(text: str) -> list[str]:
        return [line.partition("#")[0].rstrip() for line in text.splitlines()]

    english, korean = (
        [(block.needs, block.kind, plain(block.text)) for block in blocks(path.read_text())]
        for path in (DOCS / page, DOCS / "ko" / Path(page).name)
    )
    assert english == korean


def test_images_of_tutorials_are_marked_with_the_file_they_come_from() -> None:
    for page in (DOCS / "tutorials").glob("*.md"):
        text = page.read_text()
        images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
        assert [target for _, _, target in MARK.findall(text)] == images, page.name


def test_new_images_are_small() -> None:
    for folder in ("tutorials", "gallery"):
        files = list((DOCS / "images" / folder).iterdir())
        assert files
        assert max(file.stat().st_size for file in files) < 200_000
    assert (
        sum(file.stat().st_size for name in ("tutorials", "gallery") for file in (DOCS / "images" / name).iterdir())
        < 1_500_000
    )


def said_by_the_doctor() -> list[str]:
    """What mvguide/views/diagnosis.py returns, with ... for what is put in."""
    tree = ast.parse((ROOT / "mvguide" / "views" / "diagnosis.py").read_text())
    known = {
        str(node.targets[0].id): str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if (
            isinstance(node, ast.FormattedValue)
            and isinstance(node.value, ast.Name)
            and node.value.id == "_WHOLE_NUMBERS"
        ):
            return known["_WHOLE_NUMBERS"]
        return "..."

    sentences = ["".join(map(text, node.values)) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    sentences += [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inner
    ]
    return [sentence for sentence in sentences if len(sentence.replace("...", "").split()) >= 3]


def parts_of(sentence: str) -> list[str]:
    """Pieces of at least three words between the numbers and names of a sentence."""
    pieces = [piece.strip(" :;,()%") for piece in re.split(r"\.\.\.|40%|about|less than", sentence)]
    return [piece for piece in pieces if len(piece.split()) >= 3]


def test_the_page_of_the_doctor_has_every_sentence_and_no_other() -> None:
    page = (DOCS / "howto" / "doctor.md").read_text()
    said = said_by_the_doctor()
    assert len(said) > 10
    for sentence in said:
        for part in parts_of(sentence):
            assert part in page, sentence
    for heading in re.findall(r"^## (.+)$", page, re.MULTILINE):
        for part in parts_of(heading):
            assert any(part in sentence for sentence in said), part


def test_make_docs_needs_no_network() -> None:
    dry = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "mkdocs build --strict" in dry
    assert shutil.which("make")
