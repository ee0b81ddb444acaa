"""Completion of commands, options and values in bash, generated from the parsers."""

from collections.abc import Iterable, Mapping, Sequence
from shlex import quote

from mvguide.config.manual import Option
from mvguide.config.parsing import packaged_configs, packaged_scene_files

_PACKAGED = {"--config": packaged_configs, "--scene": packaged_scene_files}
_SCRIPT = """\
# Completion of mvguide in bash; made by: mvguide completion bash
_mvguide() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=
    if ((COMP_CWORD == 1)); then
        words=COMMANDS
    elif ((COMP_CWORD == 2)); then
        case $command in
SECOND
        esac
    fi
    if [[ -z $words ]]; then
        case "$command $previous" in
VALUES
        esac
    fi
    if [[ -z $words && $current == -* ]]; then
        case $command in
OPTIONS
        esac
    elif [[ -z $words && -z $current && $previous != -* ]]; then
        case $command in
FREE
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _mvguide mvguide
"""


def bash_script(commands: Mapping[str, Sequence[Option]]) -> str:
    """A script for bash: it completes commands, options and the values that are listed, and files elsewhere.

    Args:
        commands: options of each command by its name. Those of commands with the same first word (``sigmas make``,
            ``evaluate --scene``) are put together.
    """
    second: dict[str, list[str]] = {"completion": ["bash"]}
    options: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    with_positional = set()
    for name, entries in commands.items():
        first, _, rest = name.partition(" ")
        if rest and not rest.startswith("-"):
            second.setdefault(first, []).append(rest)
        for option in entries:
            named = [word for word in option.names if word.startswith("-")]
            options.setdefault(first, []).extend(named)
            if not named:
                with_positional.add(first)
            for word in named:
                values.setdefault(f"{first} {word}", []).extend(option.choices)
                if any("--image" in other.names for other in entries):
                    values[f"{first} {word}"].extend(_PACKAGED[word]() if word in _PACKAGED else ())
    first_words = [*(name.split()[0] for name in commands), "completion", "--help", "--version"]
    parts = {
        "COMMANDS": _quoted(first_words),
        "SECOND": _cases(second),
        "VALUES": _cases({place: found for place, found in values.items() if found}),
        "OPTIONS": _cases(options),
        "FREE": _cases({first: found for first, found in options.items() if first not in with_positional}),
    }
    script = _SCRIPT
    for name, text in parts.items():
        script = script.replace(name, text, 1)
    return script


def _cases(words: Mapping[str, Iterable[str]]) -> str:
    return "\n".join(f"            {quote(place)}) words={_quoted(found)} ;;" for place, found in words.items())


def _quoted(words: Iterable[str]) -> str:
    return quote(" ".join(dict.fromkeys(words)))
