"""From words or YAML to settings: one parser for each settings class, and the layers that fill it.

A setting has the value of the highest layer that gives it: the command line and ``--config`` files in their order, then
the scene file, then the preset, then the default of the class.
"""

import re
import sys
from argparse import SUPPRESS, Action, HelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

from mvguide.config.input_options import InputConfig, SourceOptions
from mvguide.config.manual import help_text
from mvguide.config.presets import preset_settings
from mvguide.decoding import check_readable, check_yaml, decoding, is_file, is_folder, packaged_folder
from mvguide.errors import FileError, InputError

T = TypeVar("T")
SOURCES = ("image", "views", "cameras", "video")
ALONE = {"--offload": "model"}
"""What options mean that are given without a value."""
_PATHS = (
    "image",
    "cameras",
    "images",
    "video",
    "depth",
    "trajectory.file",
    "truth",
    "perceptual_weights",
    "cache_file",
)
_NAMES = ("scene", "model", "sigmas", "depth_model", "guidance.table", "guidance.hole_weight")
"""Settings that are a path, or else the name of something that comes with mvguide or from elsewhere."""


class Parser(ArgumentParser):
    """A parser whose every complaint is one line and exit code 2, and whose help is that of :func:`help_text`."""

    settings: type

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The options that matter most, the names of the others, and examples."""
        return help_text(self, self.settings, everything=False)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the complaint in one sentence, with the way to the manual; or raise it as InputError."""
        text = self._one_sentence(message)
        if not self.exit_on_error:
            raise InputError(text) from ex
        print(f"mvguide: {text}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def _one_sentence(self, message: str) -> str:
        """A complaint of jsonargparse in one line, in the words of the command line."""
        unknown = re.match(r"unrecognized arguments: (--[\w.]+)", message)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            near = get_close_matches(unknown[1], known, n=1, cutoff=0.75)
            return f"there is no option {unknown[1]}" + (f"; did you mean {near[0]}?" if near else "")
        return one_line(message)


class _HelpAll(Action):
    """``--help-all``: describe every option."""

    def __call__(self, parser: Any, *_: Any) -> NoReturn:
        print(help_text(parser, parser.settings, everything=True), end="")
        raise SystemExit(0)


def one_line(message: str) -> str:
    """A complaint of jsonargparse on one line, types in plain words."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip()).rstrip(".")
    text = re.sub(r"Parser key \"([\w.]+)\":", r"--\1:", text)
    text = re.sub(r"Does not validate against any of the Union subtypes.*Given value: ", _wanted, text)
    return re.sub(r"(a )?(typing\.)?Literal\[(.*?)\]", r"one of \3", text)


def make_parser(settings: type, prog: str = "mvguide", positional: tuple[str, str] | None = None) -> Parser:
    """Parser of a settings class.

    Args:
        settings: a dataclass; switches (bool, False by default) are set by their name alone.
        prog: name of the command.
        positional: the setting that is given without an option name, and how often (``nargs``).
    """
    # Options are not completed from their beginnings: a misspelt one is refused, with the one that was meant.
    parser = Parser(prog=prog, description=(settings.__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.settings = settings
    parser.add_argument("--help-all", action=_HelpAll, nargs=0, default=SUPPRESS, help="describe every option and exit")
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with settings, or name of a packaged one; later options override it",
    )
    for action in parser._actions:
        if action.dest == "print_config":
            action.help = "print the settings that the options make, as YAML, and exit"
    switches = [field.name for field in fields(settings) if field.type is bool and field.default is False]
    parser.add_class_arguments(settings, skip={*switches, *(positional or ())[:1]})
    if positional is not None:
        # Without a default of its own: that would take the place of what a config file says.
        optional: dict[str, Any] = {"default": SUPPRESS} if positional[1] in "?*" else {}
        parser.add_argument(positional[0], nargs=positional[1], help=_help(settings, positional[0]), **optional)
    for name in switches:
        parser.add_argument(f"--{name}", action="store_true", help=_help(settings, name))
    return parser


def parse(parser: Parser, settings: type[T], words: Sequence[str]) -> T:
    """Settings from the words of a command line. Exits with a sentence and code 2 for words that cannot be used."""
    return _fill(parser, settings, parser.parse_args(_expanded(parser, settings, words), defaults=False))


def _expanded(parser: Parser, settings: type, words: Sequence[str]) -> list[str]:
    """Short forms written out: ``--trajectory orbit``, ``--offload``, lists without brackets, packaged configs.

    Args:
        parser: of the settings.
        settings: a dataclass.
        words: of the command line.
    """
    known = {option for action in parser._actions for option in action.option_strings}
    # Lists, and whether they hold numbers alone: then a word that is none belongs to what follows.
    lists = {
        f"--{field.name}": "str" not in str(field.type) for field in fields(settings) if "list[" in str(field.type)
    }
    scene_alone = "--scene" not in known and any(action.dest == "scene" for action in parser._actions)
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if scene_alone and word.partition("=")[0] == "--scene":  # as other commands take it
            rest[:0] = [word.partition("=")[2]] if "=" in word else []
            continue
        follows = list(takewhile(lambda text: not text.startswith("--"), rest))
        if word in lists and follows and not follows[0].startswith(("[", "null")):
            items = list(takewhile(_is_number, follows)) if lists[word] else follows
            found += [word, f"[{','.join(items)}]"] if items else [word]
            del rest[: len(items)]
        elif word in ALONE and not follows:
            found += [word, ALONE[word]]
        elif f"{word}.kind" in known and follows and not follows[0].startswith("{"):
            found.append(f"{word}.kind")
        elif word == "--config" and follows:
            path = Path(rest.pop(0))
            path = path if is_file(path) else packaged_configs().get(str(path), path)
            _check_config(path)
            found += [word, str(path)]
        else:
            check_yaml(word.partition("=")[2] if word.startswith("--") else word, f"value {word[:40]!r}")
            found.append(word)
    return found


def _check_config(path: Path) -> None:
    """Refuse a config file that is none, or would take for ever to read."""
    file = check_readable(path, "config file")
    with decoding(file, "config file", "save it as text in UTF-8"):
        check_yaml(file.read_text(encoding="utf-8"), f"config file {path}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def packaged_configs() -> dict[str, Path]:
    """Config files that come with mvguide, by name."""
    return {path.stem: path for path in sorted(packaged_folder("configs").glob("*.yaml"))}


def load_settings(settings: type[T], **given: Any) -> T:
    """Settings from values, as a command line or a YAML file gives them; a scene and a preset among them are read.

    Raises:
        InputError: values that do not fit.
        FileError: a scene file that cannot be read.
    """
    return settings_of(value_parser(settings), settings, given)


def value_parser(settings: type) -> Parser:
    """Parser of a settings class for values instead of words: it raises its complaints."""
    parser = make_parser(settings)
    parser.exit_on_error = False
    return parser


def settings_of(parser: Parser, settings: type[T], given: Mapping[str, Any], folder: Path | None = None) -> T:
    """Settings from values, with a parser that many of them share.

    Args:
        parser: from :func:`value_parser`.
        settings: a dataclass.
        given: values by name, those of a group as a mapping.
        folder: where relative paths start; the working folder by default.

    Raises:
        InputError: values that do not fit.
        FileError: a scene file that cannot be read.
    """
    found = parser.parse_object(dict(given), defaults=False)
    if folder is not None:
        _place(found, folder)
        for name in _NAMES:
            value = found.get(name)
            if isinstance(value, str) and _is_there(folder / value):
                found[name] = str(folder / value)
    return _fill(parser, settings, found)


def _fill(parser: Parser, settings: type[T], given: Namespace) -> T:
    """Settings of all layers."""
    layers = [given]
    if issubclass(settings, SourceOptions) and given.get("scene") is not None:
        layers.append(_scene(given))
    preset = next((layer["guidance.preset"] for layer in layers if layer.get("guidance.preset")), None)
    if preset is not None:
        values = preset_settings(preset, steps_given=any(layer.get("steps") is not None for layer in layers))
        layers.append(parser.parse_object(values, defaults=False))
    filled = parser.get_defaults()
    for layer in reversed(layers):
        for name, value in layer.items():
            filled[name] = value
    values = vars(parser.instantiate(filled))
    return settings(**{name: value for name, value in values.items() if name != "config"})


def _scene(given: Namespace) -> Namespace:
    """Settings of the scene; a folder, or a file that is no YAML, is a camera file that names its images."""
    scene = str(given["scene"])
    for name in SOURCES:
        if given.get(name) is not None:
            raise InputError(f"--scene and --{name} were given; the scene names the images, so drop one")
    path = Path(scene)
    if not is_file(path) and not is_folder(path):
        path = packaged_scene_files().get(scene, path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return Namespace(cameras=scene)
    return read_scene_file(path)


def packaged_scene_files() -> dict[str, Path]:
    """Scene files that come with mvguide, by name."""
    return {path.stem: path for path in sorted(packaged_folder("scenes").glob("*.yaml"))}


def read_scene_file(path: Path) -> Namespace:
    """Input settings of a YAML file; its paths start at its own folder.

    Raises:
        FileError: a file that cannot be read, or with settings that are not those of the inputs.
    """
    file = check_readable(path, "scene file")
    with decoding(file, "scene file", "save it as text in UTF-8"):
        text = file.read_text(encoding="utf-8")
        check_yaml(text, f"scene file {path}")
    try:
        found = _scene_parser().parse_string(text, defaults=False)  # parse_path would change the working folder
    except Exception as error:  # whatever a YAML reader and its checks raise
        reason = " ".join(str(error).split())[:200]
        raise FileError(
            f"scene file {path} cannot be read ({reason}); see mvguide preview --help for settings"
        ) from error
    if found.get("scene") is not None:
        raise FileError(f"scene file {path} names another scene; put its settings here")
    _place(found, path.parent)
    return found


@cache
def _scene_parser() -> Parser:
    """Parser of scene files."""
    return value_parser(InputConfig)


def _place(found: Namespace, folder: Path) -> None:
    """Let the paths among settings start at a folder."""
    for name in _PATHS:
        if found.get(name) is not None:
            found[name] = str(folder / found[name])
    for view in found.get("views") or []:
        for name in ("image", "depth"):
            if view.get(name) is not None:
                view[name] = str(folder / view[name])


def _is_there(path: Path) -> bool:
    return is_file(path) or is_folder(path)


def _help(settings: type, name: str) -> str:
    """What the docstrings of the settings and its bases say about one of them."""
    for base in settings.__mro__:
        _, found, after = (base.__doc__ or "").partition(f"\n        {name}: ")
        if found and is_dataclass(base):
            return " ".join(re.split(r"\n {8}\w+: |\n\n|\n    $", after)[0].split())
    return ""


def _wanted(complaint: re.Match[str]) -> str:
    """Turn jsonargparse's list of the types that a value is not into a phrase."""
    names = re.search(r"Literal\[(.*?)\]", complaint[0])
    if names:
        return f"Expected one of {names[1]}. Got value: "
    wanted = [name for name in re.findall(r"<class '(\w+)'>", complaint[0]) if name not in ("NoneType", "str")]
    return f"Expected {' or '.join(dict.fromkeys(wanted)) or 'another value'}. Got value: "
