"""``tl.fit``: the command line's ``fit`` from Python."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule

from tl.cli.entry import run_command
from tl.cli.messages import USAGE_ERROR
from tl.data import MultiTaskDataModule
from tl.data.source_options import SourceOptions
from tl.reading import versions_in
from tl.runs.folders import versions_folder
from tl.serving.run import Run
from tl.signals import CommandEnded, signals_as_before

#: Options by short name.
SHORT = {
    "accelerator": "trainer.accelerator",
    "backbone": "model.init_args.backbone",
    "balancer": "model.init_args.balancer",
    "batch_size": "data.init_args.batch_size",
    "devices": "trainer.devices",
    "epochs": "trainer.max_epochs",
    "init_from": "model.init_args.init_from",
    "lr": "model.init_args.optimizer.init_args.lr",
    "precision": "trainer.precision",
    "seed": "seed_everything",
    "size": "data.init_args.size",
    "source": "from",
}
_SECTIONS = {"data": "data.init_args", "model": "model.init_args", "trainer": "trainer"}


def fit(
    what: str | Path | Mapping[str, Any] | LightningDataModule,
    *overlays: str | Path | Mapping[str, Any],
    **options: Any,  # noqa: ANN401 - any option of the command line
) -> Run:
    """Train as ``tl fit`` does, and return the run.

    Args:
        what: A configuration (file or dict); or data to train a classifier on: a folder of class
            folders, a table, or a data module such as :func:`tl.from_csv` gives.
        *overlays: Further configurations, which override earlier ones.
        **options: Options of the command line. Short names: ``epochs``, ``batch_size``, ``lr``,
            ``size``, ``backbone``, ``balancer`` (a class, or a name as ``--balancer`` takes it),
            ``seed``, ``accelerator``, ``devices``, ``precision``; ``source``, a run to start from,
            as ``--from``; ``strategy``, such as ``"lp_ft"``; ``name``, ``log_dir``, ``resume``. A
            dict sets options of a section, as ``data={"val_size": 0.2}``, ``model=...`` or
            ``trainer=...``; any other option goes by its full name, as
            ``**{"dashboard.graph": False}``.

    Returns:
        The run: ``history``, ``results``, ``metrics``, ``best``, ``folder``, ``model``, ``plot()``.

    Raises:
        ValueError: If the command, the configuration or the data are wrong.
        RuntimeError: If the run failed.
    """
    arguments = ["fit", *_first(what, options)]
    arguments += [f"--config={_text(overlay)}" for overlay in overlays]
    arguments += [word for key, value in options.items() for word in _option(key, value)]
    with signals_as_before():
        try:
            ran = run_command(arguments)
        except CommandEnded as ended:
            error = ValueError if ended.code == USAGE_ERROR else RuntimeError
            raise error(ended.line) from ended.__cause__
        except SystemExit as ended:
            if ended.code == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            raise RuntimeError(f"The command ended without a run (code {ended.code}).") from None
    return Run(_folder(ran))


def _first(what: object, options: dict[str, Any]) -> list[str]:
    """Return the arguments for a configuration or data."""
    if isinstance(what, LightningDataModule):
        from tl.cli.recipe import around  # noqa: PLC0415 - images and all

        kind, given = type(what), _given(what)
        source = options.pop("source", None)
        if source is None and hasattr(what, "size"):
            given["size"] = what.size  # 32 may be the default, or have been asked for
        name = str(getattr(what, "data_name", "run"))
        configuration, line = around(kind, given, name, [], None if source is None else str(source))
        print(f"tl: {line}")  # noqa: T201
        return [f"--config={json.dumps(configuration, default=_plain)}"]
    if isinstance(what, Mapping) or str(what).endswith((".yaml", ".yml")):
        return [f"--config={_text(what)}"]
    return [str(what)]


def _given(data: Any) -> dict[str, Any]:  # noqa: ANN401 - a data module
    """Return the options of a data module that differ from their defaults.

    Raises:
        TypeError: If they are not known.
    """
    if not is_dataclass(data) or not type(data).__module__.startswith("tl."):
        raise TypeError(
            f"tl.fit writes the options of its data into config.yaml, and those of a "
            f"{type(data).__name__} are not known; name the class in a configuration instead."
        )
    found = {
        field.name: value
        for field in fields(data)
        if field.init
        and not (isinstance(data, SourceOptions) and data.takes(field.name))
        and (value := getattr(data, field.name)) != field.default
    }
    if isinstance(data, MultiTaskDataModule):
        found["sources"] = {
            name: {
                "class_path": f"{type(source).__module__}.{type(source).__qualname__}",
                "init_args": _given(source),
            }
            for name, source in data.sources.items()
        }
    return found


def _option(key: str, value: object) -> list[str]:
    """Return an option as the command line has it."""
    if key == "balancer" and isinstance(value, str) and value.islower() and "." not in value:
        return [f"--balancer={value}"]  # names are in lower case, as no class is
    if key in _SECTIONS and isinstance(value, Mapping) and "class_path" not in value:
        return [f"--{_SECTIONS[key]}.{name}={_text(part)}" for name, part in value.items()]
    return [f"--{SHORT.get(key, key)}={_text(value)}"]


def _text(value: object) -> str:
    """Write a value as on the command line."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=_plain)


def _plain(value: object) -> object:
    """Return a value in plain types, for JSON."""
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"A {type(value).__name__} cannot be written into config.yaml; name its class, as "
        '{"class_path": ..., "init_args": {...}}.'
    )


def _folder(ran: Any) -> Path:  # noqa: ANN401 - a TlCLI, which imports this package
    """Return the folder of a run; of one with nothing left to do, the newest."""
    output = getattr(ran, "output", None)
    if output is not None and output.new is not None and output.new.is_dir():
        found: Path = output.new
        return found
    parent = versions_folder(ran.chosen.log_dir, ran.chosen.name)
    if not (versions := versions_in(parent)):
        raise RuntimeError(f"The run left no folder in {parent}.")
    return versions[-1]
