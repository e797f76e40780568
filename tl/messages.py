"""One clear line for each mistake: what was found, what was expected, what is close to it."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module

from lightning.fabric.utilities.exceptions import MisconfigurationException

_TYPES = {"NoneType": "null", "str": "text", "bool": "true or false"}


# What Python and jsonargparse say where a class is not given as one.
_NO_CLASS = (
    r"Dict must include a class_path|unhashable type|argument of type '\w+' is not iterable|"
    r"'\w+' object has no attribute|class_path='typing\.|Expected a dot import path|"
    r"Parser key \"\w+\":\s+Not a valid subclass|Unexpected import path format"
)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` if a known name is close, else nothing."""
    names = list(known)
    # `precision` stands for `trainer.precision`
    if full := [known for known in names if known.rpartition(".")[2] == name and known != name]:
        return f" Did you mean {full[0]!r}?"
    # `optimzer.class_path` is not known as a whole, but its first part has a neighbour
    for wanted in dict.fromkeys((name, name.partition(".")[0])):
        if close := difflib.get_close_matches(wanted, names, n=1, cutoff=0.6):
            return f" Did you mean {close[0]!r}?"
    return ""


def one_line(text: str) -> str:
    """Fold a text into one line."""
    return " ".join(text.split())


def parse_error_line(  # noqa: PLR0911 - a return for each kind of mistake
    message: str, options: Iterable[str] = ()
) -> str:
    """Fold jsonargparse's tree of reasons into the one line that matters.

    Args:
        message: The parser's message.
        options: All known options, to suggest a close one.
    """
    if "arguments are required: " in message and ".model" in message:
        return "give a configuration, such as --config configs/multitask.yaml."
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    nested = re.search(r"NestedArg\(key='([^']+)', val='?(.*?)'?\)", message)
    if nested and keys:
        keys = [keys[0], nested.group(1)]
    prefix = f"{'.'.join(keys)}: " if keys else ""
    owners = re.findall(r"Problem with given class_path '([^']+)'", message)
    if line := _class_line(message, owners, options):
        return prefix + line
    if unknown := re.search(r"does not accept option '([^']+)'", message):
        return f"unknown option {unknown.group(1)!r}.{did_you_mean(unknown.group(1), options)}"
    if unknown := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        name = unknown.group(1).lstrip("-").split("=")[0]
        return f"unknown option --{name}.{did_you_mean(name, options)}"
    if missing := re.search(r"(?:module '([^']+)' )?has no attribute '([^']+)'", message):
        module, name = missing.groups()
        path = f"{module}.{name}" if module else owners[-1] if owners else name
        return f"{prefix}there is no {path}.{did_you_mean(name, _siblings(path))}"
    if missing := re.search(r"No module named '([^']+)'", message):
        return f"{prefix}there is no module {missing.group(1)!r}; give a full class path."
    reasons = re.findall(
        r"^\s*- (?!Expected|Does not|Parser key|Problem)(.+)$", message, re.MULTILINE
    )
    # of a list it is only said that it is no single object, and how to give one
    general = ("Not a valid subclass", "a class path", "a dict with")
    if reasons:
        told = [reason for reason in reasons if not reason.startswith(general)]
        given = re.findall(r"'class_path': '([^']+)'", message)
        said = (f"{given[-1]}: " if given else "") + one_line(str(told[0])) if told else ""
        return said or prefix + _class_form(message)
    if line := _type_line(message, nested.group(2) if nested else None):
        return prefix + line
    return prefix + one_line(re.sub(r'^Parser key "[^"]+":', "", message))


