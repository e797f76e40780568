"""Commands that name a run or a folder of data in place of a configuration.

``test RUN``, ``predict RUN PATH...``, ``fit FOLDER`` and ``fit FOLDER --from RUN --strategy lp_ft``
become the commands that Lightning's verbs understand.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl.cli.listing import configs_folder
from tl.cli.messages import did_you_mean
from tl.cli.short_forms import overlay

_EVALUATE = ("validate", "test", "predict")
_VALUES = ("--from", "--strategy")  # options of ours that take a value
_OF_FILES = ("--out", "--source")  # options of `predict RUN FILE...` alone
_FLAGS = ("-h", "--help", "--help-all", "--all", "--print_config")  # options without a value
#: Stands for ``predict`` of single files, which needs no Trainer.
PREDICT_FILES = "predict RUN FILE..."
#: Class and further settings of the strategies by the names of their files in ``configs/transfer``.
STRATEGIES = {
    "full_fine_tuning": ["tl.transfer.FullFineTuning"],
    "gradual_unfreezing": ["tl.transfer.GradualUnfreezing"],
    "layer_wise_decay": ["tl.transfer.LayerWiseDecay"],
    "linear_probe": ["tl.transfer.LinearProbe"],
    "lp_ft": [
        "tl.transfer.LPFT",
        "--model.init_args.scheduler=tl.transfer.ProbeThenCosine",
        "--model.init_args.scheduler.init_args.warmup=0.05",
    ],
    "surgical_fine_tuning": ["tl.transfer.SurgicalFineTuning"],
}


def expanded(arguments: Sequence[str]) -> list[str]:
    """Return a command as Lightning's verbs understand it; others are returned unchanged.

    Raises:
        ValueError: If a run, a folder or a strategy is not what it should be.
    """
    verb = arguments[0] if arguments else ""
    if verb not in (*_EVALUATE, "fit"):
        return list(arguments)
    if len(arguments) == 1:
        what = (
            "a folder of images"
            if verb == "fit"
            else "a run, such as lightning_logs/NAME/version_0"
        )
        raise ValueError(
            f"{verb} takes {what}, or a configuration, such as --config configs/multitask.yaml."
        )
    named, options = places_and_options(arguments[1:])
    if verb == "fit":
        return _fit(named, options)
    if named:
        return _on_run(verb, named, options)
    return list(arguments)


def places_and_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the runs, files and folders of a command from its options and their values.

    Args:
        words: What follows the verb, in any order.
    """
    places, options = [], []
    awaits = False  # whether the last option has no value yet
    for word in words:
        if word.startswith("-") and not (awaits and re.match(r"-[\d.]", word)):
            awaits = "=" not in word and word not in _FLAGS
            options.append(word)
        elif awaits:
            awaits = False
            options.append(word)
        else:
            places.append(word)
    return places, options


def _on_run(verb: str, named: Sequence[str], options: list[str]) -> list[str]:
    from tl.cli.recipe import source_checkpoint  # noqa: PLC0415 - Lightning, torch and all

    run, *paths = named
    checkpoint = source_checkpoint(run)
    command = [verb, f"--ckpt_path={checkpoint}"]
    if paths and verb != "predict":
        raise ValueError(f"{verb} takes one run, got also {paths[0]!r}.")
    if not paths:
        return [*command, *options]
    missing = [path for path in paths if not Path(path).expanduser().exists()]
    if missing:
        raise ValueError(f"{missing[0]}: no such file or folder to predict.")
    if len(paths) == 1 and not any(word.partition("=")[0] in _OF_FILES for word in options):
        option = "predict_folder" if Path(paths[0]).expanduser().is_dir() else "predict_file"
        if _data_takes(checkpoint, option):
            return [*command, f"--data.init_args.{option}={paths[0]}", *options]
    return [PREDICT_FILES, str(checkpoint), *paths, *options]


def _data_takes(checkpoint: Path, option: str) -> bool:
    """Return whether the data module of a checkpoint's run has an option."""
    from tl.checkpoints.files import glance_at  # noqa: PLC0415 - as above
    from tl.runs.same_run import configuration_in  # noqa: PLC0415 - as above
    from tl.serving.load import parameters_of  # noqa: PLC0415 - as above

    configuration = configuration_in(glance_at(checkpoint), checkpoint) or {}
    kind = (configuration.get("data") or {}).get("class_path")
    return kind is not None and option in parameters_of(str(kind))


def _fit(named: Sequence[str], options: list[str]) -> list[str]:
    values, options = taken(options)
    source = next(reversed(values["--from"]), None)
    if len(named) > 1:
        raise ValueError(f"fit takes one folder or table, got also {named[1]!r}.")
    command, chosen = ["fit"], _strategies(values["--strategy"])
    if named:
        from tl.cli.recipe import recipe  # noqa: PLC0415 - as above

        if named[0].endswith((".yaml", ".yml")):
            raise ValueError(f"{named[0]} is a configuration; write --config {named[0]}.")
        configuration, line = recipe(named[0], source)
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes, the first
            # stdout may be a configuration, by --print_config
            print(f"tl: {line}", file=sys.stderr)  # noqa: T201
        command.append(f"--config={json.dumps(configuration)}")
    elif source is not None:
        from tl.cli.recipe import source_checkpoint  # noqa: PLC0415 - as above

        options = [*options, f"--model.init_args.init_from={source_checkpoint(source)}"]
    options = [*chosen, *options] if named else [*options, *chosen]
    return [*command, *options]


def taken(options: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Take our own options out of a command."""
    values: dict[str, list[str]] = {name: [] for name in _VALUES}
    left: list[str] = []
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _VALUES:
            left.append(word)
            continue
        found: Any = value if equals else next(words, None)
        if not found:
            raise ValueError(f"{name} needs a value.")
        values[name].append(found)
    return values, left


def _strategies(names: Sequence[str]) -> list[str]:
    """Return the options of strategies: overlays add up, and the last class is the strategy."""
    options = [_strategy(name) for name in names]
    last = next((each for each in reversed(options) if not _is_overlay(each)), None)
    return [word for each in options if each is last or _is_overlay(each) for word in each]


def _is_overlay(options: Sequence[str]) -> bool:
    return options[0].startswith("--strategy=")


def _strategy(name: str) -> list[str]:
    """Return the options of a strategy by its short name, or of a class path."""
    if re.fullmatch(r"[\w.]+\.[A-Z]\w*", name):
        return [f"--model.init_args.strategy={name}"]
    if name not in STRATEGIES:
        if configs_folder() is not None:
            overlay("--strategy", name)  # or it is refused
            return [f"--strategy={name}"]
        close = did_you_mean(name, STRATEGIES)
        raise ValueError(f"There is no strategy {name!r}; choose {', '.join(STRATEGIES)}.{close}")
    kind, *more = STRATEGIES[name]
    return [f"--model.init_args.strategy={kind}", *more]
