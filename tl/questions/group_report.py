"""Groups of tasks as a table that ends in a sentence, as JSON, as a figure, and as a study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tl.checkpoints.whole_files import write_json, write_whole
from tl.questions.affinity import PairMeans
from tl.questions.grouping import Grouping, Partition, random_partition
from tl.reading import read_yaml
from tl.report.frame import aligned
from tl.report.intervals import finite

#: Reliability below which affinities do not repeat well enough to group by.
LEAST_RELIABLE = 0.7
_TAIL = 0.025  # above the band of random partitions
_RANDOM = 5  # partitions in the study
_TRIES = 200
_SEEDS = 5


@dataclass(frozen=True)
class Groups:
    """Groups of a run's tasks.

    Args:
        run: The run.
        affinity: Means of the affinities.
        grouping: The groups found.
        agreement: Rank correlation with the exact look-ahead; NaN where that was not measured.
        stage: The part of the backbone whose gradients were measured.
    """

    run: str
    affinity: PairMeans
    grouping: Grouping
    agreement: float = math.nan
    stage: str = "backbone"

    @property
    def names(self) -> list[list[str]]:
        """The tasks of each group by name."""
        return [[self.affinity.tasks[task] for task in group] for group in self.grouping.groups]

    @property
    def reliability(self) -> float:
        """How well the affinities would repeat, see :meth:`PairMeans.reliability`."""
        return self.affinity.reliability()

    @property
    def reliable(self) -> bool:
        """Whether they repeat well enough to group by."""
        return self.reliability >= LEAST_RELIABLE


def table(found: Groups) -> str:
    """Return the groups as text."""
    best = found.grouping
    rows = [["group", "tasks"]]
    rows += [[str(n), ", ".join(names)] for n, names in enumerate(found.names, 1)]
    how = (
        "the best of all partitions, by dynamic programming"
        if best.exact
        else "the best of 60 searches from random starts: there may be a better one"
    )
    values = [
        ["partition", "mean affinity"],
        ["chosen", f"{best.value:.3g}"],
        ["all together", f"{best.together:.3g}"],
        ["alone", f"{best.alone:.3g}"],
        ["random, 95 %", f"{best.band[0]:.3g} to {best.band[1]:.3g}"],
    ]
    head = (
        f"{found.run}: {len(found.affinity.tasks)} tasks, {found.affinity.seen} measurements, "
        f"split-half reliability {found.reliability:.2f}, gradients of {found.stage}"
    )
    lines = [
        head,
        *aligned(rows),
        "",
        *aligned(values),
        f"The chosen partition is {how}.",
    ]
    if not math.isnan(found.agreement):
        lines.append(
            f"Rank correlation with the exact look-ahead of TaskAffinity: {found.agreement:.2f}."
        )
    return "\n".join([*lines, "", sentence(found)])


def sentence(found: Groups) -> str:
    """Return what the groups are worth, in a sentence."""
    best = found.grouping
    if math.isnan(found.reliability):
        return (
            f"Warning: {found.affinity.seen} measurements do not tell whether these affinities "
            "would repeat: do not group by them; measure more often, by a smaller "
            "`every_n_steps`, or train for longer."
        )
    if not found.reliable:
        return (
            f"Warning: with a reliability of {found.reliability:.2f} these affinities would not "
            f"repeat (from {LEAST_RELIABLE} they do): do not group by them; measure more often, by "
            "a smaller `every_n_steps`, or train for longer."
        )
    groups = " | ".join(", ".join(names) for names in found.names)
    few = best.own > _TAIL  # the band ends at the value of the groups themselves
    if best.value <= best.band[1] and not few:
        return f"No better than random partitions: {groups}."
    if best.value <= max(best.together, best.alone):
        name = "all together" if best.together >= best.alone else "alone"
        return f"Groups promise nothing over {name}; the best are {groups}."
    if few:
        return (
            f"Best by affinity: {groups}; but {100 * best.own:.0f} % of random partitions are "
            "these groups themselves: there are too few others to judge them by."
        )
    return f"Train together: {groups}; only training tells whether it helps."


def as_dict(found: Groups) -> dict[str, Any]:
    """Return the groups in plain types."""
    best = found.grouping
    return {
        "run": found.run,
        "stage": found.stage,
        "tasks": found.affinity.tasks,
        "measurements": found.affinity.seen,
        "reliability": finite(found.reliability),
        "reliable": found.reliable,
        "exact_agreement": finite(found.agreement),
        "groups": found.names,
        "value": best.value,
        "optimal": best.exact,
        "together": best.together,
        "alone": best.alone,
        "random": list(best.band),
        "random_that_are_chosen": best.own,
        "affinity": found.affinity.mean().tolist(),
        "standard_error": [[finite(v) for v in row] for row in found.affinity.error().tolist()],
        "sentence": sentence(found),
    }


def figure_of(found: Groups) -> Figure:
    """Draw the affinities as a heat map, sorted by groups, with a frame around each."""
    order = [task for group in found.grouping.groups for task in group]
    values = found.affinity.mean()[order][:, order].clone()
    values.fill_diagonal_(torch.nan)  # a task's own is larger than all others
    size = len(order)
    most = float(values[values.isfinite()].abs().max())
    figure = Figure(figsize=(2.5 + 0.4 * size, 2 + 0.4 * size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values.tolist(), cmap="RdBu", vmin=-most, vmax=most)
    figure.colorbar(image, ax=axes, label="affinity")
    names = [found.affinity.tasks[task] for task in order]
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    start = 0
    for group in found.grouping.groups:
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, len(group), len(group), fill=False, linewidth=2))
        start += len(group)
    axes.set(
        xlabel="changes the loss of", ylabel="a step for", title=f"Affinity of tasks, {found.stage}"
    )
    return figure


def partitions(found: Groups, seed: int = 0) -> dict[str, list[list[str]]]:
    """Return the partitions that the study compares: together, chosen, alone, five random ones.

    All are different; with few tasks there are fewer.
    """
    tasks = found.affinity.tasks
    generator = torch.Generator().manual_seed(seed)
    every: dict[str, Partition] = {
        "together": (tuple(range(len(tasks))),),
        "chosen": found.grouping.groups,
        "alone": tuple((task,) for task in range(len(tasks))),
    }
    count = len(found.grouping.groups)
    every = {n: g for i, (n, g) in enumerate(every.items()) if g not in [*every.values()][:i]}
    seen, drawn = set(every.values()), 0
    for _ in range(_TRIES):
        groups = random_partition(len(tasks), count, generator)
        if groups not in seen and drawn < _RANDOM:
            every[f"random_{drawn}"] = groups
            seen.add(groups)
            drawn += 1
    return {
        name: [[tasks[task] for task in group] for group in groups]
        for name, groups in every.items()
    }


def write(found: Groups, out: Path) -> list[Path]:
    """Write ``group.txt``, ``group.json`` and ``group.png``; return the files."""
    paths = [out / f"group.{ending}" for ending in ("txt", "json", "png")]
    write_whole(paths[0], [f"{table(found)}\n".encode()])
    write_json(paths[1], as_dict(found))
    figure_of(found).savefig(paths[2], dpi=150)
    return paths


def write_study(
    found: Groups,
    configuration: Path,
    backbone: Mapping[str, Any],
    metric: str,
    out: Path,
    seed: int = 0,
) -> tuple[Path, Path]:
    """Write a study that trains the chosen partition, all, alone and five random ones.

    Each run has a network per group (:class:`tl.backbones.TaskGroups`), so that runs differ in who
    shares, and in nothing else.

    Args:
        found: The groups.
        configuration: ``config.yaml`` of the run.
        backbone: Its backbone, as ``class_path`` and ``init_args``.
        metric: The metric that is compared, such as ``test/acc``.
        out: Folder.
        seed: Of the random partitions.

    Returns:
        The study file, and the folder of its partitions.
    """
    overlays, folder = {}, out / "partitions"
    callbacks = _not_measuring(configuration)
    for name, groups in partitions(found, seed).items():
        path = folder / f"{name}.yaml"
        options = {"backbone": dict(backbone), "groups": groups}
        grouped = {"class_path": "tl.backbones.TaskGroups", "init_args": options}
        _yaml(path, {"model": {"init_args": {"backbone": grouped}}})
        overlays[name] = str(path)
    study = {
        "question": "Are tasks better trained in the groups that their affinity chooses?",
        "stages": {
            "groups": {
                "configs": [str(configuration)],
                "vary": {"partition": overlays, "seed_everything": list(range(_SEEDS))},
                **({"set": {"trainer.callbacks": callbacks}} if callbacks is not None else {}),
            }
        },
        "report": {
            "metric": metric,
            "rows": ["partition"],
            "against": {"partition": "together"},
            "pairs": "seed_everything",
        },
    }
    path = out / "group_study.yaml"
    _yaml(path, study)
    return path, folder


def _not_measuring(configuration: Path) -> list[Any] | None:
    """Return a run's callbacks but for those that measured affinities; ``None`` if none did."""
    content = read_yaml(configuration) if configuration.is_file() else {}
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    given = trainer.get("callbacks") if isinstance(trainer, Mapping) else None
    every = given if isinstance(given, list) else [given] if given else []
    kept = [each for each in every if not _measures(each)]
    return None if len(kept) == len(every) else kept


def _measures(callback: object) -> bool:
    name = callback.get("class_path") if isinstance(callback, Mapping) else callback
    return str(name).rpartition(".")[2] in ("GradientDiagnostics", "TaskAffinity")


def _yaml(path: Path, content: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(content), sort_keys=False, width=100)
    write_whole(path, [text.encode()])
