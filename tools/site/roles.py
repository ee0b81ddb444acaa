"""Docstrings for the site: the marks of Sphinx that they use become those of Markdown."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|data|attr|mod):`~?(?:[\w.]+\.)?(\w+)`")


class Roles(griffe.Extension):
    """Turns ``:func:`mvguide.load_views``` into ``load_views`` as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of every object that is read."""
        if obj.docstring is not None:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
