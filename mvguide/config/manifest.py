"""A manifest of many renders, written out job by job: shared settings, a list of jobs, a grid, inputs by glob."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import groupby, product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from mvguide.config.input_options import CropOptions, DepthOptions, LensOptions
from mvguide.config.parsing import SOURCES, Parser, packaged_configs, settings_of, value_parser
from mvguide.config.score_options import EvaluateSceneConfig, ScoreOptions
from mvguide.decoding import check_readable, check_yaml, decoding, is_file, packaged_folder
from mvguide.errors import ConfigError

MOST_JOBS = 1_000_000
OF_THE_BATCH = ("out", "quiet", "checkpoint_every", "resume")
"""Settings of a render that are the batch's own."""
_PARTS = ("shared", "jobs", "grid")
_GLOBBED = ("scene", *SOURCES)
_OF_THE_INPUT = {
    field.name for kind in (DepthOptions, LensOptions, CropOptions, ScoreOptions) for field in fields(kind)
}
"""Settings that say what an input is: of an entry, its own name alone is in the folder's."""
_MATCH = "{match}"
_WILD = re.compile(r"((?:\*\*/|\*|\?|\[[^\]]+\])+)")
_LONGEST_PART, _LONGEST_NAME = 40, 120


@dataclass(frozen=True)
class BatchJob:
    """A job of a manifest.

    Args:
        name: of its folder: readable, and the same whatever other jobs the manifest has.
        given: its settings as they are written, shared ones among them, groups as mappings.
        own: those of them that not all jobs share, by dotted name.
    """

    name: str
    given: dict[str, Any]
    own: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The jobs of a file.

    Args:
        path: of the file; relative paths in it start at its folder.
        shared: settings of all jobs, by dotted name.
        jobs: in the order of the file; of the grid, the last setting changes first.
    """

    path: Path
    shared: dict[str, Any]
    jobs: list[BatchJob]

    def settings(self, job: BatchJob) -> EvaluateSceneConfig:
        """Settings of a job, with those of its scene and preset. Raises MvguideError for values that do not fit."""
        return settings_of(_parser(), EvaluateSceneConfig, job.given, self.path.absolute().parent)

    def digest(self, config: EvaluateSceneConfig) -> str:
        """Digest of the settings that a job's result depends on, wherever manifest, results and mvguide lie."""
        roots = {
            f"{self.path.absolute().parent}{os.sep}": "",
            f"{packaged_folder('scenes').parent}{os.sep}": "mvguide:",
        }

        def movable(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: movable(entry) for name, entry in value.items()}
            if isinstance(value, list):
                return [movable(entry) for entry in value]
            for root, mark in roots.items():
                if isinstance(value, str) and value.startswith(root):
                    return mark + value.removeprefix(root)
            return value

        about = {name: value for name, value in asdict(config).items() if name not in (*OF_THE_BATCH, "device")}
        return hashlib.sha256(json.dumps(movable(about), sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest, and write out its jobs.

    Args:
        path: a YAML file, or the name of one that comes with mvguide.

    Raises:
        FileError: it cannot be read.
        ConfigError: it is no manifest, has unknown settings, a glob without a match, or jobs of equal names.
    """
    place = Path(path)
    place = place if is_file(place) else packaged_configs().get(str(path), place)
    file = check_readable(place, "manifest")
    with decoding(file, "manifest", "write it as YAML, with shared, jobs and grid"):
        text = file.read_text(encoding="utf-8")
        check_yaml(text, f"manifest {path}")
        found = yaml.safe_load(text)
    return expand(found, place)


def expand(found: Any, path: Path) -> Manifest:
    """The jobs of a manifest that was read from a path.

    Raises:
        ConfigError: as :func:`read_manifest`.
    """
    what = f"manifest {path}"
    if not isinstance(found, dict):
        raise ConfigError(f"{what} holds a {type(found).__name__}; it must have jobs or grid, and may have shared")
    for part in found:
        if part not in _PARTS:
            raise ConfigError(f"{what} has {part!r:.60}, {_known(part, _PARTS)}")
    shared = _grouped(found.get("shared") or {}, f"{what}, shared")
    grid = _grid(found.get("grid") or {}, f"{what}, grid")
    entries = found.get("jobs") or ([{}] if grid else [])
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{what} has no jobs; give a list of settings under jobs, or lists of values under grid")
    if len(entries) * prod(map(len, grid.values())) > MOST_JOBS:
        raise ConfigError(f"{what} has more than {MOST_JOBS} jobs; split it into several manifests")
    jobs: list[BatchJob] = []
    seen: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        where = f"{what}, {f'entry {number} of jobs' if 'jobs' in found else 'grid'}"
        for job in _jobs_of(entry, shared, grid, path.absolute().parent, where):
            folder = job.name.casefold()  # some disks do not tell capitals from small letters
            if folder in seen:
                raise ConfigError(
                    f"{where} and {seen[folder].removeprefix(f'{what}, ')} have jobs with the folder {job.name}; give "
                    "entries that differ in nothing else a name: each, and the grid no value twice"
                )
            if len(jobs) == MOST_JOBS:
                raise ConfigError(f"{what} has more than {MOST_JOBS} jobs; split it into several manifests")
            seen[folder] = where
            jobs.append(job)
    return Manifest(path, _dotted(shared), jobs)


def _jobs_of(
    entry: Any, shared: dict[str, Any], grid: Mapping[str, list[dict[str, Any]]], folder: Path, where: str
) -> Iterator[BatchJob]:
    """Jobs of one entry: every combination of the grid, and of each every file that its input matches."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is {entry!r:.60}; it must be settings by name, such as scene: marbles")
    named = entry.get("name")
    if "name" in entry and (not isinstance(named, str) or not _slug(named)):
        raise ConfigError(f"{where} has the name {named!r:.60}; it must be a text with letters or digits")
    settings = _grouped({key: value for key, value in entry.items() if key != "name"}, where)
    for values in product(*grid.values()):
        own = _dotted(settings)
        added = {name: value for step in values for name, value in _dotted(step).items()}
        for name in own:
            if name in added:
                raise ConfigError(f"{where} gives {name}, and so does grid; drop one of the two")
        whole = shared
        for layer in (settings, *values):
            whole = _merged(whole, layer)
        for source, match, given in _matches(whole, folder, where):
            words = {source: match} if match else {}
            told = {name: value for name, value in own.items() if name not in {"images", *_OF_THE_INPUT}}
            parts = [_slug(named)] if named else [_group_name(group, words) for group in _groups(told)]
            if match and (named or source not in own) and source not in added:
                parts.append(_slug(match))
            parts += [_group_name(group, words) for group in _groups(added)]
            if not parts:
                parts = [_slug(Path(str(given.get(source) or "job")).stem)]
            names = own.keys() | added.keys() | words.keys()
            yield BatchJob(
                _folder_name(parts), given, {name: value for name, value in _dotted(given).items() if name in names}
            )


def _matches(settings: dict[str, Any], folder: Path, where: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name of the input, what its wildcards match, and the settings, for each file; once where it has none."""
    source = next((name for name in _GLOBBED if settings.get(name)), "")
    pattern = settings.get(source)
    if not isinstance(pattern, str) or not _WILD.search(pattern) or (folder / pattern).exists():
        yield source, "", settings
        return
    found = _glob(pattern, folder)
    if not found:
        raise ConfigError(f"{where}: {source} {pattern!r} matches no file in {folder}; check the pattern")
    for path, match in found:
        yield source, match, _filled({**settings, source: path}, match)


@lru_cache(8)
def _glob(pattern: str, folder: Path) -> list[tuple[str, str]]:
    """Paths that a pattern matches, and in each what stands for its wildcards. The pattern may be absolute."""
    pieces = _WILD.split(pattern)
    pieces[1::2] = ["(.*)" if "**" in wild else "([^/]*)" for wild in pieces[1::2]]
    pieces[::2] = map(re.escape, pieces[::2])
    written = re.compile("".join(pieces))
    found = []
    for path in sorted(glob.glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207
        hit = written.fullmatch(Path(path).as_posix())
        words = [word.strip("/") for word in hit.groups()] if hit else []
        if words and not pieces[-1] and is_file(folder / path):
            words[-1] = str(Path(words[-1]).with_suffix(""))
        found.append((path, "-".join(word for word in words if word) or Path(path).stem))
    return found


def _filled(value: Any, match: str) -> Any:
    """Settings with ``{match}`` in their texts filled in."""
    if isinstance(value, dict):
        return {name: _filled(entry, match) for name, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, match) for entry in value]
    return value.replace(_MATCH, match) if isinstance(value, str) else value


def _grid(found: Any, where: str) -> dict[str, list[dict[str, Any]]]:
    """For each setting of the grid its values, as settings."""
    if not isinstance(found, dict):
        raise ConfigError(f"{where} is {found!r:.60}; it must be lists of values by setting, such as seed: [0, 1]")
    for name, values in found.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: {name} is {values!r:.60}; give a list of its values, such as [0, 1]")
    grid = {name: [_grouped({name: value}, where) for value in values] for name, values in found.items()}
    names = [set().union(*map(_dotted, values)) for values in grid.values()]
    for index, some in enumerate(names):
        both = sorted(some & set().union(*names[:index]))
        if both:
            raise ConfigError(f"{where} gives {both[0]} twice; give it in one list")
    return grid


def _grouped(given: Any, where: str) -> dict[str, Any]:
    """Settings with groups as mappings: ``trajectory.degrees: 5``, and ``trajectory: orbit`` for its kind.

    Raises:
        ConfigError: no settings by name, a name that is not known, or null where that is no value.
    """
    if not isinstance(given, dict):
        raise ConfigError(f"{where} is {given!r:.60}; it must be settings by name, such as scene: marbles")
    known, found = _settings_of_a_job(), {}  # type: ignore[var-annotated]
    for key, value in given.items():
        name, _, option = str(key).partition(".")
        if name in OF_THE_BATCH:
            raise ConfigError(f"{where} gives {name}; that is one for all jobs, give --{name} to mvguide batch")
        if name not in known or (option and not isinstance(known[name], dict)):
            raise ConfigError(f"{where} gives {key!r:.60}, {_known(name, known)}")
        if isinstance(known[name], dict):
            value = {option: value} if option else {"kind": value} if isinstance(value, str) else value
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {name} is {value!r:.60}; give its kind, or its settings by name")
            for entry in value:
                if entry not in known[name]:
                    raise ConfigError(f"{where} gives {name}.{entry!s:.60}, {_known(entry, known[name])}")
                _check_null(f"{name}.{entry}", value[entry], known[name][entry], where)
            found[name] = {**found.get(name, {}), **value}
        else:
            _check_null(name, value, known[name], where)
            found[name] = value
    return found


def _check_null(name: str, value: Any, default: Any, where: str) -> None:
    if value is None and default is not None:
        raise ConfigError(f"{where}: {name} is null, which is no value of it; leave it out for the default")


@cache
def _settings_of_a_job() -> dict[str, Any]:
    """Default of each setting by name; of a group, a mapping of them."""
    found: dict[str, Any] = {}
    for field in fields(EvaluateSceneConfig):
        if is_dataclass(field.type):
            found[field.name] = {option.name: option.default for option in fields(field.type)}
        elif field.name not in OF_THE_BATCH:
            found[field.name] = None if field.default is MISSING else field.default
    return found


@cache
def _parser() -> Parser:
    return value_parser(EvaluateSceneConfig)


def _known(name: Any, known: Any) -> str:
    """The end of a sentence about a name that is not known."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    if near:
        return f"which is not known; did you mean {near[0]}?"
    return f"which is not known; {'mvguide render --help lists the settings' if len(known) > 9 else ', '.join(known)}"


def _merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Settings of two layers; groups are merged setting by setting."""
    both = {name: {**lower[name], **upper[name]} for name in upper if isinstance(upper[name], dict) and name in lower}
    return {**lower, **upper, **both}


def _dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same with dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= {f"{name}.{option}": entry for option, entry in value.items()}
        else:
            found[name] = value
    return found


def _groups(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Dotted settings, apart by their groups."""
    return [dict(group) for _, group in groupby(settings.items(), lambda item: item[0].split(".")[0])]


def _group_name(group: dict[str, Any], words: Mapping[str, str]) -> str:
    """Part of a folder's name that stands for settings: ``marbles``, ``orbit-degrees10``, ``seed3``."""
    return "-".join(_slug(words[name]) if name in words else _value_name(name, value) for name, value in group.items())


def _value_name(name: str, value: Any) -> str:
    leaf = name.rpartition(".")[2]
    if isinstance(value, bool) or value is None:
        return f"{leaf}-{json.dumps(value)}"
    if isinstance(value, int | float):
        return f"{leaf}{value}"
    if not isinstance(value, str):
        return f"{leaf}-{_short_digest(json.dumps(value, default=str))}"
    if name in _GLOBBED or "/" in value:
        return _slug(Path(value).stem)
    slug = _slug(value)
    # What was lost may be what tells it from another.
    return slug if slug == value else f"{slug}-{_short_digest(value)}".strip("-")


def _slug(text: str) -> str:
    """A text as a part of a file name."""
    words = re.sub(r"[^\w.+-]+", "-", text).strip("-._")
    return words if len(words) <= _LONGEST_PART else f"{words[: _LONGEST_PART - 5]}-{_short_digest(text)}"


def _folder_name(parts: list[str]) -> str:
    name = "_".join(part for part in parts if part) or "job"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{os.fsencode(name)[: _LONGEST_NAME - 9].decode(errors='ignore')}-{_short_digest(name, 8)}"
    # The index and the table lie among the folders.
    return f"{name}_" if name.casefold().endswith((".html", ".csv")) else name


def _short_digest(text: str, length: int = 4) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
