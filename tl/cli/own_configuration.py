"""The configuration of a checkpoint's run, for verbs that only evaluate."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tl.checkpoints.files import glance_at, local_file
from tl.runs.folders import run_folder_of
from tl.runs.same_run import configuration_in

_EVALUATE = ("validate", "test", "predict")


def with_own_configuration(arguments: Sequence[str]) -> list[str]:
    """Evaluate a checkpoint with its run's configuration if ``--config`` is missing.

    That is ``config.yaml`` in the run's folder, otherwise the one in the checkpoint.

    Args:
        arguments: The subcommand and its options.

    Returns:
        The arguments, with ``--config`` if one was found.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        ValueError: If there is no configuration.
    """
    given = list(arguments)
    path = _value_of(given, "--ckpt_path")
    configured = any(a.partition("=")[0] in ("--config", "-c") for a in given)
    helped = any(a.endswith("help") for a in given)
    if not given or given[0] not in _EVALUATE or configured or helped or path is None:
        return given
    file = local_file(path)
    run = run_folder_of(file)
    if run is not None:
        return [given[0], f"--config={run / 'config.yaml'}", *given[1:]]
    found = configuration_in(glance_at(file), file)
    if found is None:
        raise ValueError(
            f"{path} contains no configuration, and there is no config.yaml beside its folder; "
            "name one with --config."
        )
    return [given[0], f"--config={json.dumps(found)}", *given[1:]]


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            following = arguments[number + 1] if number + 1 < len(arguments) else None
            return value if equals else following
    return None
