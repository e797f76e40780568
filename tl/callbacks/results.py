"""``results.json``: what a run reached, on what, from where, and at what cost."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from tl import __version__
from tl.callbacks.atomic_io import write_whole
from tl.callbacks.memory import peak_memory_bytes
from tl.callbacks.throughput import Throughput


class RunResults(Callback):
    """Write the run folder's ``results.json`` at the end of fit, validate and test.

    Its keys: ``metrics`` (flat, by metric name, of the last epoch; ``best`` holds the best
    checkpoint's score), ``data`` (description and fingerprint per source), ``provenance`` (where
    the start weights came from), ``versions``, ``seconds``, ``images_per_second``, ``mfu`` and
    ``data_share`` (both of training, see `Throughput`), ``peak_memory_bytes`` (of the GPU where
    there is one, else of the process).

    A later stage of the same trainer (a test after a fit) adds its metrics to the same file. The
    file is written beside its final name and renamed, so it is whole or absent.

    Without a logger there is no run folder, and nothing is written.

    Args:
        filename: Name of the file in the run folder.
    """

    def __init__(self, filename: str = "results.json") -> None:
        self.filename = filename
        self._start = time.perf_counter()
        self._metrics: dict[str, float | None] = {}
        self._of_training: dict[str, float | None] = {"mfu": None, "data_share": None}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the memory's high-water mark."""
        self._begin()
        self._metrics = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock where validation is all there is."""
        if trainer.state.fn == "validate":
            self._begin()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results where validation is all there is."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir  # all processes must ask: the first one tells the others
        nowhere = folder is None or not trainer.loggers or trainer.fast_dev_run  # type: ignore[attr-defined]
        if folder is None or nowhere or not trainer.is_global_zero:
            return
        speed = next((c for c in trainer.callbacks if isinstance(c, Throughput)), None)  # type: ignore[attr-defined]
        if speed is not None and trainer.state.fn == "fit":
            self._of_training = {"mfu": speed.mfu, "data_share": speed.data_share}
        self._metrics |= {name: number(value) for name, value in trainer.callback_metrics.items()}
        describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
        best = trainer.checkpoint_callback
        results: dict[str, Any] = {
            "metrics": dict(sorted(self._metrics.items())),
            "best": None,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "data": by_source(describe()) if callable(describe) else None,
            "provenance": getattr(pl_module, "provenance", None),
            "versions": versions(),
            "seconds": round(time.perf_counter() - self._start, 3),
            "images_per_second": speed.images_per_second if speed else None,
            **self._of_training,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        if isinstance(best, ModelCheckpoint) and best.best_model_path:
            results["best"] = {
                "checkpoint": os.path.relpath(best.best_model_path, folder),
                "monitor": best.monitor,
                "score": number(best.best_model_score),
            }
        write_json(Path(folder) / self.filename, results)


def by_source(description: dict[str, Any]) -> dict[str, Any]:
    """Sort a data description by source, also that of a single one."""
    return {description["name"]: description} if "fingerprint" in description else description


def number(value: Any) -> float | None:  # noqa: ANN401 - a tensor or a number
    """Return a metric as a number that JSON has; ``None`` for what is not finite."""
    if value is None:
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all.

    Args:
        path: Its final name.
        content: Plain types.

    Raises:
        OSError: If it cannot be written, naming it.
    """
    write_whole(path, [(json.dumps(content, indent=2) + "\n").encode()])


def versions() -> dict[str, str]:
    """Versions of what took part, and the device's name."""
    found = {name: version(name) for name in ("torch", "torchvision", "lightning", "torchmetrics")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"tl": __version__, "python": platform.python_version(), **found, "device": device}
