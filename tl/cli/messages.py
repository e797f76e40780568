"""One line for each mistake: what was found, what was expected, and the closest known name."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from itertools import dropwhile

from tl.cli import wording

#: Exit code of a mistake in the command, the configuration or the data.
USAGE_ERROR = 2
_MODULES = ("tl.modules.TransferModule", "tl.modules.MultiTaskModule")
# By section of a configuration: classes whose options it takes.
_SECTIONS = {
    "trainer": ("lightning.pytorch.Trainer",),
    "data.init_args": (
        *("tl.data.CifarDataModule", "tl.data.FolderDataModule", "tl.data.MultiTaskDataModule"),
    ),
    "model.init_args": _MODULES,
    "model.init_args.optimizer.init_args": ("torch.optim.SGD", "torch.optim.AdamW"),
    "model.init_args.scheduler.init_args": ("tl.modules.WarmupCosine",),
}
# Modules with the classes that configurations name, the likelier ones first.
_PLACES = (
    *("tl", "tl.data", "tl.modules", "tl.backbones", "tl.balancing", "tl.callbacks"),
    *("tl.transfer", "tl.transfer.penalties", "torchjd.aggregation", "torchjd.scalarization"),
    *("lightning.pytorch.callbacks", "lightning.pytorch.loggers", "lightning.pytorch.profilers"),
    *("lightning.pytorch.strategies", "torch.optim", "torch.optim.lr_scheduler"),
)
_SHORT = ("epochs", "balancer", "strategy", "from")  # not options of the parser
_TYPES = {"NoneType": "null", "str": "text", "bool": "true or false"}


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


def elsewhere(option: str, owner: str = "") -> str:
    """Return `` Did you mean 'x'?`` if another part of a configuration has this option.

    Args:
        option: A name; of a dotted one, the last part is looked up.
        owner: The class that lacks it; empty on the command line.
    """
    start, _, option = option.rpartition(".")
    for section, classes in _SECTIONS.items():
        if owner in classes or section == start:
            continue
        if section.startswith("data") and owner.endswith("DataModule"):
            continue  # it is the section whose class lacks it
        if any(option in _arguments_of(each) for each in classes):
            return f" Did you mean {f'{section}.{option}'!r}?"
    return ""


def _meant(option: str, options: Iterable[str]) -> str:
    """Return what an unknown option of the command line may stand for."""
    near = elsewhere(option) or did_you_mean(option, [*options, *_SHORT])
    if near or "." in option:
        return near
    # `batchsize` is close to an option of a class
    known = {
        name: f"{section}.{name}"
        for section, classes in _SECTIONS.items()
        for each in classes
        for name in _arguments_of(each)
    }
    close = difflib.get_close_matches(option, known, n=1, cutoff=0.8)
    return f" Did you mean {known[close[0]]!r}?" if close else ""


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
    keys = list(dict.fromkeys(wording.PARSER_KEY.findall(message)))
    nested = wording.NESTED_OPTION.search(message)
    if nested and keys:
        keys = [keys[0], nested.group(1)]
    prefix = f"{'.'.join(keys)}: " if keys else ""
    owners = wording.CLASS_AT_FAULT.findall(message)
    missing = wording.NOT_ACCEPTED.search(message)
    if missing and "class_path='typing." not in message:
        owner = missing.group(2) or (owners[-1] if owners else "")
        return f"{prefix}{_not_accepted(missing.group(1), owner, options)}"
    if unknown := wording.UNKNOWN_TO_VERB.search(message):
        name = unknown.group(1)
        return f"unknown option {name!r}.{_meant(name, options)}"
    if unknown := wording.UNRECOGNIZED.search(message):
        name = unknown.group(1).lstrip("-").split("=")[0]
        return f"unknown option --{name}.{_meant(name, options)}"
    if line := _wrong_class(message) or _class_line(message, owners):
        return prefix + line
    reasons = wording.REASON.findall(message)
    # a list is only reported as not being a single object
    general = ("Not a valid subclass", "a class path", "a dict with")
    if reasons:
        told = [reason for reason in reasons if not reason.startswith(general)]
        given = wording.CLASS_GIVEN.findall(message)
        said = (f"{given[-1]}: " if given else "") + one_line(str(told[0])) if told else ""
        return said or prefix + _class_form(message)
    if line := _type_line(message, nested.group(2) if nested else None):
        return prefix + line
    return prefix + one_line(message.removeprefix(f'Parser key "{keys[0]}":') if keys else message)


def _class_line(message: str, owners: list[str]) -> str:
    """Return what is wrong with a class path; empty if something else is."""
    if missing := wording.NO_ATTRIBUTE.search(message):
        module, name = missing.groups()
        path = f"{module}.{name}" if module else owners[-1] if owners else name
        return f"there is no {path}.{did_you_mean(name, _siblings(path)) or _class_near(name)}"
    if missing := wording.NO_MODULE.search(message):
        close = _class_near(owners[-1].rpartition(".")[2]) if owners else ""
        return f"there is no module {missing.group(1)!r}; give a full class path.{close}"
    if owners and (needed := wording.REQUIRED.search(message)):
        return f"{owners[-1]} needs {needed.group(1)}."
    if kinds := [kind for path, kind in wording.WRONG_KIND.findall(message) if not path]:
        given = [value for value in wording.VALUE.findall(message) if _is_path(value)]
        what = given[0] if given else "that class"
        return f"{what} is not a subclass of {' or '.join(dict.fromkeys(kinds))}."
    return ""


def _wrong_class(message: str) -> str:
    """Return which class was expected, or how to give one; empty if something else is wrong."""
    wrong = [(path, kind) for path, kind in wording.WRONG_KIND.findall(message) if path]
    if wrong:
        kinds = ", ".join(dict.fromkeys(kind for _, kind in wrong)).replace(", ", " or ")
        return f"{wrong[-1][0]} is not a subclass of {kinds}."
    short = wording.NO_PATH.search(message)
    if short and (close := _class_near(short.group(1))):
        return f"there is no class {short.group(1)!r}.{close}"
    return _class_form(message) if wording.NO_CLASS.search(message) else ""


def _is_path(value: str) -> bool:
    return all(part.isidentifier() for part in value.split("."))


def _class_form(message: str) -> str:
    """Return how to give a class, and what was given instead."""
    beside: list[str] = []
    maps = (v for v in wording.VALUE.findall(message) if v[:1] == "{" and v[-1:] == "}")
    for text in maps:
        with suppress(ValueError, SyntaxError):
            given = ast.literal_eval(text)
            beside = [repr(key) for key in given if key not in ("class_path", "init_args")]
            break
    found = f"; {', '.join(beside)} belongs below `init_args`" if beside else ""
    return f"give a class as `class_path`, its full path, and `init_args`, a map{found}."


def _not_accepted(option: str, owner: str, options: Iterable[str]) -> str:
    """Return that a class, or the command line, has no such option."""
    if owner in ("lightning.LightningModule", "lightning.LightningDataModule"):
        return (
            f"no class with an option {option!r} was chosen before it; an overlay comes after the "
            "configuration of the run, and --model or --data before its options."
        )
    option = option.partition(".")[0] if owner else option
    known = _arguments_of(owner) if owner else options
    said = f"{owner} has no option" if owner else "unknown option"
    more = elsewhere(option, owner) or did_you_mean(option, known)
    others = [other for other in _MODULES if other != owner and option in _arguments_of(other)]
    if owner in _MODULES and others:
        more = f" It is one of {others[0]}."
    return f"{said} {option!r}.{more}"


def _type_line(message: str, given: str | None) -> str:
    """Return which types were expected; empty if something else is wrong."""
    expected = wording.EXPECTED.findall(message)
    kinds = list(dict.fromkeys(name.rsplit(".", 1)[-1] or choices for name, choices in expected))
    if len(kinds) > 1 and "NoneType" in kinds:
        kinds.remove("NoneType")
    if not kinds:
        return ""
    if given is None:
        values = wording.VALUE.findall(message)
        given = (values[0] or "nothing") if values else "something else"
    listed = ast.literal_eval(f"[{','.join(choices for _, choices in expected if choices)}]")
    close = did_you_mean(given, [choice for choice in listed if isinstance(choice, str)])
    return f"expected {' or '.join(_TYPES.get(k, k) for k in kinds)}, got {given}.{close}"


def exception_line(  # noqa: PLR0911 - a return for each kind of mistake
    error: BaseException,
) -> str:
    """Return an exception as one line: its message, with its type where that says more."""
    if "Does not validate against any of the Union subtypes" in str(error):
        # raised by a constructor, and wrapped by the parser
        return parse_error_line(str(error))
    if "Error(s) in loading state_dict for" in str(error):
        return _mismatch_line(str(error))
    if twice := wording.SAME_STATE.match(str(error)):
        return f"`trainer.callbacks` has {twice[1]} more than once; keep one of them."
    cause = error.__cause__
    if cause is not None and str(error).startswith(wording.LINK_FAILED):
        # raised by the data while the parser asks them for the tasks of the model
        return exception_line(type(error)(str(cause)))
    text = one_line(_of_worker(error))
    # torch raises a new error from the worker's
    if line := _worker_line(text) or _worker_line(one_line(str(cause or ""))):
        return line
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}."
    plain = ValueError | TypeError if "`" in text else ValueError  # a setting is named
    if isinstance(error, ImportError) and "pip install" in text:
        return text
    # by its name: this module must not import Lightning
    of_lightning = "MisconfigurationException" in (kind.__name__ for kind in type(error).__mro__)
    if (of_lightning or isinstance(error, plain | RuntimeError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_worker(error: BaseException) -> str:
    """Return the message of an error, in a loader's worker without that process's traceback."""
    message, kind = str(error), type(error).__qualname__
    if not wording.IN_WORKER.match(message):
        return message
    lines = message.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    said = "\n".join(dropwhile(lambda line: line.startswith(" "), lines))
    return said.partition(kind)[2].removeprefix(": ") if kind in said else said


def _worker_line(text: str) -> str:
    """Return why a loader's worker ended; empty if something else is wrong."""
    if wording.NO_SHARED_MEMORY.search(text):
        return (
            "A loader's worker ran out of shared memory (/dev/shm). Lower `num_workers` (0 needs "
            "none) or `batch_size`, or enlarge it (`docker run --shm-size`)."
        )
    return ""


def _mismatch_line(message: str) -> str:
    """Shorten torch's list of all names that do not fit to the first of each kind."""
    parts = []
    for kind, listed in wording.KEYS.findall(message):
        names = listed.split('"')[1::2]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - shown
        parts.append(f"{kind.lower()}: {', '.join(names[:3])}{more}")
    sizes = wording.SHAPES.findall(message)
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


def _class_near(name: str) -> str:
    """Return `` Did you mean 'x'?`` with the path of a class whose name is close, else nothing."""
    # only what is imported already: this module must not import Lightning
    found = [module for place in _PLACES if (module := sys.modules.get(place))]
    known = {
        name: f"{module.__name__}.{name}"
        for module in reversed(found)
        for name, value in vars(module).items()
        if inspect.isclass(value) and not name.startswith("_")
    }
    close = known.get(name) or next(
        (known[near] for near in difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None
    )
    return f" Did you mean {close!r}?" if close else ""


def _siblings(class_path: str) -> list[str]:
    try:
        return dir(import_module(class_path.rpartition(".")[0]))
    except (ImportError, ValueError):
        return []
