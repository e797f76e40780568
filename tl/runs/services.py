"""Loggers of services by name, beside TensorBoard and CSV: Weights & Biases and MLflow."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tl.callbacks.task_names import NamesTask
from tl.checkpoints.whole_files import write_json
from tl.reading import read_object

#: Loggers that every run has.
ALWAYS = ("tensorboard", "csv")
#: Loggers that a run can have too, called as the packages that they need.
SERVICES = ("wandb", "mlflow")
_NOTES = "loggers.json"


def asked_services(names: str) -> list[str]:
    """Return the services among the names of loggers.

    Args:
        names: Separated by commas, such as ``tensorboard,wandb``.

    Raises:
        ValueError: If there is no logger of a name.
        ModuleNotFoundError: If a package is missing.
    """
    found = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    for name in found:
        if name not in (*ALWAYS, *SERVICES):
            known = ", ".join((*ALWAYS, *SERVICES))
            raise ValueError(f"`log` has no logger {name!r}; choose from {known}.")
    services = [name for name in found if name in SERVICES]
    for name in services:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"`--log {name}` needs {name}: pip install {name}.")
    return services


def service_loggers(services: Sequence[str], folder: Path, runs: Path) -> list[Logger]:
    """Return the loggers of services for a run: a new one, or one that is evaluated.

    What evaluates a run is logged to the run of the service that its training was logged to.

    Args:
        services: Their names.
        folder: The run's folder, ``<runs>/<name>/version_N``.
        runs: Folder of all runs.
    """
    known = _notes(folder)
    kinds = {"wandb": RunWandb, "mlflow": RunMLflow}
    return [kinds[name](folder, runs, known.get(name)) for name in services]


class RunWandb(NamesTask, WandbLogger):
    """Lightning's logger for Weights & Biases, for a run of ours.

    The run is called as its folder, ``<name>/version_N``, in the project ``$WANDB_PROJECT``, by
    default named after the folder of all runs. W&B's files lie in the run's folder. With
    ``WANDB_MODE=offline`` nothing is sent; ``wandb sync`` does that later.

    Args:
        folder: The run's folder.
        runs: Folder of all runs.
        number: Id of the run at W&B; by default a new one.
    """

    def __init__(self, folder: Path, runs: Path, number: str | None = None) -> None:
        if os.environ.get("WANDB_MODE") == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # that would be sent
        self._folder = folder
        self._open: Any = None
        self._begun = False
        self._settings = {
            "name": f"{folder.parent.name}/{folder.name}",
            "project": os.environ.get("WANDB_PROJECT") or runs.absolute().name,
            "group": folder.parent.name,
            "dir": str(folder),
            "id": number or uuid.uuid4().hex[:12],
            "resume": "allow",
        }
        super().__init__(save_dir=str(folder), id=self._settings["id"])

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - of an optional package
        """The run at W&B: one of the user's that is open, or else a new one."""
        if self._open is None:
            wandb = import_module("wandb")
            self._begun = wandb.run is None
            self._open = wandb.init(**self._settings) if self._begun else wandb.run
            # as Lightning's logger does: steps are the run's own, not W&B's count of calls
            self._open.define_metric("trainer/global_step")
            self._open.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            _note(self._folder, "wandb", str(self._open.id))
        return self._open

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, so that the next one of this process does not continue it."""
        super().finalize(status)
        if self._open is not None and self._begun:
            self._open.finish(exit_code=0 if status == "success" else 1)
            self._open = None  # a test after training opens it again, by its id


class RunMLflow(NamesTask, MLFlowLogger):
    """Lightning's logger for MLflow, for a run of ours.

    The experiment is called as the run, its runs ``version_N``. They go to
    ``$MLFLOW_TRACKING_URI``, by default to the folder ``mlruns`` beside the runs, without any
    network: ``MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri lightning_logs/mlruns``.

    Args:
        folder: The run's folder.
        runs: Folder of all runs.
        number: Id of the run at MLflow; by default a new one.
    """

    def __init__(self, folder: Path, runs: Path, number: str | None = None) -> None:
        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            address = (runs.absolute() / "mlruns").as_uri()
            # since MLflow 3.7 folders must be allowed, and versions of 3 report their use
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._folder, self._noted = folder, False
        super().__init__(
            experiment_name=folder.parent.name,
            run_name=folder.name,
            tracking_uri=address,
            tags={"folder": str(folder)},
            run_id=number,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - of an optional package
        """The client."""
        made = super().experiment
        if not self._noted:
            self._noted = True  # at once: `run_id` asks for the client again
            _note(self._folder, "mlflow", str(self.run_id))
        return made


def _notes(folder: Path) -> dict[str, str]:
    """Return the ids of a run at services."""
    return {name: str(number) for name, number in read_object(folder / _NOTES).items()}


def _note(folder: Path, service: str, number: str) -> None:
    """Write down the id of a run, for evaluations."""
    known = _notes(folder)
    if known.get(service) != number:
        write_json(folder / _NOTES, {**known, service: number})
