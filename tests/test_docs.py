"""Every command and example of README.md and docs/ runs as written, or is marked with what it needs.

A mark is a comment on the line before the block: ``<!-- example: needs a GPU -->``.
"""

import re
import shlex
import shutil
import subprocess
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import mvguide
from mvguide import cli
from mvguide.backbones.native_size import NativeSize
from mvguide.config.input_options import InputConfig
from mvguide.config.parsing import make_parser
from tools.site.examples import Block, blocks, fill_folder, lines_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KOREAN = ROOT / "README.ko.md"
"""Its commands are those of README.md, and those of docs/ko are those of the English pages: tests/test_site.py."""
GENERATED = ("reference/options.md", "reference/python.md")  # when the site is built: tools/site/reference.py
RUN_ELSEWHERE = "extending.md"  # its Python examples: tests/test_extending.py
# Symbols of the maths, names of other programs, what a reader adds; any other name on a page is one of the code.
NOT_OF_THE_CODE = {
    *("eps_theta", "c_view", "MALLOC_MMAP_THRESHOLD", "MALLOC_TRIM_THRESHOLD", "test_docs"),
    *("OMP_WAIT_POLICY", "KMP_BLOCKTIME"),
    *("FILE_OR_FOLDER", "ItsPipelineClass", "ItsBackbone", "get_dummy_components"),
}
_COMMAND = re.compile(r"^\s*(mvguide|make|pip|python\S*|torchrun|git)\s", re.MULTILINE)


def check_kind(block: Block) -> None:
    """Raise AssertionError for a block that could hide a command from the tests below."""
    assert block.kind in ("sh", "python", "yaml", "text"), f"{block.place}: start the block with ```sh or ```text"
    if block.kind in ("yaml", "text"):
        assert not _COMMAND.search(block.text), f"{block.place}: a command; start the block with ```sh"


