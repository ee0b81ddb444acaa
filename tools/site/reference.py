"""Pages of the reference that are generated: every option from the parsers, every public name from the package."""

from importlib import import_module

import mvguide
from mvguide import cli
from mvguide.config.manual import Option, by_heading, options_of_parser
from mvguide.config.parsing import make_parser

GROUPS = {
    "Rendering": "MultiViewPipeline Context Result Checkpoint GuidedScheduler calibrate",
    "Views and cameras": "View Camera Depth Moments interpolate_cameras",
    "Paths": "make_trajectory orbit ellipse dolly truck pedestal pan tilt roll zoom spiral",
    "Reading inputs": "load_views Inputs read_cameras read_depth plane_sweep align_to_points",
    "Tables and schedules": "LambdaTable search_hypers SearchResult SigmaSchedule karras_sigmas load_sigmas "
    "save_sigmas",
    "Guides and solvers": "Blend TopShare PosteriorGradient NoGuidance MaskOptions Resampling",
    "Settings": "SourceOptions ViewOptions DepthOptions LensOptions CropOptions TrajectoryOptions ConditioningOptions "
    "AccelerationOptions",
    "Errors": "MvguideError",
}
"""Order of the public names on their page; names that it lacks come last."""


def options_page() -> str:
    """Markdown of all options of all commands."""
    lines = ["# Options", "", "Every option of every command, as `--help-all` describes it.", ""]
    for name, command in cli.COMMANDS.items():
        settings = cli._load("config", command.settings)
        parser = make_parser(settings, f"mvguide {name}", command.positional)
        lines += [f"## mvguide {name}", "", parser.description or "", ""]
        examples = getattr(settings, "examples", ())
        lines += ["```sh", *examples, "```", ""] if examples else []
        for heading, options in by_heading(options_of_parser(parser, settings)):
            lines += [f"### {heading} {{ #{anchor(name)}-{anchor(heading)} }}", "", "| option | meaning | default |"]
            lines += ["|---|---|---|", *(_row(option) for option in options), ""]
    return "\n".join(lines)


def python_page() -> str:
    """Markdown of all public names, for mkdocstrings."""
    lines = ["# Python", "", "Every public name: `import mvguide`, then `mvguide.View` and so on.", ""]
    rest = " ".join(name for name in mvguide.__all__ if name not in " ".join(GROUPS.values()).split())
    for title, names in {**GROUPS, "Other": rest}.items():
        lines += [f"## {title}", ""] if names else []
        for name in names.split():
            home = getattr(mvguide, name)
            module = import_module(home.__module__)
            lines += [f"::: {module.__name__}.{home.__qualname__}", ""]
    return "\n".join(lines)


def anchor(text: str) -> str:
    """A heading as the end of an address."""
    return text.replace("--", "").replace(" ", "-")


def _row(option: Option) -> str:
    text = option.help
    if option.choices and not option.value.startswith("{"):
        text += f"; one of {', '.join(option.choices)}"
    title = ", ".join(f"`{name}`" for name in option.names) + (f" `{option.value}`" if option.value else "")
    return f"| {_cell(title)} | {_cell(text)} | {_cell(option.default)} |"


def _cell(text: str) -> str:
    for letter in "|*_<>[]":
        text = text.replace(letter, f"\\{letter}") if "`" not in text else text.replace("|", r"\|")
    return text
