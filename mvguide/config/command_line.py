"""From settings back to words: the command line that gives them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from mvguide.config.input_options import SourceOptions
from mvguide.config.parsing import SOURCES, load_settings, packaged_scene_files
from mvguide.errors import MvguideError


def command_line(command: str, settings: Any, positional: str = "") -> str:
    """The shortest command line with these settings.

    Args:
        command: such as ``render``.
        settings: of the command, a dataclass of ``mvguide.config``.
        positional: the setting that is given without an option name; one word, or a list of them.

    Returns:
        ``mvguide render --image photo.jpg ...``, quoted for a shell; what equals its default, or is as the scene has
        it, is left out.
    """
    words = ["mvguide", *command.split()]
    if positional:
        given = getattr(settings, positional)
        words += map(str, given if isinstance(given, list) else [given])
    base = None
    if isinstance(settings, SourceOptions) and settings.scene is not None:
        base = _of_scene(settings)
        if base is None:
            settings = replace(settings, scene=None)
    return shlex.join([*words, *_words(settings, base, "", positional)])


def _of_scene(settings: Any) -> Any:
    """Settings with those of the scene alone; None where it has other inputs by now, for which all must be given."""
    try:
        found = load_settings(type(settings), scene=settings.scene)
    except MvguideError:
        return None
    if any(getattr(found, name) != getattr(settings, name) for name in SOURCES):
        return None
    return replace(found, scene=None)


def _words(settings: Any, base: Any, prefix: str, skip: str = "") -> Iterator[str]:
    for field in fields(settings):
        if field.name == skip:
            continue
        value = getattr(settings, field.name)
        default = _default(field) if base is None else getattr(base, field.name)
        option = f"--{prefix}{field.name}"
        if is_dataclass(value) and not isinstance(value, type):
            yield from _words(value, None if base is None else default, f"{prefix}{field.name}.")
        elif value == default:
            continue
        elif field.name == "scene" and not prefix:
            yield from (option, _scene_name(value))
        elif value is True and default is False and not prefix:
            yield option  # a switch
        else:
            yield from (option, _written(value))


def _scene_name(scene: str) -> str:
    """The short name of a scene that comes with mvguide."""
    short = Path(scene).stem
    return short if packaged_scene_files().get(short) == Path(scene) else scene


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