def commands(block: Block) -> list[list[str]]:
    """Words of each line of a sh block. Raises AssertionError for what cannot run here."""
    lines = lines_of(block)
    for words in lines:
        runs = words[0] == "mvguide" and not {"&&", "|", ";"} & set(words)
        assert runs, (
            f"{block.place}: {shlex.join(words)} does not run in the tests; "
            "write one mvguide command a line, or put <!-- example: needs WHAT --> before the block"
        )
    return lines


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages say that a user has."""
    fill_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    # The pages render at the model's own size with the default of 25 steps, seconds each: a quarter of the pixels and
    # two steps take the same way.
    full = NativeSize.default_size
    monkeypatch.setattr(
        NativeSize, "default_size", lambda self, *size: full(replace(self, side=max(1, self.side // 2)), *size)
    )
    monkeypatch.setattr("mvguide.commands.job.DEFAULT_STEPS", 2)
    monkeypatch.setattr("mvguide.pipeline.pipeline.DEFAULT_STEPS", 2)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "ko"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_command_runs_as_written(page: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page.read_text(), page.name):
        check_kind(block)
        if block.needs:
            continue
        if block.kind == "sh":
            for words in commands(block):
                code = cli.main(words[1:])
                assert code == 0, f"{block.place}: {shlex.join(words)}\n{capsys.readouterr().err[-2000:]}"
        elif block.kind == "python" and page.name != RUN_ELSEWHERE:
            exec(compile(block.text, block.place, "exec"), names)
        elif block.kind == "yaml":
            assert set(yaml.safe_load(block.text)) <= {field.name for field in fields(InputConfig)}, block.place


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```sh\nmake everything\n```", "does not run in the tests"),
        ("```sh\nmvguide demo && make\n```", "does not run in the tests"),
        ("```\nmvguide demo\n```", "```sh or ```text"),
        ("```text\nmvguide demo\n```", "a command"),
        ("<!-- example: needs a GPU -->\n\n```sh\npip install mvguide\n```", "does not run in the tests"),
    ],
)
def test_a_command_that_is_neither_run_nor_marked_is_found(text: str, complaint: str) -> None:
    (block,) = blocks(text + "\n")
    assert not block.needs
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        _check(block)


def _check(block: Block) -> None:
    check_kind(block)
    commands(block)


def test_a_mark_belongs_to_the_block_after_it() -> None:
    text = "```sh\nmvguide demo\n```\n<!-- example: needs a GPU -->\n```sh\nmake all\n```\n"
    assert [(block.needs, block.place) for block in blocks(text)] == [
        ("", "page.md, line 2"),
        ("a GPU", "page.md, line 6"),
    ]


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """Options of all commands, and what the programs in tools/ name."""
    known = {"--help", "--version", "--nproc-per-node"}
    for name, command in cli.COMMANDS.items():
        parser = make_parser(cli._load("config", command.settings), name, command.positional)
        known |= {option for action in parser._actions for option in action.option_strings}
    for path in (ROOT / "tools").rglob("*.py"):
        known |= set(re.findall(r'"(--[a-z][\w-]*)"', path.read_text()))
    return known


@pytest.fixture(scope="module")
def known_names() -> set[str]:
    """Words of the sources, and names of their files."""
    files = [path for folder in ("mvguide", "tools", "tests") for path in (ROOT / folder).rglob("*.py")]
    files.remove(Path(__file__).resolve())
    files += [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "mvguide" / "scenes").rglob("*.json"), ROOT / "Makefile"]
    return {word for path in files for word in re.findall(r"[A-Za-z]\w*[A-Za-z]", path.read_text())} | {
        path.stem for path in [*files, *(ROOT / "mvguide" / "scenes").glob("*.yaml")]
    }


@pytest.mark.parametrize("page", [*PAGES, KOREAN], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_on_a_page_is_one_of_the_code(page: Path, known_options: set[str], known_names: set[str]) -> None:
    text = page.read_text()
    if page.name == RUN_ELSEWHERE:  # OPTION, PARAMETER: what a reader adds
        text = re.sub(r"`--\w+\.[A-Z]+`", "", text)
    if page.parent.name == "coming_from":  # the first column of its tables has the names of the other program
        text = re.sub(r"^\| .*? \|", "|", text, flags=re.MULTILINE)
    text = re.sub(r"\b(ns-train|hf) [^`\n|]*", "", text)  # commands of other programs
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(pictures?|films?)\b", prose), f"{page.name}: say image, video"
    options = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text))
    unknown = options - known_options
    assert not unknown
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists() or target.endswith(GENERATED), target
    for path in re.findall(
        r"\b(?:mvguide|tests|tools|configs|docs|sigmas)/[\w/.]+\.(?:py|yaml|npz|json|png|md)\b", text
    ):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"-m (tools[\w.]+)", text):
        assert find_spec(module) is not None, module
    for name in re.findall(r"`[^`\n]*?\bmvguide\.([A-Za-z]\w*)", text):
        public = name in mvguide.__all__ or name == "json" or (ROOT / "mvguide" / name).is_dir()
        assert public, f"mvguide.{name}"
    words = set(re.findall(r"[A-Za-z]\w*[A-Za-z]", " ".join(re.findall(r"`([^`\n]+)`", text))))
    names = {word for word in words if "_" in word or re.search("[a-z][A-Z]", word)}
    unknown = names - known_names - NOT_OF_THE_CODE
    assert not unknown


def test_the_demo_needs_no_development_tools() -> None:
    def dry(target: str) -> str:
        command = ["make", "--dry-run", "--always-make", target]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert ".[dev]" not in dry("demo")
    assert "mvguide demo --out out/demo" in dry("demo")
    assert ".[dev]" in dry("test")


def test_the_development_install_is_enough_for_the_demo(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "fake").write_text("#!/bin/sh\nmkdir -p .venv/bin\ncp fake_pip .venv/bin/pip\n")
    (tmp_path / "fake_pip").write_text('#!/bin/sh\necho "$@" >> installed.txt\n')
    for name in ("fake", "fake_pip"):
        (tmp_path / name).chmod(0o755)
    for target in ("install", ".venv/demo"):
        subprocess.run(["make", "PYTHON=./fake", target], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "installed.txt").read_text().count("\n") == 1
