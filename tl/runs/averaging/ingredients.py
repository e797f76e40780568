"""The checkpoints of an average: read them, and check that they fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from tl.checkpoints.files import CheckpointError, listed, local_file, read_hashed
from tl.counting import counted
from tl.data.trained_on import groups_by_task, regrouped, sources_of
from tl.runs.averaging.heads import Head, heads_of, named, reordered
from tl.transfer.names import is_adapter
from tl.transfer.provenance import source_record
from tl.transfer.source import rows_by_name
from tl.transfer.weight_space import check_alike

State = dict[str, Tensor]
T = TypeVar("T")
_BACKBONES = "Average only the backbones with --backbone-only"


@dataclass
class Ingredient:
    """A checkpoint of this framework, with the weights that an average takes of it.

    Args:
        path: The file.
        sha256: Its hash.
        content: All of it.
        weights: Those of the backbone and, unless only backbones are averaged, of the heads.
    """

    path: Path
    sha256: str
    content: Mapping[str, Any]
    weights: State

    def record(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Return its part of an average's provenance in plain types.

        Args:
            more: What the average knows of it, such as its weight.
        """
        source = source_record(self.content)
        kept = {key: source.get(key) for key in ("tasks", "data", "epoch", "global_step")}
        named = {"path": self.path.name, "sha256": self.sha256}
        return {**named, **more, **kept, "parent": source.get("provenance")}

    @property
    def class_names(self) -> dict[str, Sequence[str]]:
        """Class names by task; the data may have another name for the only one."""
        return _paired(dict(self.content["tl"].get("class_names") or {}), self.heads)

    @property
    def sources(self) -> dict[str, Mapping[str, Any]]:
        """The data's records by source."""
        return sources_of(self.content["tl"].get("data"))

    @property
    def image_sizes(self) -> set[tuple[int, int]]:
        """Height and width of the images of its sources, as far as they are recorded."""
        found = [source.get("image_size") for source in self.sources.values()]
        sides = [[size, size] if isinstance(size, int) else size for size in found]
        # a user's own data module may mean something else by it
        return {(s[0], s[1]) for s in sides if isinstance(s, list | tuple) and len(s) == 2}  # noqa: PLR2004

    @property
    def heads(self) -> dict[str, Head]:
        """Its heads by task."""
        return heads_of(self.weights)

    def head(self, task: str, rows: Sequence[int] | None = None) -> Head:
        """Return a head, with its classes in another order if `rows` are given.

        Args:
            task: Its task.
            rows: The present row of each class, as of :func:`tl.transfer.source.rows_by_name`.

        Raises:
            ValueError: If it is not known which layer has these rows.
        """
        if rows is None:
            return self.heads[task]
        records = self.content["tl"].get("tasks") or ()
        decoders = {record["name"]: record.get("decoder") for record in records}
        what = f"{self.path}: the head of {task!r}"
        return reordered(self.heads[task], rows, decoders.get(task), what)


def read_ingredient(path: str | Path, *, backbone_only: bool) -> Ingredient:
    """Read a checkpoint to average.

    Raises:
        CheckpointError: If it cannot be read or is not a checkpoint of this framework.
        ValueError: If the network has LoRA adapters.
    """
    file = local_file(path)
    content, sha256 = read_hashed(file)
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or "tl" not in content:
        raise CheckpointError(
            f"{file}: is not a checkpoint of this framework; load plain weights with `init_from`, "
            "and average the checkpoints of that run."
        )
    wanted = ("backbone.",) if backbone_only else ("backbone.", "heads.")
    weights = {name: value for name, value in state.items() if name.startswith(wanted)}
    if any(map(is_adapter, weights)):
        raise ValueError(
            f"{file} has LoRA adapters: averaging their factors does not average their "
            "products. Average runs of a network without adapters."
        )
    return Ingredient(file, sha256, content, weights)


