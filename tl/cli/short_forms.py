"""Short forms of options: ``--data.root``, ``--balancer``, ``--strategy``, ``--epochs``."""

from __future__ import annotations

from collections.abc import Iterable

from tl.cli.listing import configs_folder
from tl.cli.messages import did_you_mean

_FOLDERS = {"--balancer": "balancing", "--strategy": "transfer"}
_CONFIGS = ("--config", "-c")
_SECTIONS = ("--data", "--model", "--trainer")  # each takes a file, too
_FILES = (".yaml", ".yml", ".json")
#: The verbs that Lightning runs.
LIGHTNINGS = ("fit", "validate", "test", "predict")
_OWN = ("class_path", "init_args", "help")


def written_out(arguments: Iterable[str]) -> list[str]:
    """Replace short forms by what they stand for, and put files before options.

    A value that is typed holds against every file, wherever they stand on the command line.
    ``--epochs N`` is ``--trainer.max_epochs N``; ``--data.X`` and ``--model.X`` are options of the
    class, ``--data.init_args.X``; ``--balancer NAME`` and ``--strategy NAME`` are the shipped
    overlays of that name, which follow the last ``--config``.

    Args:
        arguments: One of Lightning's verbs, and its options.

    Raises:
        ValueError: If there is no overlay of a name; lists them.
    """
    words = list(arguments)
    start = next((place for place, word in enumerate(words) if word in LIGHTNINGS), -1) + 1
    before, words = words[:start], words[start:]
    files: list[str] = []
    overlays: list[str] = []
    sections: list[str] = []
    options: list[str] = []
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option in _FOLDERS:
            if not equals and not words:
                raise ValueError(f"{option} needs a name; `tl list {_FOLDERS[option]}` has them.")
            overlays.append(f"--config={overlay(option, value if equals else words.pop(0))}")
        elif option in _CONFIGS and (equals or words):
            files += [word] if equals else [word, words.pop(0)]
        elif option.startswith("-c") and option != "-c":  # as in `-cFILE`
            files.append(f"--config={word.removeprefix('-c')}")
        elif option in _SECTIONS and (equals or words):
            said = [word] if equals else [word, words.pop(0)]
            # a class keeps its place: options before it were the other class's
            (sections if said[-1].endswith(_FILES) else options).extend(said)
        elif option == "--epochs":
            options.append(f"--trainer.max_epochs{equals}{value}")
        else:
            options.append(f"{_of_class(option)}{equals}{value}")
    return [*before, *files, *overlays, *sections, *options]


def overlay(option: str, name: str) -> str:
    """Return the shipped overlay of a name.

    Raises:
        ValueError: If there is none.
    """
    kind, folder = _FOLDERS[option], configs_folder()
    if folder is None:
        raise ValueError(
            f"{option} reads the folder `configs` of a clone, which is not here; name a file with "
            "--config."
        )
    path = folder / kind / f"{name}.yaml"
    if path.is_file():
        return str(path)
    known = sorted(each.stem for each in (folder / kind).glob("*.yaml"))
    close = did_you_mean(name, known) or f" There are {', '.join(known)}."
    raise ValueError(f"{option}: there is no {name!r}.{close}")


def _of_class(option: str) -> str:
    """Write an option of the data's or the model's class in full."""
    for start in ("--data.", "--model."):
        rest = option.removeprefix(start)
        named = rest.endswith(".help") or rest.partition(".")[0].rstrip("+") in _OWN
        if rest != option and not named:
            return f"{start}init_args.{rest}"
    return option
