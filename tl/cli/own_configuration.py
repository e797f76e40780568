"""The configuration of a checkpoint's run, for verbs that only evaluate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tl.checkpoints.files import glance_at, local_file
from tl.reading import read_yaml
from tl.runs.folders import run_of_checkpoint
from tl.runs.same_run import configuration_in

_EVALUATE = ("validate", "test", "predict")


def with_own_configuration(arguments: Sequence[str]) -> list[str]:
    """Evaluate a checkpoint with its run's configuration, unless ``--config`` describes a run.

    That is ``config.yaml`` in the run's folder, otherwise the one in the checkpoint. Overlays,
    which name the class of neither data nor model, follow it.

    Returns:
        The arguments, with ``--config`` if one was found.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        ValueError: If there is no configuration.
    """
    given = list(arguments)
    path = next(_values_of(given, "--ckpt_path"), None)
    configured = any(map(_describes_a_run, _values_of(given, "--config", "-c")))
    helped = any(a.endswith("help") for a in given)
    if not given or given[0] not in _EVALUATE or configured or helped or path is None:
        return given
    file = local_file(path)
    run = run_of_checkpoint(file)
    if run is not None:
        return [given[0], f"--config={run / 'config.yaml'}", *given[1:]]
    found = configuration_in(glance_at(file), file)
    if found is None:
        raise ValueError(
            f"{path} contains no configuration, and there is no config.yaml beside its folder; "
            "name one with --config."
        )
    return [given[0], f"--config={json.dumps(found)}", *given[1:]]


def _describes_a_run(config: str) -> bool:
    """Return whether a configuration names the class of its data or model."""
    if "://" in config:
        return True
    written = config.lstrip().startswith("{")
    try:
        content = yaml.safe_load(config) if written else read_yaml(Path(config))
    except (OSError, ValueError, yaml.YAMLError):
        return True  # the parser says what is wrong with it
    return isinstance(content, dict) and any(
        f"{name}.class_path" in content or _has_class(content.get(name))
        for name in ("data", "model")
    )


def _has_class(section: Any) -> bool:  # noqa: ANN401 - whatever YAML holds
    return "class_path" in section if isinstance(section, dict) else section is not None


def _values_of(arguments: Sequence[str], *options: str) -> Iterator[str]:
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in options and (equals or number + 1 < len(arguments)):
            yield value if equals else arguments[number + 1]
