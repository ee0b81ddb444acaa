"""From settings back to words: the command line that gives them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def command_line(command: str, settings: Any) -> str:
    """The shortest command line with these settings.

    Args:
        command: such as ``render``.
        settings: of the command, a dataclass of ``mvguide.config``.

    Returns:
        ``mvguide render --image photo.jpg ...``, quoted for a shell; what equals its default is left out.
    """
    return shlex.join(["mvguide", *command.split(), *_words(settings, "")])


def _words(settings: Any, prefix: str) -> Iterator[str]:
    for field in fields(settings):
        value, default = getattr(settings, field.name), _default(field)
        option = f"--{prefix}{field.name}"
        if is_dataclass(value) and not isinstance(value, type):
            yield from _words(value, f"{prefix}{field.name}.")
        elif value == default:
            continue
        elif value is True and default is False and not prefix:
            yield option  # a switch
        else:
            yield from (option, _written(value))


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


def _written(value: Any) -> str:
    """A value in the words of a command line, YAML where it is not plain."""
    if value is None:
        return "null"
    if isinstance(value, bool | list | tuple | Mapping):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
