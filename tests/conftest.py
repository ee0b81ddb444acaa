"""Tiny pipelines of every family, built and saved once in a session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.backbones.tiny_families import build, save


@pytest.fixture(scope="session")
def tiny_pipeline() -> Callable[[str], Any]:
    """The pipeline of a kind. It is shared: a test that changes it puts it back."""
    return cache(build)


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipeline: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The model folder of a kind, or with ``True`` its published form. It is shared: a test that edits it copies it."""

    @cache
    def folder(kind: str, published: bool = False) -> Path:
        return save(kind, tiny_pipeline(kind), tmp_path_factory.mktemp(kind) / "model", published)

    return folder