def _class_line(message: str, owners: list[str], options: Iterable[str]) -> str:
    """Say what is wrong with a class, its options, or how it is given; else nothing."""
    if owners and (missing := re.search(r"following arguments are required: (.+)", message)):
        return f"{owners[-1]} needs {missing.group(1)}."
    # of a class that is called later, the path stands in the value only
    option = re.search(
        r"[Oo]ption '(\S+)' is not accepted(?:.*?class_path='(?!typing)([^']+)')?", message
    )
    if option and "class_path='typing." not in message:
        owner = option.group(2) or (owners[-1] if owners else "")
        return _not_accepted(option.group(1), owner, options)
    wrong = re.findall(
        r"(?:Import path |Expected ')([\w.]+)'? (?:does not correspond to|to be) a subclass of "
        r"(?:Union\[)?([\w, ]+)",
        message,
    )
    if wrong:
        kinds = ", ".join(dict.fromkeys(kind for _, kind in wrong)).replace(", ", " or ")
        return f"{wrong[-1][0]} is no {kinds}."
    return _class_form(message) if re.search(_NO_CLASS, message) else ""


def _class_form(message: str) -> str:
    """Say how a class is given, and what stands there in its place."""
    beside: list[str] = []
    for text in re.findall(
        r"(?:but got|Got value:|Given value:) (\{.*?\})(?:\. Got|$)", message, re.MULTILINE
    ):
        with suppress(ValueError, SyntaxError):
            given = ast.literal_eval(text)
            beside = [repr(key) for key in given if key not in ("class_path", "init_args")]
            break
    found = f"; {', '.join(beside)} is neither, options stand below `init_args`" if beside else ""
    return f"a class is given as `class_path`, its full path, and `init_args`, a map{found}."


def _not_accepted(option: str, owner: str, options: Iterable[str]) -> str:
    """Say that a class, or without one the command line, lacks an option."""
    if owner in ("lightning.LightningModule", "lightning.LightningDataModule"):
        return (
            f"no class was chosen yet that could have an option {option!r}; an overlay comes "
            "after the configuration of the run, and --model or --data before its options."
        )
    known = _arguments_of(owner) if owner else options
    said = f"{owner} has no option" if owner else "unknown option"
    return f"{said} {option!r}.{did_you_mean(option, known)}"


def _type_line(message: str, given: str | None) -> str:
    """Say which types were expected, if that is what is wrong."""
    expected = re.findall(r"Expected a (?:<class '([^']+)'>|typing\.Literal\[([^\]]*)\])", message)
    kinds = list(dict.fromkeys(name.rsplit(".", 1)[-1] or choices for name, choices in expected))
    if len(kinds) > 1 and "NoneType" in kinds:
        kinds.remove("NoneType")
    if not kinds:
        return ""
    if given is None:
        values = re.findall(
            r"(?:Given|Got) value: (.*?)(?:\. Got value.*)?$", message, re.MULTILINE
        )
        given = (values[0] or "nothing") if values else "something else"
    return f"expected {' or '.join(_TYPES.get(k, k) for k in kinds)}, got {given}."


def exception_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type where that says more."""
    if "Does not validate against any of the Union subtypes" in str(error):
        # raised by a constructor, and wrapped by the parser
        return parse_error_line(str(error))
    if "Error(s) in loading state_dict for" in str(error):
        return _mismatch_line(str(error))
    text = one_line(str(error))
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}."
    if isinstance(error, ValueError | RuntimeError | MisconfigurationException) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mismatch_line(message: str) -> str:
    """Shorten torch's list of all names that do not fit to the first of each kind."""
    parts = []
    for kind in ("Missing", "Unexpected"):
        if found := re.search(rf"{kind} key\(s\) in state_dict: (.*)", message):
            names = re.findall(r'"([^"]+)"', found.group(1))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - shown
            parts.append(f"{kind.lower()}: {', '.join(names[:3])}{more}")
    sizes = re.findall(r"size mismatch for ([^:]+):", message)
    if sizes:
        parts.append(f"other shapes: {', '.join(sizes[:3])}")
    return (
        f"The checkpoint is of another model ({'; '.join(parts)}). Choose the backbone, the data "
        "and the `batch_norm` that it was trained with; to start from its weights use "
        "--model.init_args.init_from."
    )


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