def fingerprints(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fingerprints in a description of data, by source."""
    return {name: part.get("fingerprint") for name, part in sources_of(data).items()}


def fit_together(parts: Sequence[Ingredient], *, backbone_only: bool) -> list[str]:
    """Match the heads of all checkpoints to the last one's, and refuse what cannot be averaged.

    Args:
        parts: The checkpoints; rows of their heads are reordered by class name.
        backbone_only: The backbones alone: tasks and normalisation may differ.

    Returns:
        A line for each checkpoint whose image size could not be compared.

    Raises:
        ValueError: If networks, classes, groups, image sizes or normalisations differ.
    """
    last = parts[-1]
    if not backbone_only:
        for part in parts:
            _check_groups(part, last)
            part.weights = _by_class_names(part, last)
    for part in parts[:-1]:
        _check_shapes(part, last)
        _check_inputs(part, last, backbone_only=backbone_only)
    sizes = [part.image_sizes for part in parts]
    if not any(sizes):
        return []  # of texts or other tensors
    return [
        f"tl: {part.path} does not record the size of its images; average only networks that were "
        "trained at the same size"
        for part, size in zip(parts, sizes, strict=True)
        if not size
    ]


def check_held_out(parts: Sequence[Ingredient]) -> None:
    """Refuse to select on images that an ingredient was trained on.

    Raises:
        ValueError: If their data or splits differ.
    """
    *_, last = found = [fingerprints(part.content["tl"].get("data") or {}) for part in parts]
    for part, data in zip(parts, found, strict=True):
        if data != last:
            raise ValueError(
                f"{part.path} was trained on {data}, {parts[-1].path} on {last}: the validation "
                "images of one may be training images of the other, which would bias the "
                "selection. Train them on one split: the same --data.init_args.seed, val_size and "
                "label_fraction, with a different --seed_everything each."
            )


def _paired(here: dict[str, T], wanted: Mapping[str, Any]) -> dict[str, T]:
    """Rename a single task or source to the name of the other checkpoint's."""
    return dict(zip(wanted, here.values(), strict=True)) if len(here) == len(wanted) == 1 else here


def _check_shapes(part: Ingredient, last: Ingredient) -> None:
    here, there = ({t: _shape(head) for t, head in one.heads.items()} for one in (part, last))
    if here != there:
        said = [", ".join(f"{t} {s}".strip() for t, s in one.items()) for one in (here, there)]
        raise ValueError(
            f"{part.path} has the heads {said[0]}, {last.path} has {said[1]}; only heads with the "
            f"same tasks and classes can be averaged. {_BACKBONES}, which keeps the last one's "
            "heads."
        )
    try:
        check_alike(part.weights, last.weights)
    except ValueError as error:
        raise ValueError(f"{part.path} and {last.path}: {error}") from None


def _shape(head: Head) -> str:
    """Return the shape of a linear head; empty for others, whose layers are compared by name."""
    return str(tuple(head["weight"].shape)) if "weight" in head else ""


def _check_inputs(part: Ingredient, last: Ingredient, *, backbone_only: bool) -> None:
    """Refuse weights trained with other image sizes or normalisations.

    Backbones read all sources, so the sizes of all of them count, whatever their names are. With
    `backbone_only`, a source and a target may each have the statistics of their images.
    """
    sizes = [part.image_sizes, last.image_sizes]
    if all(sizes) and sizes[0] != sizes[1]:
        said = [" and ".join(f"{h}x{w}" for h, w in sorted(each)) for each in sizes]
        raise ValueError(
            f"{part.path} was trained on images of {said[0]} pixels, the last checkpoint on "
            f"{said[1]}; only weights trained at the same size can be averaged."
        )
    wanted = last.sources
    here = _paired(part.sources, wanted)
    for name in [name for name in wanted if name in here]:
        for key in ("mean", "std"):
            one, other = here[name].get(key), wanted[name].get(key)
            if backbone_only or not one or not other or _alike(one, other):
                continue
            said = [", ".join(f"{value:.2f}" for value in found) for found in (one, other)]
            raise ValueError(
                f"{part.path} was trained on images normalised by the {key} {said[0]}, the last "
                f"checkpoint by {said[1]}; only heads with the same normalisation can be "
                f"averaged. {_BACKBONES}."
            )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether statistics in pixel values, 0 to 255, are equal up to rounding."""
    return all(abs(a - b) < 0.05 for a, b in zip(one, other, strict=True))  # noqa: PLR2004 - as above


def _by_class_names(part: Ingredient, last: Ingredient) -> State:
    """Return the weights with heads renamed and reordered to match the last checkpoint's."""
    wanted = last.class_names
    here = _paired(part.class_names, wanted)
    heads = part.heads
    for old, task in zip(part.class_names, here, strict=True):
        rows, names = None, here[task]
        if names and wanted.get(task):
            try:
                rows = rows_by_name(names, wanted[task], f"The head of {task!r}")
            except ValueError:
                raise ValueError(
                    f"{part.path} was trained on the classes {listed(list(names))} of {task!r}, "
                    f"the last checkpoint on {listed(list(wanted[task]))}; only heads with the "
                    f"same classes can be averaged. {_BACKBONES}."
                ) from None
        if heads.pop(old, None) is not None:  # a task that shares another's head has none
            heads[task] = part.head(old, rows)
    backbone = {n: value for n, value in part.weights.items() if n.startswith("backbone.")}
    return {**backbone, **named(heads)}


def _check_groups(part: Ingredient, last: Ingredient) -> None:
    """Refuse heads whose groups have the same names but other members."""
    here, wanted = (groups_by_task(c.content["tl"].get("data") or {}) for c in (part, last))
    here = _paired(here, wanted)
    for task in here.keys() & wanted.keys():
        if moved := regrouped(here[task], wanted[task], "in the last one"):
            raise ValueError(
                f"{part.path} groups {counted(len(moved), 'class', 'classes')} differently from "
                "the last checkpoint: "
                f"{listed(moved)}; only heads with the same groups can be averaged. {_BACKBONES}."
            )
