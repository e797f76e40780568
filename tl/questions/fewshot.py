"""How well features tell classes that they were not trained on, from a few samples of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tl.checkpoints.whole_files import write_json, write_whole
from tl.counting import counted
from tl.data.cifar.classes import CIFAR100, CIFAR100_COARSE
from tl.data.errors import listed
from tl.data.progress import progress
from tl.questions.about import said_data, synthetic
from tl.questions.candidates import Candidate
from tl.questions.class_splits import ClassSplit, Part
from tl.questions.episodes import METHODS, accuracies, draw_episodes
from tl.report.frame import aligned
from tl.report.intervals import Interval, finite

_Z = 1.959964


@dataclass(frozen=True)
class FewShot:
    """Accuracies in episodes.

    Args:
        split: Name of the split.
        part: Its part.
        ways: Classes in an episode.
        queries: Samples per class to answer.
        episodes: Number of episodes.
        shots: Numbers of labelled samples per class.
        found: Accuracy of each episode ``(E,)`` by source, shots and method.
        unknown: Sources of which not all classes that they were trained on are known.
        centred: Number of training classes whose mean is subtracted by methods on centred features;
            0 where it is the mean of the shots of each episode.
        seed: Of the episodes.
        about: Name, kind and fingerprint of the data.
    """

    split: str
    part: str
    ways: int
    queries: int
    episodes: int
    shots: tuple[int, ...]
    found: Mapping[tuple[str, int, str], Tensor]
    unknown: tuple[str, ...] = ()
    centred: int = 0
    seed: int = 0
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """The sources, in the order given."""
        return list(dict.fromkeys(source for source, _, _ in self.found))

    def estimate(self, source: str, shots: int, method: str) -> Interval:
        """Return the accuracy of a source."""
        return _estimate(self.found[source, shots, method])

    def difference(self, source: str, shots: int, method: str) -> Interval:
        """Return the difference to the first source, on the same episodes."""
        first = self.found[self.sources[0], shots, method]
        return _estimate(self.found[source, shots, method] - first)

    def best_method(self, source: str, shots: int) -> str:
        """Return the method by which a source is most accurate."""
        return max(METHODS, key=lambda method: self.estimate(source, shots, method).mean)


def check_unseen(candidate: Candidate, split: ClassSplit, part: Part) -> None:
    """Refuse a source that was trained on a class that it would be judged by.

    Raises:
        ValueError: If its lineage names one.
    """
    known = set(candidate.seen)
    if known >= {*CIFAR100_COARSE}:  # its superclasses as labels: it has seen all classes
        known |= {*CIFAR100}
    if seen := sorted(known & {*split.part(part)}):
        raise ValueError(
            f"{candidate.name} or one of its sources was trained on "
            f"{counted(len(seen), 'class', 'classes')} of the {part} part of {split.name}: "
            f"{listed(seen)}. Few-shot accuracy is about classes that are new; train on the "
            "classes of 'train' only."
        )


def few_shot(
    features: Mapping[str, Tensor],
    labels: Tensor,
    centres: Mapping[str, Tensor],
    *,
    split: ClassSplit,
    part: Part = "test",
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 2000,
    seed: int = 0,
    unknown: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> FewShot:
    """Answer the same episodes with the features of each source.

    Args:
        features: Features ``(N, D)`` of the samples of all classes of the part, by source.
        labels: Classes ``(N,)``.
        centres: Mean features of the classes that may be trained on, by source; may lack some.
        split: The split.
        part: Its part.
        ways: Classes in an episode.
        shots: Numbers of labelled samples per class.
        queries: Samples per class to answer.
        episodes: Number of episodes.
        seed: Of the episodes.
        unknown: Sources of which not all classes that they were trained on are known.
        about: What the samples are of, see :func:`tl.questions.about.about_data`.

    Raises:
        ValueError: If there are too few classes or samples for an episode.
    """
    found: dict[tuple[str, int, str], Tensor] = {}
    drawn = {
        k: draw_episodes(labels, ways=ways, shots=k, queries=queries, count=episodes, seed=seed)
        for k in shots
    }
    every = [(s, k, method) for s in features for k in drawn for method in METHODS]
    for source, k, method in progress(every, len(every), "Episodes", least=2):
        found[source, k, method] = accuracies(
            features[source], drawn[k], k, method, centres.get(source)
        )
    return FewShot(
        *(split.name, part, ways, queries, episodes, tuple(shots), found, tuple(unknown)),
        centred=len(split.train) if centres else 0,
        seed=seed,
        about=about or {},
    )


def table(result: FewShot) -> str:
    """Return the result as text."""
    several = len(result.sources) > 1
    rows = [["source", "method", *(f"{k}-shot" for k in result.shots)]]
    if several:
        rows[0] += [f"{k}-shot over the first" for k in result.shots]
    for source in result.sources:
        for method in METHODS:
            cells = [result.estimate(source, k, method).percent() for k in result.shots]
            if several:
                first = source == result.sources[0]
                cells += [
                    "-" if first else result.difference(source, k, method).percent(signed=True)
                    for k in result.shots
                ]
            rows.append([source, method, *cells])
    head = (
        f"{result.split}, {result.part} classes: {result.ways}-way accuracy in %, "
        f"{result.episodes:,} episodes of {result.queries} queries per class"
    )
    lines = [head]
    if result.about:
        lines.append(said_data(result.about))
    lines += [f"centred mean, ridge and logistic: features minus the mean of {_centre(result)}"]
    lines += [*aligned(rows), ""]
    if result.unknown:
        several = len(result.unknown) > 1
        lines.append(
            f"Not all classes that {listed(list(result.unknown))} {'were' if several else 'was'} "
            f"trained on are known: {'they' if several else 'it'} may have seen those of the test."
        )
    return "\n".join([*lines, sentence(result)])


def sentence(result: FewShot) -> str:
    """Return what the result says, in a sentence: each source counts with its best method."""
    k = result.shots[-1]
    methods = {source: result.best_method(source, k) for source in result.sources}
    best = max(methods, key=lambda source: result.estimate(source, k, methods[source]).mean)
    found = result.estimate(best, k, methods[best])
    value = f"{found.percent()} %" if found.count > 1 else f"{100 * found.mean:.1f} % (one episode)"
    samples = counted(k, "labelled sample")
    said = f"{best} with {methods[best]} reaches {value} with {samples} of each class"
    close = []
    for source, method in methods.items():
        gap = _estimate(result.found[best, k, methods[best]] - result.found[source, k, method])
        if source != best and not gap.mean > gap.half_width:
            close.append(f"{source} with {method}")
    if close:
        said += f"; {listed(close)} cannot be distinguished from it on the same episodes"
    return f"{said}; intervals are over episodes, which share images."


def as_dict(result: FewShot) -> dict[str, Any]:
    """Return the result in plain types."""
    return {
        **{key: getattr(result, key) for key in ("split", "part", "ways", "queries", "episodes")},
        "seed": result.seed,
        "data": dict(result.about),
        "centred_by": f"mean of {_centre(result)}",
        "unknown_classes": list(result.unknown),
        "results": [
            {
                "source": source,
                "shots": k,
                "method": method,
                "accuracy": result.estimate(source, k, method).mean,
                "half_width": finite(result.estimate(source, k, method).half_width),
                "over_the_first": {"mean": gain.mean, "half": finite(gain.half_width)},
            }
            for source, k, method in result.found
            for gain in [result.difference(source, k, method)]
        ],
        "sentence": sentence(result),
    }


def figure_of(result: FewShot) -> Figure:
    """Draw accuracy by shots: a panel per method, a curve per source."""
    figure = Figure(figsize=(3 * len(METHODS), 3.2), layout="constrained")
    panels = figure.subplots(1, len(METHODS), sharey=True)
    for axes, method in zip(panels, METHODS, strict=True):
        for source in result.sources:
            found = [result.estimate(source, k, method) for k in result.shots]
            axes.errorbar(
                result.shots,
                [100 * each.mean for each in found],
                [100 * each.half_width for each in found],
                marker="o",
                capsize=3,
                label=source,
            )
        axes.set(title=method, xlabel="shots", xticks=result.shots)
    panels[0].set_ylabel(f"{result.ways}-way accuracy, %{synthetic(result.about)}")
    panels[-1].legend(fontsize="small")
    return figure


def write(result: FewShot, out: Path) -> list[Path]:
    """Write ``fewshot.txt``, ``fewshot.json`` and ``fewshot.png``; return the files."""
    paths = [out / f"fewshot.{ending}" for ending in ("txt", "json", "png")]
    write_whole(paths[0], [f"{table(result)}\n".encode()])
    write_json(paths[1], as_dict(result))
    figure_of(result).savefig(paths[2], dpi=150)
    return paths


def class_positions(labels: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Return the positions of the samples of some classes ``(M,)``, ascending.

    Args:
        labels: Classes ``(N,)``.
        names: Name of each class.
        wanted: Names of the classes wanted.

    Raises:
        ValueError: If a class is not there.
    """
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(
            f"The data have no class {listed(missing[:5])} of the split; they have "
            f"{listed(list(names)[:5])} and others."
        )
    numbers = torch.tensor([list(names).index(name) for name in wanted])
    return torch.isin(labels, numbers).nonzero().flatten()


def _centre(result: FewShot) -> str:
    if not result.centred:
        return "each episode's shots"
    return counted(result.centred, "training class", "training classes")


def _estimate(values: Tensor) -> Interval:
    """Return the mean over episodes ``(E,)`` with its 95 % interval."""
    spread = float(values.std()) if len(values) > 1 else math.nan
    return Interval(float(values.mean()), _Z * spread / math.sqrt(len(values)), len(values))
