"""Read an export: a folder with `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.checkpoints.errors import CheckpointError, first_line
from tl.checkpoints.files import read_checkpoint
from tl.reading import read_object, read_text

CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: Key of `config.json` that tells an export from other folders with such a file.
KEY = "tl_export"
FORMAT = 1


def is_export(place: Path) -> bool:
    """Return whether a folder is an export, by its ``config.json``."""
    return place.is_dir() and KEY in read_object(place / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of an export's ``config.json``.

    Raises:
        CheckpointError: If it is of a newer format, or damaged.
    """
    try:
        content = json.loads(read_text(folder / CONFIG))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {first_line(error)}") from error
    if content.get(KEY) != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG}: is of the format {content.get(KEY)!r}, this version of tl reads "
            f"{FORMAT}; update tl."
        )
    return dict(content)


def read_export(folder: Path) -> dict[str, Any]:
    """Return an export as the content of a checkpoint, with its network's configuration.

    Only `config.json` and `model.safetensors` are read: no code from the folder runs.

    Raises:
        CheckpointError: If a file is missing or damaged.
    """
    config = read_config(folder)
    content = read_checkpoint(folder / WEIGHTS)
    record = content.get("tl")
    if not isinstance(record, Mapping):
        raise CheckpointError(f"{folder / WEIGHTS}: is not the file that tl export wrote.")
    network = config.get("network")
    configuration = {"model": network} if isinstance(network, Mapping) else {}
    metrics = config.get("metrics") or {}
    return {**content, "tl": {**record, "configuration": configuration, "metrics": metrics}}
