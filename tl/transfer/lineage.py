"""Where a checkpoint's weights came from, back to the first source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from tl.checkpoints.files import listed, local_file, read_hashed
from tl.counting import counted
from tl.transfer.provenance import source_record

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ancestor:
    """A network in a chain of sources.

    Attributes:
        path: Name of the file or the pretrained network.
        sha256: Hash of the file; ``None`` if there was no file.
        tasks: Tasks it was trained on, with their number of classes.
        data: Training data by source: name, number of training images, fingerprint.
        epoch: Its last epoch, counted from 0.
        global_step: Optimizer steps of its training.
        start: What was loaded into its backbone before training: ``tensors``, ``values``,
            ``reinitialised`` and ``unused`` names. ``None`` for random weights, averages, and
            networks of unknown origin.
        note: Further information, such as the kind of average or a library's name.
        weight: Its weight in an average.
        sources: Its sources: one network, the ingredients of an average, or none.
    """

    path: str
    sha256: str | None = None
    tasks: dict[str, int] | None = None
    data: dict[str, dict[str, Any]] | None = None
    epoch: int | None = None
    global_step: int | None = None
    start: dict[str, Any] | None = None
    note: str | None = None
    weight: float | None = None
    sources: tuple[Ancestor, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, including the sources."""
        return asdict(self)

    def table(self) -> str:
        """Return the chain as lines of text, the newest first."""
        return "\n".join(self.lines())

    def lines(self, indent: str = "") -> Iterator[str]:
        """Yield the lines of the table."""
        yield f"{indent}{listed([self.path])}"
        for title, text in self._facts():
            yield f"{indent}  {title.ljust(7)} {text}"
        for source in self.sources:
            share = f"ingredient, weight {source.weight:.4g}:" if source.weight is not None else ""
            yield f"{indent}  {share or 'from:'}"
            yield from source.lines(f"{indent}    ")

    def _facts(self) -> Iterator[tuple[str, str]]:
        if self.note is not None:
            yield "is", listed([self.note])
        if self.sha256 is not None:
            yield "sha256", listed([self.sha256])
        if self.tasks is not None:
            yield "tasks", listed([f"{n} ({c} classes)" for n, c in self.tasks.items()], 20)
        for name, part in (self.data or {}).items():
            images = part["images"]
            count = f"{counted(images, 'training image')}, " if isinstance(images, int) else ""
            yield "data", listed([f"{name}: {count}fingerprint {part['fingerprint']}"])
        if isinstance(self.epoch, int):
            step = f", step {self.global_step:,}" if isinstance(self.global_step, int) else ""
            yield "epoch", f"{self.epoch}, counted from 0{step}"
        if self.start is not None:
            loaded = f"{self.start['tensors']:,} tensors ({self.start['values']:,} values) loaded"
            for title, key in (("re-initialised", "reinitialised"), ("unused", "unused")):
                loaded += f"; {title}: {listed(self.start[key]) or 'none'}"
            yield "start", loaded
        elif not self.sources and self.tasks is not None:
            yield "start", "random weights"


def lineage(path: str | Path) -> Ancestor:
    """Follow a checkpoint's record of its sources back to the first.

    The record is in the checkpoint itself; the files of its sources need not exist any more.

    Args:
        path: A checkpoint, or its address.

    Returns:
        The checkpoint, with its sources.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    path = local_file(path)
    content, sha256 = read_hashed(path)
    record = source_record(content)
    if "provenance" not in record:
        return Ancestor(
            path.name,
            sha256,
            note="a file without a record of its origin, not written by a run of this framework",
        )
    record |= {"path": path.name, "sha256": sha256}
    return _ancestor(record, _mapping(record["provenance"]))


def _ancestor(record: Mapping[str, Any], origin: Mapping[str, Any] | None) -> Ancestor:
    """Build one network's record, and those of its sources.

    Args:
        record: What is known of the network: ``path``, ``sha256``, ``tasks``, ``data``, ...
        origin: Provenance of its initial weights.
    """
    tasks, data = record.get("tasks"), _mapping(record.get("data"))
    start: dict[str, Any] | None = None
    sources: tuple[Ancestor, ...] = ()
    note = _as(str, record.get("note"))
    if origin is not None and isinstance(origin.get("ingredients"), list):
        note = _as(str, origin.get("method")) or "an average"
        parts = [part for part in map(_mapping, origin["ingredients"]) if part is not None]
        sources = tuple(_ancestor(part, _mapping(part.get("parent"))) for part in parts)
    elif origin is not None:
        loaded = _mapping(origin.get("loaded")) or {}
        start = {
            "tensors": _as(int, loaded.get("tensors")) or 0,
            "values": _as(int, loaded.get("values")) or 0,
            "reinitialised": _names(origin.get("reinitialised")),
            "unused": _names(origin.get("unused")),
        }
        sources = (_ancestor(origin, _mapping(origin.get("parent"))),)
    weight = record.get("weight")
    return Ancestor(
        path=_as(str, record.get("path")) or "unknown",
        sha256=_as(str, record.get("sha256")),
        tasks=_tasks(tasks) if isinstance(tasks, list) else None,
        data=_data(data) if data is not None else None,
        epoch=_as(int, record.get("epoch")),
        global_step=_as(int, record.get("global_step")),
        start=start,
        note=note,
        weight=float(weight) if isinstance(weight, float | int) else None,
        sources=sources,
    )


# A checkpoint may come from anywhere: values of unexpected types are left out.


def _as(kind: type[_T], value: object) -> _T | None:
    return value if isinstance(value, kind) else None


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _tasks(records: list[Any]) -> dict[str, int]:
    found = [task for task in map(_mapping, records) if task is not None]
    return {str(task.get("name")): _as(int, task.get("num_classes")) or 0 for task in found}


def _data(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a data description by source, also for a single source."""
    parts = {str(record.get("name")): record} if "fingerprint" in record else record
    found = {}
    for name, part in parts.items():
        if isinstance(part, Mapping):
            images = _mapping(part.get("images")) or {}
            found[name] = {
                "images": _as(int, images.get("train")),
                "fingerprint": _as(str, part.get("fingerprint")),
            }
    return found
