"""``results.json``: what a run reached, on which data, from which weights, at what cost."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from tl import __version__
from tl.callbacks.checkpoint import best_of
from tl.callbacks.epoch_table import EpochTable, speed_of
from tl.callbacks.surroundings import callbacks_of, data_of, description_of
from tl.callbacks.test_time import TestTimeAdaptation
from tl.checkpoints.whole_files import write_json
from tl.data.trained_on import sources_of
from tl.hardware import peak_memory_bytes
from tl.report.intervals import finite
from tl.report.results import RESUMED, read_results


class RunResults(Callback):
    """Write the run folder's ``results.json`` at the end of fit, validate and test.

    Its keys: ``metrics`` (flat, by metric name, of the last epoch; ``best`` holds the best
    checkpoint's score, and on the command line its epoch and all metrics of its validation),
    ``samples`` (by split and task: number of labelled samples evaluated, ``from``, and in the
    split, ``of``), ``scores`` (by task: which way each score is better,
    ``max`` or ``min``, the one that decides first), ``data`` (description and fingerprint per
    source), ``provenance`` (where the initial weights came from), ``versions``, ``seconds``,
    ``images_per_second``, ``mfu`` and ``data_share`` (both of training, see `Throughput`),
    ``peak_memory_bytes`` (of the GPU if there is one, otherwise of the process).

    A test or validation of a finished run keeps what training wrote: ``test/`` metrics replace
    those of an earlier test, and ``evaluated`` records by split the checkpoint and data used, with
    all metrics and samples. The file is written under a temporary name and renamed, so it is
    complete or absent. A run that resumes another writes ``resumed.json`` at its start, with the
    key ``resumed_from`` alone: if it is killed, its curve can still be joined to the earlier one.

    Without a logger the Trainer has no run folder, and nothing is written. On the command line a
    run always has one.

    Args:
        filename: Name of the file in the run folder.
    """

    def __init__(self, filename: str = "results.json") -> None:
        self.filename = filename
        self._start = time.perf_counter()
        self._metrics: dict[str, float | None] = {}
        self._evaluated: dict[str, Any] = {}
        self._resumed_from: str | Path | None = None
        self._of_training: dict[str, float | None] = {"mfu": None, "data_share": None}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and reset the peak memory."""
        self._begin()
        self._metrics, self._evaluated = {}, {}
        self._resumed_from = trainer.ckpt_path
        folder = _folder(trainer)
        if folder is not None and self._resumed_from is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RESUMED, self._resumed(folder))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock for a stand-alone evaluation."""
        if trainer.state.fn != "fit":
            self._begin()

    on_test_start = on_validation_start

    def _begin(self) -> None:
        self._start = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results."""
        self._write(trainer, pl_module)

    on_test_end = on_fit_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of a stand-alone validation."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = _folder(trainer)
        if folder is None:
            return
        speed = speed_of(trainer)
        if speed is not None and trainer.state.fn == "fit":
            self._of_training = {"mfu": speed.mfu, "data_share": speed.data_share}
        found = {name: number(value) for name, value in trainer.callback_metrics.items()}
        self._metrics |= found
        description = description_of(trainer)
        data = None if description is None else sources_of(description)
        samples = samples_of(pl_module, trainer)
        path = folder / self.filename
        try:
            earlier = read_results(path)
        except ValueError:
            earlier, aside = {}, path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            rank_zero_warn(f"{path} is damaged: it is kept as {aside.name} and begins anew.")
        if trainer.state.fn != "fit":
            split = "test" if trainer.state.fn == "test" else "val"
            self._evaluated[split] = {
                "checkpoint": trainer.ckpt_path and os.path.relpath(trainer.ckpt_path, folder),
                "metrics": {k: v for k, v in sorted(found.items()) if k.startswith(f"{split}/")},
                "samples": samples.get(split, {}),
                "data": data,
            }
            adapting = callbacks_of(trainer, TestTimeAdaptation)  # type: ignore[type-abstract]  # or a subclass
            adapted = [each.adaptation for each in adapting]
            if adapted and split == "test":
                self._evaluated[split]["adaptation"] = adapted
            if earlier.get("metrics") is not None:  # from training, or an earlier evaluation
                if split == "test":
                    added = self._evaluated["test"]["metrics"]
                    kept = {k: v for k, v in earlier["metrics"].items() if k[:5] != "test/"}
                    earlier["metrics"] = dict(sorted({**kept, **added}.items()))
                    earlier["samples"] = {
                        **(earlier.get("samples") or {}),
                        "test": samples.get("test"),
                    }
                earlier["scores"] = {**(earlier.get("scores") or {}), **scores_of(pl_module)}
                earlier["evaluated"] = {**(earlier.get("evaluated") or {}), **self._evaluated}
                write_json(path, earlier)
                return
        best = best_of(trainer)
        results: dict[str, Any] = {
            "metrics": dict(sorted(self._metrics.items())),
            "best": None,
            # an evaluation does not know the length of training
            "epochs": trainer.current_epoch if trainer.state.fn == "fit" else None,
            "steps": trainer.global_step if trainer.state.fn == "fit" else None,
            "samples": samples,
            "scores": scores_of(pl_module),
            "data": data,
            "provenance": getattr(pl_module, "provenance", None),
            "versions": versions(),
            **self._resumed(folder),
            "seconds": round(time.perf_counter() - self._start, 3),
            "images_per_second": speed.images_per_second if speed else None,
            **self._of_training,
            "evaluated": self._evaluated,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        if best is not None and best.best_model_path:
            results["best"] = {
                "checkpoint": os.path.relpath(best.best_model_path, folder),
                "monitor": best.monitor,
                "score": number(best.best_model_score),
                **_best_epoch(trainer),
            }
        write_json(path, results)

    def _resumed(self, folder: Path) -> dict[str, str | None]:
        checkpoint = self._resumed_from
        return {"resumed_from": None if not checkpoint else os.path.relpath(checkpoint, folder)}


def _folder(trainer: Trainer) -> Path | None:
    """Return the run folder to write to: that of the first process, if there is one."""
    folder = trainer.log_dir  # all processes must call this: the first broadcasts to the others
    nowhere = not trainer.loggers or trainer.fast_dev_run  # type: ignore[attr-defined]
    if folder is None or nowhere or not trainer.is_global_zero:
        return None
    return Path(folder)


def _best_epoch(trainer: Trainer) -> dict[str, Any]:
    """Return the best epoch, counted from 1, and all metrics of its validation, if known."""
    table = next(iter(callbacks_of(trainer, EpochTable)), None)
    best = best_of(trainer)
    if table is None or table.best_epoch is None or best is None:
        return {}
    if table.best.get(str(best.monitor)) != number(best.best_model_score):
        return {}  # that epoch's checkpoint could not be written
    metrics = {name: number(value) for name, value in sorted(table.best.items())}
    return {"epoch": table.best_epoch + 1, "metrics": metrics}


def samples_of(module: LightningModule, trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Return by split and task how many labelled samples were evaluated, of how many.

    Args:
        module: The module; the result is empty unless it is one of ours.
        trainer: Its trainer; one of our data modules knows the sizes of its splits.
    """
    found: dict[str, dict[str, Any]] = {}
    for split, tasks in getattr(module, "samples", {}).items():
        for name, count in tasks.items():
            task = getattr(module, "tasks", {}).get(name)
            owner = data_of(trainer, getattr(task, "source", None))
            whole = getattr(owner, "splits", {}).get(split)
            found.setdefault(split, {})[name] = {
                "from": count,
                # a split does not know how many pixels have a label, nor what is masked
                "of": None if whole is None or _counts_other(task) else _size(whole, task),
            }
    return found


def scores_of(module: LightningModule) -> dict[str, dict[str, str]]:
    """Return by task which way its scores are better, the one that decides first.

    Args:
        module: The module; the result is empty unless it is one of ours.
    """
    found: dict[str, dict[str, str]] = {}
    for name, task in getattr(module, "tasks", {}).items():
        metrics = task.scores()
        for score in sorted(metrics, key=lambda each: each != task.score):
            higher = metrics[score].higher_is_better
            way = None if higher is None else ("max" if higher else "min")
            if known := task.directions.get(score, way):
                found.setdefault(name, {})[score] = known
    return found


def _counts_other(task: object) -> bool:
    """Whether a task counts pixels, tokens or queries instead of samples."""
    on_pixels = getattr(task, "on_pixels", False)
    return bool(on_pixels or not getattr(task, "counts_samples", True))


def _size(split: Any, task: Any) -> int:  # noqa: ANN401 - whatever a data module has
    """Return how many samples of a split have a target, if known, else how many it has."""
    return len(split) if task is None or not hasattr(split, "labelled") else split.labelled(task)


def number(value: Any) -> float | None:  # noqa: ANN401 - a tensor or a number
    """Return a metric as a JSON number; ``None`` if it is not finite."""
    return None if value is None else finite(float(value))


def versions() -> dict[str, str]:
    """Return the versions of the libraries involved, and the device's name."""
    found = {name: version(name) for name in ("torch", "torchvision", "lightning", "torchmetrics")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"tl": __version__, "python": platform.python_version(), **found, "device": device}
