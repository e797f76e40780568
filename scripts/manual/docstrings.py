"""A griffe extension: roles and links of reStructuredText in docstrings become Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Markdown(griffe.Extension):
    """Rewrites docstrings as they are read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: ANN401 - griffe's
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with its roles as code, and its links as Markdown's.

    Args:
        text: The docstring.
    """
    text = re.sub(r"`([^`<]+?)\s*<(https?://[^>]+)>`_+", r"[\1](\2)", text)
    text = re.sub(r":\w+:`([^`<]+?)\s*<[^>]+>`", r"`\1`", text)
    text = re.sub(r":\w+:`~[\w.]*?(\w+)`", r"`\1`", text)
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text)
