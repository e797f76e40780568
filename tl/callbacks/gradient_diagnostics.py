"""How the tasks' gradients relate during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from tl.balancing.gradients import Rows
from tl.callbacks.task_measurement import (
    TaskMeasurement,
    beside_training,
    fill_rows,
    over_processes,
    trained_stages,
)
from tl.modules.batch import AnyBatch
from tl.modules.multitask import MultiTaskModule
from tl.modules.optimisation import scaler_of
from tl.modules.picture_log import log_figure, takers
from tl.questions.affinity import PairMeans, cosines, first_order, norms_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "backbone"
_COSINE = "balance/cosine/"
_FEW = 8  # tasks whose pairs have a curve each: 28 pairs
_HISTORY = 512  # maximum columns of the heat map; beyond it, every second one is dropped


class GradientDiagnostics(TaskMeasurement):
    """Measure the tasks' gradients on the shared parameters, with or without a balancer.

    Logged by name, for the whole backbone and, with ``/<stage>`` appended, for each stage that
    trains: ``balance/cosine/<a>-<b>`` in [-1, 1] (below 0 the tasks are in conflict; Yu et al.,
    2020, arXiv:2001.06782, definition 1), ``balance/<task>/norm``, ``balance/norm_ratio``
    (largest over smallest norm, 1 or more), and ``balance/conflict_rate``, the share of pairs
    of tasks in conflict over the last `window` measurements. ``balance/<task>/weight`` is
    logged by the module if there is a balancer, and here, as 1, if there is none. TensorBoard
    also shows the cosines over time as a heat map, once per epoch. More than eight tasks have
    too many pairs for curves: ``balance/cosine/mean`` and ``balance/cosine/lowest`` of the
    pairs stand for them, norms are those of the whole backbone, and the picture is the mean
    cosine of each pair so far. Gradients are those of the unweighted losses, on the first
    micro-batch of a step, averaged over the processes.

    The callback also keeps, in checkpoints, for each pair of tasks and each stage the mean and the
    standard error of the cosine and of the affinity ``eta <g_i, g_j> / L_j``: to first order, the
    share by which a step for task i lowers the loss of task j (Fifty et al., 2021,
    arXiv:2109.04617). ``tl group`` divides the tasks by it.

    Cost of a measurement: one more forward pass and a backward pass per task, and one float per
    task and shared parameter. With two tasks on shared images that is about the time of two steps:
    2 % of a run at the default of every 100 steps. Training itself is unaffected: running
    statistics and random numbers are restored.

    Args:
        every_n_steps: Optimizer steps between measurements, 1 or more.
        window: Measurements in the conflict rate, 1 or more.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(self, every_n_steps: int = 100, window: int = 20) -> None:
        super().__init__(every_n_steps)
        if window < 1:
            raise ValueError(f"`window` must be 1 or more, got {window}.")
        self.window = window
        self._steps: list[int] = []
        self._cosines: list[dict[str, float]] = []
        self._conflicts: list[list[int]] = []
        #: By stage, ``backbone`` being all of them: means over the measurements of each pair.
        self.affinities: dict[str, PairMeans] = {}
        self.cosines: dict[str, PairMeans] = {}

    def measure_step(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch, step: int
    ) -> dict[str, float]:
        """Return cosines, norms, the conflict rate and, without a balancer, weights of 1."""
        values = self.measure(trainer, module, batch)
        few = len(module.trained_tasks) <= _FEW
        self._remember(step, values, history=few)
        values["balance/conflict_rate"] = self.conflict_rate()
        if module.balancer is None:
            values |= {f"balance/{task}/weight": 1.0 for task in module.trained_tasks}
        if not few:
            values = summarised(values)
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def measure(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch
    ) -> dict[str, float]:
        """Return cosines, norms and their ratios by metric name, see :func:`compared`."""
        stages = trained_stages(module)
        if not stages:
            return {}
        rows = Rows([p for found in stages.values() for p in found], len(module.trained_tasks))
        losses = self._fill(trainer, module, batch, rows)
        sizes = [sum(p.numel() for p in found) for found in stages.values()]
        grams = {
            stage: part @ part.T
            for stage, part in zip(stages, torch.split(rows.matrix, sizes, dim=1), strict=True)
        }
        tasks = list(module.trained_tasks)
        self._keep(tasks, grams, losses, rates_of(trainer, stages))
        values = compared(tasks, torch.stack(list(grams.values())).sum(0))
        if len(grams) > 1:
            for stage, gram in grams.items():
                found = compared(tasks, gram)
                values |= {f"{name}/{stage}": value for name, value in found.items()}
        return values

    def _keep(
        self,
        tasks: list[str],
        grams: Mapping[str, Tensor],
        losses: Tensor,
        rates: Mapping[str, float],
    ) -> None:
        """Add a measurement to the means of the whole backbone and of each stage."""
        found = {stage: rates[stage] * gram.double() for stage, gram in grams.items()}
        scaled = {ALL: torch.stack(list(found.values())).sum(0)}
        plain = {ALL: torch.stack(list(grams.values())).sum(0)}
        if len(grams) > 1:
            scaled, plain = {**scaled, **found}, {**plain, **grams}
        for stage, gram in plain.items():
            for kept, values in (
                (self.affinities, first_order(scaled[stage], losses, 1.0)),
                (self.cosines, cosines(gram)),
            ):
                if kept.get(stage) is None or kept[stage].tasks != tasks:
                    kept[stage] = PairMeans(tasks)
                kept[stage].add(values)

    def _fill(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch, rows: Rows
    ) -> Tensor:
        """Compute the rows, averaged over the processes, and restore everything else.

        Returns:
            The losses ``(T,)``, NaN of a task that the batch has not.
        """
        scaler = scaler_of(trainer)
        with beside_training(module):
            scale = float(scaler.get_scale()) if scaler is not None else 1.0
            losses = fill_rows(trainer, module, batch, rows, scale)
        missing = rows.matrix.new_tensor(torch.nan)
        values = [losses.get(task, missing).detach().float() for task in module.trained_tasks]
        return over_processes(trainer, torch.stack(values))

    # State

    def _remember(self, step: int, values: Mapping[str, float], *, history: bool = True) -> None:
        cosines = {k.removeprefix(_COSINE): v for k, v in values.items() if k.startswith(_COSINE)}
        if history:
            self._steps.append(step)
            self._cosines.append(cosines)
        if len(self._steps) > _HISTORY:
            self._steps, self._cosines = self._steps[::2], self._cosines[::2]
        whole = [v for k, v in cosines.items() if "/" not in k and not math.isnan(v)]
        self._conflicts.append([sum(v < 0 for v in whole), len(whole)])
        self._conflicts = self._conflicts[-self.window :]

    def conflict_rate(self) -> float:
        """Fraction of pairs in conflict over the last measurements, 0 to 1; NaN without a pair."""
        pairs = sum(count for _, count in self._conflicts)
        return sum(found for found, _ in self._conflicts) / pairs if pairs else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Save the history, so that a resumed run continues the heat map."""
        return {
            "steps": list(self._steps),
            "cosines": [dict(one) for one in self._cosines],
            "conflicts": [list(one) for one in self._conflicts],
            "measured": self._measured,
            "affinities": {stage: means.state() for stage, means in self.affinities.items()},
            "pair_cosines": {stage: means.state() for stage, means in self.cosines.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history."""
        self._steps = list(state_dict["steps"])
        self._cosines = [dict(one) for one in state_dict["cosines"]]
        self._conflicts = [list(one) for one in state_dict["conflicts"]]
        self._measured = state_dict["measured"]
        # runs of earlier versions kept none
        kept = (state_dict.get(key) or {} for key in ("affinities", "pair_cosines"))
        self.affinities, self.cosines = (
            {stage: PairMeans.from_state(state) for stage, state in each.items()} for each in kept
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the cosines over time, of many tasks their means."""
        if not takers(trainer):
            return
        if self.cosines and len(self.cosines[ALL].tasks) > _FEW:
            log_figure(trainer, "balance/cosines", matrix(self.cosines[ALL]), trainer.global_step)
        elif any(self._cosines):
            figure = heat_map(self._steps, self._cosines)
            log_figure(trainer, "balance/cosine_over_time", figure, trainer.global_step)


def rates_of(trainer: Trainer, stages: Mapping[str, list[torch.nn.Parameter]]) -> dict[str, float]:
    """Return the learning rate of each stage in the coming step; that of its first parameter."""
    rates = {
        id(parameter): float(group["lr"])
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {stage: rates.get(id(found[0]), 0.0) for stage, found in stages.items()}


def compared(tasks: list[str], gram: Tensor) -> dict[str, float]:
    """Compare gradients by their inner products.

    Args:
        tasks: Names of the tasks.
        gram: Inner products of their gradients ``(T, T)``.

    Returns:
        Cosines, norms and their ratio by metric name; NaN where a gradient is zero or overflowed.
    """
    inner = gram.double().cpu()
    norms = norms_of(inner)
    values = {f"balance/{task}/norm": float(norm) for task, norm in zip(tasks, norms, strict=True)}
    every = cosines(inner)
    for (i, a), (j, b) in combinations(enumerate(tasks), 2):
        values[f"{_COSINE}{a}-{b}"] = float(every[i, j])
    smallest = float(norms.min())
    values["balance/norm_ratio"] = float(norms.max()) / smallest if smallest > 0 else math.nan
    return values


def summarised(values: Mapping[str, float]) -> dict[str, float]:
    """Put the mean and the lowest in place of the pairs' cosines, and leave out stages' norms."""
    found: dict[str, float] = {}
    cosines: dict[str, list[float]] = {}
    for name, value in values.items():
        if name.startswith(_COSINE):
            _, slash, stage = name.removeprefix(_COSINE).partition("/")
            cosines.setdefault(slash + stage, []).extend([] if math.isnan(value) else [value])
        elif name.count("/") <= 2 or name.split("/")[2] != "norm":  # noqa: PLR2004 - of a stage
            found[name] = value
    for stage, each in cosines.items():
        if each:
            found[f"{_COSINE}mean{stage}"] = sum(each) / len(each)
            found[f"{_COSINE}lowest{stage}"] = min(each)
    return found


def matrix(cosines: PairMeans) -> Figure:
    """Plot the mean cosine of each pair of tasks."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is drawn

    size = len(cosines.tasks)
    values = cosines.mean().fill_diagonal_(math.nan)  # a task's own is 1
    most = float(values.nan_to_num(0).abs().max()) or 1.0
    figure = Figure(figsize=(2.5 + 0.3 * size, 2 + 0.3 * size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values.tolist(), vmin=-most, vmax=most, cmap="RdBu", interpolation="none")
    figure.colorbar(image, ax=axes, label="cosine")
    axes.set_xticks(range(size), cosines.tasks, rotation=90)
    axes.set_yticks(range(size), cosines.tasks)
    axes.set(title=f"cosine of two tasks' gradients\nmean of {cosines.seen} measurements")
    return figure


def heat_map(steps: list[int], cosines: list[dict[str, float]]) -> Figure:
    """Plot cosines over time: a row per pair of tasks and stage, a column per measurement.

    Args:
        steps: Optimizer step of each measurement, ascending.
        cosines: Cosines by ``<a>-<b>`` or ``<a>-<b>/<stage>`` of each measurement.
    """
    names = list(dict.fromkeys(name for one in cosines for name in one))
    table = [[one.get(name, math.nan) for one in cosines] for name in names]
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is drawn

    figure = Figure(figsize=(8, 1.5 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(table, aspect="auto", vmin=-1, vmax=1, cmap="RdBu", interpolation="none")
    figure.colorbar(image, ax=axes, label="cosine")
    axes.set_yticks(range(len(names)), [n if "/" in n else f"{n}/{ALL}" for n in names])
    shown = sorted({round(i * (len(steps) - 1) / 7) for i in range(8)})
    axes.set_xticks(shown, [str(steps[i]) for i in shown])
    axes.set(xlabel="optimizer step", title="cosine between the tasks' gradients")
    return figure
