"""Help of every command: each option once, under a heading, in words that stand alone; plain where no terminal is."""

import io
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mvguide import cli
from mvguide.commands.speaking import speaker
from mvguide.config.manual import HEADINGS, OTHER, SETTINGS, Option, help_text, options_of_parser
from mvguide.config.parsing import Parser, make_parser, parse

COMMANDS = sorted(cli.COMMANDS)
TEN = ["--image", "--cameras", "--video", "--depth", "--fov"]
TEN += ["--trajectory", "--num_frames", "--model", "--seed", "--out"]


def parser_of(name: str) -> tuple[Parser, type]:
    command = cli.COMMANDS[name]
    settings = cli._load("config", command.settings)
    return make_parser(settings, f"mvguide {name}", command.positional), settings


def options(name: str) -> list[Option]:
    return options_of_parser(*parser_of(name))


def described(text: str) -> list[str]:
    """Names at the beginnings of lines of a help."""
    lines = re.findall(r"^  (-.*?)(?:  .*)?$", text, re.MULTILINE)
    return [word.rstrip(",") for line in lines for word in line.split() if word.startswith("-")]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_all_describes_every_option_once(name: str) -> None:
    parser, settings = parser_of(name)
    names = described(help_text(parser, settings, everything=True))
    assert len(names) == len(set(names))
    known = {word for action in parser._actions for word in action.option_strings}
    hidden = {word for word in known if word.endswith(("+", ".help")) or word == "--print_shtab"}
    assert set(names) == known - hidden


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_heading_and_a_phrase_that_stands_alone(name: str) -> None:
    for option in options(name):
        assert option.heading != OTHER, f"{option.title}: its record needs a heading"
        assert option.help, option.title
        assert not re.search(r"\b(pictures?|films?)\b", option.help, re.IGNORECASE), option.title
        assert not re.match(r"(of|at|in|by|to|its|what|how|where|which|whether) ", option.help), option.title
        assert "``" not in option.help, option.title


def test_the_headings_of_render() -> None:
    found = list(dict.fromkeys(option.heading for option in options("render")))
    assert found == ["inputs", "depth", "cameras", "path", "model", "sampling", "guidance", "output", SETTINGS]
    assert set(found) <= {*HEADINGS, SETTINGS}


def test_help_describes_the_ten_that_matter_and_names_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["render", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert [word for word in described(text) if word != "--trajectory.kind"] == TEN
    _, _, rest = text.partition("more options")
    rest, _, examples = rest.partition("examples:")
    for option in options("render"):
        if not set(option.names) & set(TEN):
            assert option.names[-1] in rest.split(), option.title
    assert "mvguide render" in examples
    assert len(text.splitlines()) < 90
    with pytest.raises(SystemExit):
        cli.main(["render", "--help-all"])
    assert len(capsys.readouterr().out) > 3 * len(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_ones_that_it_takes(name: str) -> None:
    _, settings = parser_of(name)
    examples = getattr(settings, "examples", ())
    assert examples
    for line in examples:
        words = shlex.split(line)
        assert words[0] == "mvguide"
        found, rest = cli.find_command(words[1:])
        if "--help-all" not in rest:
            parse(*parser_of(found), rest)
    for word in getattr(settings, "first", "").split():
        assert any(f"--{word}" in option.names for option in options(name)), word


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "begins"),
    [({}, "\033[1moutput:\033[0m"), ({"NO_COLOR": "1"}, "output:"), ({"TERM": "dumb"}, "output:")],
)
def test_headings_are_bold_on_a_terminal_unless_plain_text_is_asked_for(
    variables: dict[str, str], begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(SystemExit):
        cli.main(["sigmas", "make", "--help"])
    text = sys.stdout.getvalue()  # type: ignore[union-attr]
    assert begins in text.splitlines()
    assert ("\033" in text) == (not variables)


def test_warnings_are_yellow_on_a_terminal_alone() -> None:
    for stream, wanted in ((Terminal(), "\033[33mwarning:\033[0m deep\n"), (io.StringIO(), "warning: deep\n")):
        speaker(quiet=False, stream=stream)("warning: deep")
        assert stream.getvalue() == wanted


def test_without_a_terminal_stages_are_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--num_frames", "3", "--width", "32", "--height", "24", "--steps", "6", "--device", "cpu"]
    assert cli.main(["render", "--scene", "marbles", *small, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "\r" not in said
    assert "\033" not in said
    lines = said.splitlines()
    stages = ["reading", "loading the model", "warping", "encoding", "denoising", "decoding", "writing"]
    assert [line for line in lines if line in stages] == stages
    steps = [line.partition(", sigma ")[0] for line in lines if line.startswith("denoising: ")]
    assert steps == [f"denoising: step {number} of 6" for number in (2, 3, 5, 6)]


def test_a_long_list_of_choices_is_in_the_help_and_not_in_the_title() -> None:
    (kind,) = [option for option in options("render") if "--trajectory" in option.names]
    assert kind.value == "KIND"
    assert {"orbit", "file"} <= set(kind.choices)
    assert len(replace(kind, names=("--trajectory",)).title) < 30
