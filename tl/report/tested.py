"""Read tested runs from their folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl.counting import counted
from tl.reading import versions_in
from tl.report.conditions import conditions_of_test
from tl.report.results import read_configuration, read_results


@dataclass(frozen=True)
class TestedRun:
    """The test results of a run.

    Args:
        folder: The run folder of the test.
        metrics: Metrics by name, without those that are no numbers.
        fingerprints: Hash of the data by source.
        seed: ``seed_everything`` of the run; ``None`` if its configuration is missing.
        length: Length of its training, such as ``3 epochs``, with any limit on the batches of an
            epoch; the maximum if early stopping may end it. ``None`` if unknown.
        steps: Optimization steps of its training; ``None`` if unknown, or if early stopping may end
            it.
        samples: Number of tested samples by task.
        parts: Tasks tested on a part of their split: tested and available samples.
        scores: By task, which way its scores are better, ``min`` or ``max``, the one that decides
            first; empty of runs of versions that did not write it, which had accuracies.
        adaptation: What adapted the network to the test inputs, in words; empty if nothing did.
    """

    folder: Path
    metrics: dict[str, float]
    fingerprints: dict[str, str]
    seed: int | None
    length: str | None = None
    steps: int | None = None
    samples: dict[str, int] = field(default_factory=dict)
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    scores: dict[str, dict[str, str]] = field(default_factory=dict)
    adaptation: str = ""


def find_tested(folder: Path) -> TestedRun | None:
    """Find the test among the versions of a run.

    Args:
        folder: ``<log_dir>/<name>`` with ``version_N`` folders, or one of those.

    Returns:
        The first version that was tested; ``None`` if there is none.

    Raises:
        ValueError: If its results or its configuration are damaged.
    """
    for run in [folder, *versions_in(folder)]:
        content = read_results(run / "results.json")
        if not any(name.startswith("test/") for name in content.get("metrics") or ()):
            continue
        # those of the test, which may use other data than training
        tested = (content.get("evaluated") or {}).get("test") or {}
        data = tested.get("data") or content.get("data") or {}
        samples = (content.get("samples") or {}).get("test") or {}
        samples = {task: count for task, count in samples.items() if count}
        return TestedRun(
            folder=run,
            metrics={k: v for k, v in content["metrics"].items() if v is not None},
            fingerprints={
                name: about["fingerprint"]
                for name, about in data.items()
                if isinstance(about, dict) and "fingerprint" in about
            },
            seed=_seed(config := read_configuration(run / "config.yaml")),
            length=_length(content, config),
            steps=None if _stops_early(config) else content.get("steps"),
            samples={task: count["from"] for task, count in samples.items()},
            parts={
                task: (count["from"], count["of"])
                for task, count in samples.items()
                if count.get("of") is not None and count["from"] != count["of"]
            },
            scores=content.get("scores") or {},
            adaptation=conditions_of_test(content).get("adaptation", ""),
        )
    return None


def read_tested(folder: Path) -> TestedRun:
    """Read a run, which must have been tested.

    Raises:
        ValueError: If it was not tested, or only on a part of the test images.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no run folder {folder}.")
    found = find_tested(folder)
    if found is None:
        raise ValueError(
            f"{folder} holds no results on test images; run `python -m tl.cli test` with the "
            "run's configuration."
        )
    for task, (count, whole) in found.parts.items():
        raise ValueError(
            f"{found.folder} was tested on {count} of the {whole} test samples of {task!r}; test "
            "it again without `limit_test_batches`, `overfit_batches` and `fast_dev_run`."
        )
    return found


def _trainer(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("trainer")
    return found if isinstance(found, dict) else {}


def _length(results: dict[str, Any], config: dict[str, Any]) -> str | None:
    trainer = _trainer(config)
    limits = {key: trainer.get(key) for key in ("limit_train_batches", "overfit_batches")}
    part = "".join(f" with {key}={value}" for key, value in limits.items() if _limits(value))
    if _stops_early(config):
        most = {unit: trainer.get(f"max_{unit}s") for unit in ("epoch", "step")}
        known = [counted(n, unit) for unit, n in most.items() if isinstance(n, int) and n != -1]
        return f"up to {' or '.join(known) or 'any length'}{part}"
    epochs = results.get("epochs")
    return None if epochs is None else f"{counted(epochs, 'epoch')}{part}"


def _stops_early(config: dict[str, Any]) -> bool:
    return "EarlyStopping" in str(_trainer(config).get("callbacks"))


def _limits(value: float | None) -> bool:
    """Return whether a limit cuts an epoch: 1.0 means all of it, 1 a single batch."""
    return bool(value) and not (isinstance(value, float) and value == 1.0)


def _seed(config: dict[str, Any]) -> int | None:
    seed = config.get("seed_everything")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None
