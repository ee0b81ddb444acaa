"""The options of a command as its help, the reference and shell completion show them, read off its parser.

An option stands under the ``heading`` of the record that declares it. Nothing is listed a second time here.
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TextIO, get_args, get_origin, get_type_hints

from mvguide.config.generated import written_value

HEADINGS = ("inputs", "depth", "cameras", "path", "model", "sampling", "guidance", "search", "scores", "output")
SETTINGS, OTHER = "settings", "other"
_FEW = 14
"""A command with no more options than this shows all of them in its ``--help``."""
_COLUMN, _WIDEST, _LONGEST_VALUE, _LONGEST_WORD = 26, 100, 45, 9


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Args:
        names: as they are written, with dashes; a setting given without a name has its bare name.
        heading: what it stands under.
        value: what follows its name: choices as ``{a,b}``, ``N`` for a whole number, ``X`` for a number, a word for the
            rest; empty for a switch.
        choices: the values that it takes, where these are listed.
        help: a phrase.
        default: as it would be written; empty for none, and for a switch.
    """

    names: tuple[str, ...]
    heading: str
    value: str
    choices: tuple[str, ...]
    help: str
    default: str

    @property
    def title(self) -> str:
        """Names and value, as a line of the help begins."""
        return f"{', '.join(self.names)} {self.value}".strip()


def options_of_parser(parser: argparse.ArgumentParser, settings: type) -> list[Option]:
    """Every option of a parser of :func:`mvguide.config.parsing.make_parser`, by heading."""
    nested = {f"{field.name}.kind" for field in fields(settings) if is_dataclass(field.type)}
    found = []
    for action in parser._actions:
        names = tuple(name for name in action.option_strings if not name.endswith("+"))
        if action.help == argparse.SUPPRESS or action.dest.endswith(".help") or f"{action.dest}.kind" in nested:
            continue  # help of a list's entries; a group from a file, whose name is the short form of its kind
        if action.dest in nested:
            names = (f"--{action.dest.removesuffix('.kind')}", *names)
        choices = _choices(action)
        found.append(
            Option(
                names or (action.dest.upper(),),
                heading_of(settings, action.dest),
                _value(action, choices) if names else "",
                choices,
                " ".join((action.help or "").split()).rstrip("."),
                _default(action),
            )
        )
    order = [*HEADINGS, OTHER, SETTINGS]
    declared = [field.name for field in fields(settings)]
    at = {f"--{name}": number for number, name in enumerate(declared)}

    def place(option: Option) -> tuple[int, int]:
        return order.index(option.heading), at.get(option.names[-1].partition(".")[0], -1)

    return sorted(found, key=place)


def heading_of(settings: type, name: str) -> str:
    """Heading of the record that declares an option, by its dotted name."""
    top, _, inner = name.partition(".")
    declares = next((base for base in settings.__mro__ if top in vars(base).get("__annotations__", {})), None)
    if declares is None:
        return SETTINGS
    record = get_type_hints(declares)[top] if inner else declares
    heading = str(getattr(record, "heading", OTHER))
    return heading if heading in HEADINGS else OTHER


def by_heading(options: Sequence[Option]) -> Iterator[tuple[str, list[Option]]]:
    """Headings in their order, each with its options."""
    for heading in dict.fromkeys(option.heading for option in options):
        yield heading, [option for option in options if option.heading == heading]


def help_text(parser: argparse.ArgumentParser, settings: type, *, everything: bool) -> str:
    """The help of a command.

    Args:
        parser: of the settings.
        settings: a dataclass; ``first`` names the options that matter most, ``examples`` command lines.
        everything: describe every option, not only those that matter most.
    """
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    options = options_of_parser(parser, settings)
    given = [option for option in options if not option.names[0].startswith("-")]
    words = " ".join(option.names[0] for option in given)
    parts = [f"usage: {parser.prog} {words + ' ' if words else ''}[--OPTION VALUE ...]", parser.description or ""]
    first = getattr(settings, "first", "").split()
    shown = options if everything or len(options) <= _FEW or not first else given + _named(options, first)
    if len(shown) == len(options):
        parts += [_section(heading, entries, width) for heading, entries in by_heading(options)]
    else:
        parts.append(_section("the options that matter most", shown, width))
        parts.append(_rest([option for option in options if option not in shown], parser.prog, width))
    examples = getattr(settings, "examples", ())
    if examples:
        parts.append("\n".join([styled("examples:", "bold"), *(f"  {line}" for line in examples)]))
    return "\n\n".join(part for part in parts if part) + "\n"


def styled(text: str, style: Literal["bold", "yellow"], stream: TextIO | None = None) -> str:
    """Text in a style where the stream (standard output) is a terminal; plain if NO_COLOR or TERM=dumb asks for it."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{1 if style == 'bold' else 33}m{text}\033[0m"


def _named(options: Sequence[Option], names: Sequence[str]) -> list[Option]:
    return [option for name in names for option in options if f"--{name}" in option.names]


def _section(heading: str, options: Sequence[Option], width: int) -> str:
    lines = [styled(f"{heading}:", "bold")]
    for option in options:
        text = option.help + (f" (default: {option.default})" if option.default else "")
        if option.choices and not option.value.startswith("{"):
            text += f"; one of {', '.join(option.choices)}"
        begin = f"  {option.title}"
        if len(begin) >= _COLUMN:
            lines.append(begin)
            begin = ""
        indent = " " * _COLUMN
        lines += textwrap.wrap(
            text, width, initial_indent=begin.ljust(_COLUMN), subsequent_indent=indent, break_on_hyphens=False
        )
    return "\n".join(lines)


def _rest(options: Sequence[Option], prog: str, width: int) -> str:
    """Names of the options that are not described."""
    lines = [styled(f"more options, which {prog} --help-all describes:", "bold")]
    for heading, entries in by_heading(options):
        names = " ".join(option.names[-1] for option in entries)
        begin, indent = f"  {heading}".ljust(_COLUMN // 2), " " * (_COLUMN // 2)
        begin = begin if begin.endswith(" ") else begin + " "
        lines += textwrap.wrap(names, width, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines)


def _members(action: argparse.Action) -> tuple[Any, ...]:
    """The types that an option's value may have, besides None."""
    hint = getattr(action, "_typehint", None)
    if hint is None:
        return ()
    union = get_origin(hint) is not Literal and not isinstance(hint, type) and get_origin(hint) is not list
    members = get_args(hint) if union else (hint,)
    return tuple(member for member in members if member is not type(None))


def _choices(action: argparse.Action) -> tuple[str, ...]:
    if _members(action) == (bool,):
        return ("true", "false")
    return tuple(str(value) for kind in _members(action) if get_origin(kind) is Literal for value in get_args(kind))


def _value(action: argparse.Action, choices: tuple[str, ...]) -> str:
    if action.nargs == 0 or action.dest == "print_config":
        return ""
    listed = "{" + ",".join(choices) + "}"
    if choices and len(listed) <= _LONGEST_VALUE:
        return listed
    word = action.dest.split(".")[-1].upper()
    word = word if len(word) <= _LONGEST_WORD else word.split("_")[-1]
    written = {int: "N", float: "X"}
    words = []
    for kind in _members(action):
        entries = get_args(kind) if get_origin(kind) is list else ()
        words.append(f"{written.get(entries[0], word)} ..." if entries else written.get(kind, word))
    return "|".join(dict.fromkeys(words)) or word


def _default(action: argparse.Action) -> str:
    value = action.default
    if value is None or value is False or value == argparse.SUPPRESS or action.nargs == 0 or value == "":
        return ""
    return written_value(value)
