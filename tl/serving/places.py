"""Where a model lies: a run, a checkpoint, an address, or a repository of the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from tl.backbones.offline import hub_model
from tl.checkpoints.errors import CheckpointError, listed
from tl.checkpoints.files import local_file
from tl.reading import versions_in
from tl.runs.folders import best_checkpoint, latest_checkpoint

# timm's way of writing it, and huggingface_hub's; a Path collapses two slashes into one
_HUB = re.compile(r"(?:hf[-_]hub:|hf:/+(?:models/)?)(.*)")
_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def located(given: str | Path) -> Path:
    """Return the file or folder that a user means; an address or a repository is downloaded.

    Args:
        given: A path, an ``https://`` address, or ``hf-hub:user/repository``, also with
            ``@revision``, or as ``hf://user/repository``.

    Raises:
        CheckpointError: If it does not exist, or cannot be downloaded.
    """
    if (hub := _HUB.fullmatch(str(given))) is None:
        return _existing(local_file(given))
    name = _REPOSITORY.fullmatch(hub.group(1))
    if name is None:
        raise CheckpointError(
            f"{given} does not name a repository of the Hugging Face Hub; expected "
            "hf-hub:user/repository or hf-hub:user/repository@revision."
        )
    return hub_model(name.group(1), name.group(2))


def _existing(path: Path) -> Path:
    if path.exists() or not _REPOSITORY.fullmatch(str(path)) or path.suffix:
        return path  # the reader of the file reports that there is none
    raise CheckpointError(
        f"{path}: no such file or folder; for a repository of the Hugging Face Hub, write "
        f"hf-hub:{path}."
    )


def checkpoint_in(place: Path) -> Path:
    """Return the checkpoint that a file or folder stands for.

    Args:
        place: A checkpoint, a run folder (its best checkpoint), a folder of runs (the newest), or
            a folder with a single checkpoint, as in a repository.

    Raises:
        CheckpointError: If a folder holds none, or several.
    """
    if not place.is_dir():
        return place
    if found := best_checkpoint(place):
        return found
    if versions_in(place):
        return latest_checkpoint(place)
    files = sorted(place.glob("[!.]*.ckpt"))
    if len(files) == 1:
        return files[0]
    if files:
        raise CheckpointError(
            f"{place}: holds {len(files)} checkpoints, {listed(f.name for f in files)}; choose one."
        )
    if names := sorted(each.name for each in place.iterdir() if versions_in(each)):
        raise CheckpointError(f"{place}: holds the runs {listed(names)}; choose one.")
    raise CheckpointError(
        f"{place}: is a folder without runs; expected a run folder (with checkpoints/), a folder "
        "of version_N, or a checkpoint."
    )
