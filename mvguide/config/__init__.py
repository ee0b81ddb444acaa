"""Settings of the command line. One dataclass is options, YAML file and documentation at once; nothing heavy here."""

from mvguide.config.input_options import InputConfig, PreviewConfig, TrajectoryConfig, TrajectoryKind, ViewConfig
from mvguide.config.render_options import DemoConfig, GuidanceConfig, RenderConfig
from mvguide.config.score_options import CompareConfig, EvaluateConfig
from mvguide.config.table_options import SearchConfig, SigmasMakeConfig, SigmasShowConfig

__all__ = [
    "CompareConfig",
    "DemoConfig",
    "EvaluateConfig",
    "GuidanceConfig",
    "InputConfig",
    "PreviewConfig",
    "RenderConfig",
    "SearchConfig",
    "SigmasMakeConfig",
    "SigmasShowConfig",
    "TrajectoryConfig",
    "TrajectoryKind",
    "ViewConfig",
]
