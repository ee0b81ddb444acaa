"""The command line: ``mvguide render | preview | demo | evaluate | compare | search-hypers | sigmas``."""

import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from mvguide import config
from mvguide.errors import MvguideError

COMMANDS = {
    "render": (config.RenderConfig, "render"),
    "preview": (config.PreviewConfig, "preview"),
    "demo": (config.DemoConfig, "demo"),
    "evaluate": (config.EvaluateConfig, "evaluate"),
    "compare": (config.CompareConfig, "compare"),
    "search-hypers": (config.SearchConfig, "search_hypers"),
}
SIGMAS_COMMANDS = {
    "make": (config.SigmasMakeConfig, "sigmas_make"),
    "show": (config.SigmasShowConfig, "sigmas_show"),
}
POSITIONAL = {
    config.SigmasShowConfig: ("sigmas", None),
    config.EvaluateConfig: ("result", "?"),
    config.CompareConfig: ("results", "+"),
}
"""The setting of a command that is given without an option name, and how often."""

FLAGS = {
    "quiet": "print nothing but errors",
    "offload": "keep only the module at work on the GPU",
    "recover_cameras": "find the cameras again from the frames, and compare (needs pycolmap)",
    "already_cropped": "cameras and depths are of the resized and cropped picture already: resize and crop it alone",
    "cfg_chunked": "the two halves of classifier-free guidance one after the other",
}
"""Settings that are switched on by their name alone, and their help."""


class Parser(ArgumentParser):
    """A parser whose every complaint is one line and exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the complaint in one sentence, with the way to the manual."""
        text = " ".join(line.strip() for line in message.splitlines() if line.strip()).rstrip(".")
        text = re.sub(r"Parser key \"([\w.]+)\":", r"--\1:", text)
        text = re.sub(r"Does not validate against any of the Union subtypes.*Given value: ", _wanted, text)
        text = re.sub(r"(a )?(typing\.)?Literal\[(.*?)\]", r"one of \3", text)
        print(f"mvguide: {text}; see {self.prog.replace(' [options]', '')} --help", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> ArgumentParser:
    """Parser of all commands; building it loads nothing heavy."""
    parser = Parser(prog="mvguide", description=sys.modules["mvguide"].__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--version", action="version", version=f"mvguide {version('mvguide')}")
    commands = parser.add_subcommands(dest="command")
    for name, (settings, _) in COMMANDS.items():
        commands.add_subcommand(name, _command_parser(settings), help=_first_line(settings))
    sigmas = Parser(description="Make or show sigma schedules.")
    commands.add_subcommand("sigmas", sigmas, help="Make or show sigma schedules.")
    kinds = sigmas.add_subcommands(dest="kind")
    for name, (settings, _) in SIGMAS_COMMANDS.items():
        kinds.add_subcommand(name, _command_parser(settings), help=_first_line(settings))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 2 for input that cannot be used (one sentence says why), 130 when interrupted."""
    parser = build_parser()
    try:
        parsed = parser.parse_args(arguments)
        settings, function = COMMANDS.get(parsed.command, (None, ""))
        chosen = parsed[parsed.command]
        if settings is None:
            settings, function = SIGMAS_COMMANDS[chosen.kind]
            chosen = chosen[chosen.kind]
        run(settings, function, chosen)
    except MvguideError as error:
        print(f"mvguide: {error}", file=sys.stderr)
        return 2
    except ArgumentError as error:
        parser.error(str(error))
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("mvguide: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def run(settings: type, function: str, parsed: Namespace) -> None:
    """Call a command with its settings object."""
    from mvguide import commands

    filled = _command_parser(settings).instantiate(parsed)
    values: dict[str, Any] = {name: value for name, value in vars(filled).items() if name != "config"}
    getattr(commands, function)(settings(**values))


def _wanted(complaint: re.Match[str]) -> str:
    """Turn jsonargparse's list of the types that a value is not into a phrase."""
    names = re.search(r"Literal\[(.*?)\]", complaint[0])
    if names:
        return f"Expected one of {names[1]}. Got value: "
    wanted = [name for name in re.findall(r"<class '(\w+)'>", complaint[0]) if name not in ("NoneType", "str")]
    return f"Expected {' or '.join(dict.fromkeys(wanted)) or 'another value'}. Got value: "


def _command_parser(settings: type) -> ArgumentParser:
    parser = Parser(description=_first_line(settings))
    parser.add_argument("--config", action="config", help="YAML file with settings; later options override it")
    flags = {field.name: field for field in fields(settings) if field.type is bool and field.default is False}
    name, count = POSITIONAL.get(settings, ("", None))
    parser.add_class_arguments(settings, skip={*flags, *filter(None, [name])})
    if name:
        parser.add_argument(name, nargs=count, help=_setting_help(settings, name))
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true", help=FLAGS[name])
    return parser


def _setting_help(settings: type, name: str) -> str:
    """What the docstring of the settings says of one of them."""
    _, _, after = (settings.__doc__ or "").partition(f"\n        {name}: ")
    return " ".join(re.split(r"\n {8}\w+: |\n\n|\n    $", after)[0].split())


def _first_line(settings: type) -> str:
    return (settings.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
