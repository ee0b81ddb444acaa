"""Serious faults of accessibility on a page, found by axe-core in the browser."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

_RUN = """() => axe.run(document, {resultTypes: ['violations']}).then(found => found.violations
    .filter(rule => ['serious', 'critical'].includes(rule.impact))
    .flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 200)}`)))"""


def serious_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical on a page of playwright, a line each."""
    package = find_spec("axe_core_python")
    assert package is not None
    assert package.origin is not None
    page.evaluate((Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN)
    return found
