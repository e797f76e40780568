"""One clear line for each mistake: what was found, what was expected, what is close to it."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from importlib import import_module

_TYPES = {"NoneType": "null", "str": "text", "bool": "true or false"}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` if a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_line(text: str) -> str:
    """Fold a text into one line."""
    return " ".join(text.split())


def parse_error_line(message: str, options: Iterable[str] = ()) -> str:
    """Fold jsonargparse's tree of reasons into the one line that matters.

    Args:
        message: The parser's message.
        options: All known options, to suggest a close one.
    """
    where = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    prefix = f"{where}: " if where else ""
    if found := re.findall(r"Problem with given class_path '([^']+)'", message):
        path = found[-1]
        if missing := re.search(r"Option '([^']+)' is not accepted", message):
            option = missing.group(1)
            return (
                f"{prefix}{path} has no option {option!r}."
                f"{did_you_mean(option, _arguments_of(path))}"
            )
        if required := re.search(r"Parameter '([^']+)' is required", message):
            return f"{prefix}{path} needs the option {required.group(1)!r}."
    if missing := re.search(r"(?:has no attribute|cannot import name) '([^']+)'", message):
        path = found[-1] if found else missing.group(1)
        return f"{prefix}there is no {path}.{did_you_mean(missing.group(1), _siblings(path))}"
    if missing := re.search(r"No module named '([^']+)'", message):
        return f"{prefix}there is no module {missing.group(1)!r}; give a full class path."
    if unknown := re.search(
        r"(?:Option|Key|key) ['\"]([^'\"]+)['\"] is not (?:accepted|expected)", message
    ):
        return f"unknown option {unknown.group(1)!r}.{did_you_mean(unknown.group(1), options)}"
    if unknown := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        name = unknown.group(1).lstrip("-").split("=")[0]
        return f"unknown option --{name}.{did_you_mean(name, options)}"
    expected = re.findall(
        r"Expected (?:a )?(?:<class '([^']+)'>|(typing\.Literal\[[^\]]*\]|Literal\[[^\]]*\]))",
        message,
    )
    if expected:
        kinds = dict.fromkeys(
            (c.rsplit(".", 1)[-1] or lit.removeprefix("typing.")) for c, lit in expected
        )
        kinds.pop("NoneType", None) if len(kinds) > 1 else None
        words = " or ".join(_TYPES.get(kind, kind) for kind in kinds)
        given = re.findall(r"Given value: (.+?)(?:\. Got value.*)?$", message, re.MULTILINE)
        return f"{prefix}expected {words}, got {given[0] if given else 'something else'}."
    return prefix + one_line(re.sub(r'^Parser key "[^"]+":', "", message))


def exception_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type where that says more."""
    text = one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}."
    if isinstance(error, ValueError | RuntimeError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _arguments_of(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return list(inspect.signature(getattr(import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return []


def _siblings(class_path: str) -> list[str]:
    try:
        return dir(import_module(class_path.rpartition(".")[0]))
    except (ImportError, ValueError):
        return []
