"""Two ways to choose an epoch: by labelled sources, and by labels that training withholds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tl.callbacks.checkpoint import best_of
from tl.modules.base import SharedBackboneModule
from tl.tasks import Task


class OracleSelection(Callback):
    """Report what an unlabelled source scores at the chosen epoch, and at its best one.

    A run is chosen by validation on labelled sources. Published tables of domain adaptation often
    choose by target labels instead, which nobody has who needs the method. For each task whose
    source has ``labels: none``, this logs ``val/<task>/oracle_<score>_at_chosen``, its validation
    score (``acc`` of a classification) at the epoch that the run's checkpoint holds, and
    ``val/<task>/oracle_<score>_at_best``, its best over all epochs. The gap is what the choice by
    target labels adds. The command line adds this callback to runs with such a source.
    """

    def __init__(self) -> None:
        self._chosen: float | None = None  # the monitored value at the chosen epoch
        self._honest: dict[str, tuple[float, int]] = {}  # score and epoch by task
        self._oracle: dict[str, tuple[float, int]] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare an epoch with the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics, epoch = trainer.callback_metrics, trainer.current_epoch
        scores = {
            name: (float(metrics[metric]), task.higher_is_better)
            for name, metric, task in _withheld(pl_module)
            if metric in metrics
        }
        for name, (score, higher) in scores.items():
            known = self._oracle.get(name)
            if known is None or (score > known[0] if higher else score < known[0]):
                self._oracle[name] = (score, epoch)
        best = best_of(trainer)
        monitor = None if best is None else best.monitor
        if best is not None and monitor is not None:
            if monitor not in metrics:  # nothing is chosen yet
                return
            value = float(metrics[monitor])
            before = self._chosen
            better = before is None or (value > before if best.mode == "max" else value < before)
            if not better:
                return
            self._chosen = value
        # without a monitor the last epoch is kept
        self._honest = {name: (score, epoch) for name, (score, _) in scores.items()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both."""
        kinds = {name: task.score for name, _, task in _withheld(pl_module)}
        for way, found in (("chosen", self._honest), ("best", self._oracle)):
            values = {
                f"val/{name}/oracle_{kinds[name]}_at_{way}": score
                for name, (score, _) in found.items()
            }
            if values:
                pl_module.log_dict(values, sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say both; epochs count from 1, as in the table of a run."""
        for name, _, task in _withheld(pl_module):
            if name in self._honest and name in self._oracle:
                (honest, chosen), (oracle, best) = self._honest[name], self._oracle[name]
                rank_zero_info(
                    f"tl: {name}: {task.score} {honest:.4f} at the epoch chosen by labelled "
                    f"sources ({chosen + 1}), {oracle:.4f} at its own best ({best + 1}), which "
                    "only the withheld labels tell."
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what was best so far."""
        return {
            "chosen": self._chosen,
            "honest": {name: list(found) for name, found in self._honest.items()},
            "oracle": {name: list(found) for name, found in self._oracle.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was best so far."""
        self._chosen = state_dict["chosen"]
        for way in ("honest", "oracle"):
            found = {name: (float(s), int(e)) for name, (s, e) in state_dict[way].items()}
            setattr(self, f"_{way}", found)


def _withheld(module: LightningModule) -> Iterator[tuple[str, str, Task]]:
    """Yield the tasks of sources whose labels are withheld, with the metric of their score."""
    if isinstance(module, SharedBackboneModule):
        withheld = getattr(module.datamodule, "withheld_sources", ())
        for name, task in module.tasks.items():
            if task.source in withheld and task.supervised:
                yield name, module.metric("val", name, task.score), task
