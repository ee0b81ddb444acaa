"""The command line; ``mvguide --help`` lists its commands."""

import argparse
import errno
import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mvguide.errors import MvguideError


@dataclass(frozen=True)
class Command:
    """A command: where its settings and its function are, so that nothing is loaded before it is needed.

    Args:
        settings: ``module:class`` of the settings, in ``mvguide.config``.
        function: ``module:function`` that takes them, in ``mvguide.commands``, or in another room where the module says
            so: ``studio.serving:studio``.
        help: what it does, for the list of commands.
        positional: the setting that is given without an option name, and how often.
    """

    settings: str
    function: str
    help: str
    positional: tuple[str, str] | None = None


COMMANDS = {
    "render": Command(
        "render_options:RenderConfig", "rendering:render", "Render a camera move through an image, as a video."
    ),
    "batch": Command(
        "batch_options:BatchConfig", "batch:batch", "Run many renders, on one device or several.", ("manifest", "?")
    ),
    "decode": Command(
        "render_options:DecodeConfig", "rendering:decode", "Decode the latents that a render kept.", ("latents", "?")
    ),
    "preview": Command(
        "input_options:PreviewConfig", "previewing:preview", "Show what a camera move will see, without a model."
    ),
    "view": Command(
        "view_options:ViewConfig",
        "viewing:view",
        "Look at a scene or a result in the browser, and place cameras.",
        ("scene", "?"),
    ),
    "demo": Command("render_options:DemoConfig", "rendering:demo", "Render a scene that comes with mvguide."),
    "evaluate": Command(
        "score_options:EvaluateResultConfig",
        "scoring:evaluate_result",
        "Score a result folder, or a scene with held-out images (--scene), against true frames.",
        ("result", "?"),
    ),
    "evaluate --scene": Command(
        "score_options:EvaluateSceneConfig", "scoring:evaluate_scene", "Render a scene and score it."
    ),
    "compare": Command(
        "score_options:CompareConfig", "scoring:compare", "Put several results side by side.", ("results", "+")
    ),
    "plan": Command(
        "plan_options:PlanConfig", "planning:plan", "Predict the memory of a render on a GPU, without the weights."
    ),
    "studio": Command(
        "studio_options:StudioConfig", "studio.serving:studio", "Serve mvguide to the browser of this machine."
    ),
    "search-hypers": Command(
        "table_options:SearchConfig", "searching:search_hypers", "Search the parameters of a lambda table."
    ),
    "sigmas make": Command("table_options:SigmasMakeConfig", "searching:sigmas_make", "Make a sigma schedule."),
    "sigmas show": Command(
        "table_options:SigmasShowConfig", "searching:sigmas_show", "Check and print a sigma schedule.", ("sigmas", "?")
    ),
}
_EPILOG = """\
mvguide COMMAND --help describes a command's options, with examples.

examples:
  mvguide demo
  mvguide preview --image photo.jpg --depth depth.npy --trajectory orbit --trajectory.degrees 10
  mvguide render --image photo.jpg --depth depth.npy --trajectory orbit --trajectory.degrees 10"""
_SCENE_OPTIONS = ("--scene", "--image", "--views", "--cameras", "--video", "--config")


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command's name alone; building it loads nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mvguide",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=sys.modules["mvguide"].__doc__.splitlines()[0],  # type: ignore[union-attr]
    )
    parser.add_argument("--version", action="version", version=f"mvguide {version('mvguide')}")
    listed = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        if "--" not in name:
            listed.add_parser(name, help=command.help)
    completion = listed.add_parser(
        "completion",
        help="Print a script that completes commands and options in a shell.",
        description="Print a script for a shell. In bash, this line in ~/.bashrc loads it: "
        'eval "$(mvguide completion bash)"',
    )
    completion.add_argument("shell", choices=["bash"], help="shell that the script is for")
    parser.epilog = _EPILOG
    return parser


def completion_script() -> str:
    """A script that completes the commands, their options and values in bash."""
    from mvguide.config.completion import bash_script
    from mvguide.config.manual import options_of_parser
    from mvguide.config.parsing import make_parser

    options = {}
    for name, command in COMMANDS.items():
        settings = _load("config", command.settings)
        options[name] = options_of_parser(make_parser(settings, name, command.positional), settings)
    return bash_script(options)


def find_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """Name of the command that the words start with, and the rest. Exits with code 2 for a name that is not known."""
    if words[:1] == ["--quiet"]:
        words = [*words[1:], "--quiet"]
    if words[:1] == ["evaluate"] and any(word.split("=")[0] in _SCENE_OPTIONS for word in words):
        return "evaluate --scene", list(words[1:])
    for count in (2, 1):
        name = " ".join(words[:count])
        if len(words) >= count and name in COMMANDS:
            return name, list(words[count:])
    build_parser().parse_args(words[:1])  # --help, --version, or a name that is not known
    raise AssertionError("argparse exits")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 if jobs of a batch failed; 2 for input that cannot be used (one sentence says why); 130 when interrupted,
        143 when terminated.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words:
        build_parser().print_help()
        return 0
    if words[0] == "completion":
        build_parser().parse_args(words)
        print(completion_script(), end="")
        return 0
    name, words = find_command(words)
    command = COMMANDS[name]
    from mvguide.files.stopping import raise_stop, stop_sentence, stoppable

    with stoppable() as notes:  # from here on: most of a short command is importing
        try:
            from mvguide.config.parsing import make_parser, parse

            settings = _load("config", command.settings)
            shown = f"mvguide {name}".replace("--scene", "--scene SCENE")
            parser = make_parser(settings, shown, command.positional)
            try:
                _load("commands", command.function)(parse(parser, settings, words))
            except Exception:
                raise_stop()
                raise
            sys.stdout.flush()
        except MvguideError as error:
            print(f"mvguide: {error}", file=sys.stderr)
            return error.exit_code
        except ArgumentError as error:
            parser.error(str(error))
        except BrokenPipeError:  # the reader of our output, such as head, has seen enough
            _drop_output()
            return 141
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _drop_output()
            print(f"mvguide: standard output cannot be written ({error.strerror}); send it elsewhere", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            sentence, code = stop_sentence(stop, notes)
            print(f"mvguide: {sentence}", file=sys.stderr)
            return code
    return 0


def _drop_output() -> None:
    """Send what is still to be printed nowhere, so that the interpreter does not fail over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _load(room: str, place: str) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"mvguide.{module if '.' in module else f'{room}.{module}'}"), name)


if __name__ == "__main__":
    sys.exit(main())
