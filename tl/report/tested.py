"""Tested runs, as their folders hold them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class TestedRun:
    """What a run reached on its test set.

    Args:
        folder: The run folder of the test.
        metrics: Metrics by name.
        fingerprints: Hash of the data by source.
        seed: ``seed_everything`` of the run; ``None`` where its configuration is not there.
    """

    folder: Path
    metrics: dict[str, float]
    fingerprints: dict[str, str]
    seed: int | None


def find_tested(folder: Path) -> TestedRun | None:
    """Find the test among the versions of a run.

    Args:
        folder: ``<log_dir>/<name>``, which holds ``version_N`` folders, or one of these.

    Returns:
        The first version that was tested; ``None`` if there is none.
    """
    versions = sorted(folder.glob("version_*/results.json"), key=_version)
    for path in [folder / "results.json", *versions]:
        if not path.exists():
            continue
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "test/acc" not in content["metrics"]:
            continue
        data = content.get("data") or {}
        return TestedRun(
            folder=path.parent,
            metrics=content["metrics"],
            fingerprints={
                name: about["fingerprint"] for name, about in data.items() if "fingerprint" in about
            },
            seed=_seed(path.parent / "config.yaml"),
        )
    return None


def read_tested(folder: Path) -> TestedRun:
    """Read a run that must have been tested.

    Args:
        folder: As for :func:`find_tested`.

    Raises:
        ValueError: If it was not.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no run folder {folder}.")
    found = find_tested(folder)
    if found is None:
        raise ValueError(
            f"{folder} holds no results on test images; run `python -m tl.cli test` with the "
            "run's configuration, and give the folder that it makes."
        )
    return found


def _version(results: Path) -> int:
    number = results.parent.name.removeprefix("version_")
    return int(number) if number.isdecimal() else sys.maxsize


def _seed(config: Path) -> int | None:
    if not config.exists():
        return None
    seed = yaml.safe_load(config.read_text(encoding="utf-8")).get("seed_everything")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None
