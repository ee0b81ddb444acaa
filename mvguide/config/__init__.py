"""Settings of the command line. One dataclass is options, YAML file and documentation at once; nothing heavy here."""

from mvguide.config.inputs import InputConfig, PreviewConfig, TrajectoryConfig, TrajectoryKind, ViewConfig
from mvguide.config.rendering import DemoConfig, GuidanceConfig, RenderConfig
from mvguide.config.scoring import CompareConfig, EvaluateConfig
from mvguide.config.tables import SearchConfig, SigmasMakeConfig, SigmasShowConfig

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
