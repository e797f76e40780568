"""The source that a run started from, without what follows from its seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.report.finished_run import flat
from tl.report.results import read_configuration

#: The seed of a run.
SEED = "seed_everything"
#: The seed of its data, which follows the other unless it is set.
DATA_SEED = "data.init_args.seed"
# follow from the seed, or say where a run lies
_ASIDE = (SEED, DATA_SEED, "name", "log_dir", "ckpt_path", "resume", "shifts", "severities")
_IN_STUDY = re.compile(r"-[0-9a-f]{10}(?=/)")  # a study names its folders by a hash
_BY_SEED = re.compile(rf"seed=-?\d+|{_IN_STUDY.pattern}|version_\d+")
# what its seed changes in the record of a source, where files lie, and how the run loaded it
_NO_SETTINGS = (
    *("sha256", "epoch", "global_step", "seed", "mean", "std"),
    *("path", "root", "loaded", "reinitialised", "unused"),
)


def is_source(key: str) -> bool:
    """Tell whether a setting names the source that a run started from."""
    return key.rpartition(".")[2] == "init_from"


def is_aside(key: str) -> bool:
    """Tell whether a setting follows from the seed, or says where a run lies."""
    return key in _ASIDE or key.endswith(".dirpath")


def source_settings(path: str, provenance: Mapping[str, Any] | None) -> object:
    """Return what is known of a source apart from its seed, equal for seeds of one setting.

    Known are the configuration beside the checkpoint, if it is still there, and what the run
    recorded of the source. A study's folders differ in their seed alone. Of other sources without
    a record only the path is known, so that two of them are never the same setting.

    Args:
        path: The checkpoint, as ``init_from`` names it.
        provenance: The run's record of it.
    """
    configuration = _configuration(Path(path))
    plain = _BY_SEED.sub("", path)
    if _IN_STUDY.search(path):
        return [plain, configuration]
    if configuration is None and provenance is None:
        return path
    return [plain, configuration, _without_seed(provenance)]


def _configuration(checkpoint: Path) -> dict[str, Any] | None:
    """Return the settings of the run that wrote a checkpoint; ``None`` if they are gone."""
    if checkpoint.parent.name != "checkpoints":
        return None
    try:
        found = read_configuration(checkpoint.parent.parent / "config.yaml")
    except ValueError:
        return None
    settings = {key: value for key, value in flat(found).items() if not is_aside(key)}
    for key in filter(is_source, settings):  # the record tells the source of a source
        settings[key] = _BY_SEED.sub("", str(settings[key]))
    return settings or None


def _without_seed(record: object) -> object:
    if isinstance(record, Mapping):
        return {k: _without_seed(v) for k, v in record.items() if k not in _NO_SETTINGS}
    return [_without_seed(each) for each in record] if isinstance(record, list) else record
