"""Scene files: the input settings of a command in a YAML beside the pictures."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from mvguide.config import InputConfig
from mvguide.decoding import check_readable
from mvguide.errors import FileError, InputError

_PATHS = ("image", "cameras", "images", "video", "depth")
AnyConfig = TypeVar("AnyConfig", bound=InputConfig)


def with_scene(config: AnyConfig) -> AnyConfig:
    """Settings with those of their scene file, which what was given beside it overrides.

    A folder, or a file that is no YAML, is a camera file that names its pictures.

    Raises:
        FileError: a scene file that cannot be read, or with unknown settings.
        InputError: a source of pictures beside a scene.
    """
    if config.scene is None:
        return config
    for name in ("image", "views", "cameras", "video"):
        if getattr(config, name) is not None:
            raise InputError(f"--scene and --{name} were given; the scene says what the pictures are, drop one")
    path = Path(config.scene)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return replace(config, scene=None, cameras=config.scene)
    read, plain = _read(path), InputConfig()
    changed = {
        field.name: getattr(read, field.name)
        for field in fields(InputConfig)
        if field.name != "scene" and getattr(config, field.name) == getattr(plain, field.name)
    }
    return replace(config, **{**changed, "scene": None})


def _read(path: Path) -> InputConfig:
    from jsonargparse import ArgumentParser

    file = check_readable(path, "scene file")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(InputConfig)
    try:
        parsed: Any = parser.instantiate(parser.parse_path(str(file)))
    except Exception as error:  # whatever a YAML reader and its checks raise
        reason = " ".join(str(error).split())[:200]
        raise FileError(
            f"scene file {path} cannot be read ({reason}); see mvguide preview --help for settings"
        ) from error
    found = InputConfig(**{field.name: parsed[field.name] for field in fields(InputConfig)})
    if found.scene is not None:
        raise FileError(f"scene file {path} names another scene; put its settings here")
    here = path.parent

    def beside(name: str | None) -> str | None:
        return None if name is None else str(here / name)

    views = found.views and [replace(v, image=str(here / v.image), depth=beside(v.depth)) for v in found.views]
    path_file = replace(found.trajectory, file=beside(found.trajectory.file))
    places: dict[str, Any] = {name: beside(getattr(found, name)) for name in _PATHS}
    return replace(found, views=views, trajectory=path_file, **places)
