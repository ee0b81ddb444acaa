"""Settings that are generated from the classes and functions they are for, so that no option is declared twice."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, make_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_type_hints

from docstring_parser import parse

T = TypeVar("T")
_PLAIN = (bool, int, float, str)


def options_of(
    table: Mapping[str, Callable[..., Any]], *, kinds: Collection[str] = (), skip: Collection[str] = ()
) -> Callable[[type[T]], type[T]]:
    """Class decorator: adds a field for every option of a table's entries, and their names as choices of ``kind``.

    An option is a parameter of an entry that can be written on a command line. It is None until it is set; the entry
    then has its own default. Its help names the entries that take it, and comes from their docstrings.

    Args:
        table: entries by name: functions, or dataclasses whose fields are their options.
        kinds: further choices of ``kind``.
        skip: parameters that are no options.
    """
    hints: dict[str, Any] = {}
    helps: dict[str, dict[str, list[str]]] = {}
    for name, entry in table.items():
        documented = {param.arg_name: param.description or "" for param in parse(entry.__doc__ or "").params}
        types = get_type_hints(entry.__init__ if inspect.isclass(entry) else entry)
        for option, parameter in inspect.signature(entry).parameters.items():
            if option not in skip:
                hints.setdefault(option, _written(types[option]))
                text = _plain(documented.get(option, "")) + _default(parameter.default)
                helps.setdefault(option, {}).setdefault(text, []).append(name)

    def decorate(settings: type[T]) -> type[T]:
        choices = Literal[(*table, *kinds)]  # type: ignore[valid-type]
        fields: list[Any] = [("kind", Union[choices, None], field(default=settings.kind))]  # type: ignore[attr-defined]  # noqa: UP007
        fields += [(name, Union[hint, None], field(default=None)) for name, hint in hints.items()]  # noqa: UP007
        made = make_dataclass(settings.__name__, fields, bases=(settings,), frozen=settings.__dataclass_params__.frozen)  # type: ignore[attr-defined]
        lines = [
            f"        {option}: "
            + "; ".join(
                text if set(names) == set(table) else f"{', '.join(names)}: {text}" for text, names in texts.items()
            )
            for option, texts in helps.items()
        ]
        made.__doc__ = (settings.__doc__ or "").rstrip() + "\n" + "\n".join(lines) + "\n    "
        made.__module__ = settings.__module__
        return made

    return decorate


def _written(hint: Any) -> Any:
    """The part of a type that a command line can write: of a union, its plain members."""
    members = [member for member in get_args(hint) if member in _PLAIN]
    if hint in _PLAIN or not members:
        return hint
    return Union[tuple(members)]  # noqa: UP007


def written_value(value: Any) -> str:
    """A default as a command line gives it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _default(value: Any) -> str:
    """The default of an entry's option, for its help."""
    return "" if value in (inspect.Parameter.empty, None) else f" (default: {written_value(value)})"


def _plain(text: str) -> str:
    """A docstring's words on one line, without its markup."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", " ".join(text.split()))
    return text.replace("``", "").replace("`", "").rstrip(".")
