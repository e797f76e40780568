"""``--model.help``: which classes an option takes, or the options of the one that is chosen."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tl.cli.annotated import WIDTH
from tl.cli.listing import hanging, public_classes
from tl.cli.origins import Origins
from tl.cli.short_forms import written_out

_HELP = re.compile(r"--([\w.]+)\.help")
#: By option: the package that has its classes, and how their names end.
_PLACES = {
    "model": ("modules", "Module"),
    "data": ("data", "DataModule"),
    "backbone": ("backbones", ""),
    "callbacks": ("callbacks", ""),
    "task": ("tasks", ""),
    "tasks": ("tasks", ""),
    "penalties": ("transfer.penalties", ""),
}
#: Options of the model whose classes are of several packages, each with an example.
_EXAMPLES = {
    "balancer": "tl.balancing.GradNorm",
    "optimizer": "torch.optim.AdamW",
    "scheduler": "tl.modules.WarmupCosine",
    "strategy": "tl.transfer.LPFT",
}
_KNOWN = ", known subclasses: "  # as jsonargparse writes it


def classes_of(arguments: Sequence[str]) -> str | None:
    """Return the classes that an option takes, each with a line.

    Args:
        arguments: A command that ends in ``--model.help``, ``--data.help`` or that of an option of
            theirs.

    Returns:
        ``None`` if the command does not ask for them, or names a class or a configuration with one.

    Raises:
        ValueError: If it asks for one of the model's whose classes are of several packages.
    """
    asked = _HELP.fullmatch(arguments[-1]) if len(arguments) > 1 else None
    option = asked.group(1).rpartition(".")[2] if asked else ""
    if asked and asked.group(1).startswith("model.") and option in _EXAMPLES:
        raise ValueError(
            f"{arguments[-1]} explains one class; give it, such as "
            f"{arguments[-1]} {_EXAMPLES[option]}."
        )
    if asked is None or option not in _PLACES or _chosen(arguments, asked.group(1)):
        return None
    package, end = _PLACES[option]
    rows = list(public_classes(package, end))
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        [
            f"Classes for --{asked.group(1)} in tl.{package}:",
            "",
            *(hanging(f"  {name:{width}}  ", line, WIDTH) for name, line in rows),
            "",
            f"options of one:  tl {' '.join(arguments)} tl.{package}.{rows[0][0]}",
        ]
    )


def with_class(arguments: Sequence[str]) -> list[str]:
    """Return a command that ends in ``--model.help`` or ``--data.help`` with the class to explain.

    That is the class in its configurations; other commands are returned unchanged.
    """
    asked = _HELP.fullmatch(arguments[-1]) if len(arguments) > 1 else None
    if asked is None or not (chosen := _chosen(arguments, asked.group(1))):
        return list(arguments)
    return [arguments[0], f"{arguments[-1]}={chosen}"]


def _chosen(arguments: Sequence[str], option: str) -> str:
    """Return the class of the model or the data in a command's configurations; empty without."""
    if option not in ("model", "data"):
        return ""
    settings = Origins.of_command(written_out(arguments[:-1]), {}).of(f"{option}.class_path")
    return str(settings[-1][1]) if settings else ""


def own_classes(extra: str, option: str) -> str:
    """Return the classes to name in an option's help: ours, where there are some.

    Args:
        extra: What jsonargparse would list, all imported subclasses of a type.
        option: Name of the option.
    """
    if not extra.startswith(_KNOWN):
        return extra
    paths = extra.removeprefix(_KNOWN).split(", ")
    ours = [path for path in paths if path.startswith("tl.")]
    room = f"tl.{option.rpartition('.')[2]}s."
    public = [path for path in ours if path.rpartition(".")[0] == room.rstrip(".")]
    kept = public or ours or paths
    return f", such as {', '.join(kept)}"
