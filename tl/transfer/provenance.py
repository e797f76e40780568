"""What was loaded into a backbone, and from where: for the log and for the next checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl.report.frame import aligned
from tl.transfer.names import top_level_part


@dataclass(frozen=True)
class TransferReport:
    """What was loaded from a checkpoint into a backbone, and what was not.

    Attributes:
        path: The checkpoint.
        sha256: Hash of the file.
        loaded: Names in the backbone that were filled.
        reinitialised: Names in the backbone that kept their initial values.
        unused: Names in the checkpoint that were not used.
        fraction: Fraction of the wanted values that were filled. Wanted are the backbone's
            parameters and buffers, except ``num_batches_tracked`` and what ``reinit`` names.
        source: The plain record under ``tl`` in the checkpoint, ``epoch`` and ``global_step``.
        values: Number of values by name, for each of the three lists.
    """

    path: str
    sha256: str
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    unused: tuple[str, ...]
    fraction: float
    source: dict[str, Any]
    values: dict[str, dict[str, int]]

    def table(self) -> str:
        """Return the tensors (and values) per top-level part as text."""
        parts: dict[str, dict[str, list[int]]] = {}
        for column, sizes in self.values.items():
            for name, size in sizes.items():
                for part in (top_level_part(name), "total"):
                    parts.setdefault(part, {}).setdefault(column, []).append(size)
        parts["total"] = parts.pop("total")  # last
        columns = tuple(self.values)
        rows = [("part", *columns)]
        for part, cells in parts.items():
            sizes_of = [cells.get(column, []) for column in columns]
            rows.append((part, *(f"{len(s)} ({sum(s):,})" if s else "-" for s in sizes_of)))
        title = f"{self.path}: {self.fraction:.1%} of the wanted values, tensors (values):"
        return "\n".join([title, *aligned(rows)])

    def record(self) -> dict[str, Any]:
        """Return the provenance of the backbone in plain types, to be kept in checkpoints."""
        return {
            "path": Path(self.path).name,
            "sha256": self.sha256,
            "tasks": self.source.get("tasks"),
            "data": self.source.get("data"),
            "epoch": self.source.get("epoch"),
            "global_step": self.source.get("global_step"),
            "loaded": {
                "tensors": len(self.loaded),
                "values": sum(self.values["loaded"].values()),
            },
            "reinitialised": list(self.reinitialised),
            "unused": list(self.unused),
            "parent": self.source.get("provenance"),
        }


def source_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's record of its origin, in plain types.

    Args:
        content: What the file holds: a record under ``tl``, ``epoch``, ``global_step``.
    """
    record = content.get("tl")
    source = dict(record) if isinstance(record, Mapping) else {}
    source |= {key: content[key] for key in ("epoch", "global_step") if key in content}
    return {str(key): _plain(value) for key, value in source.items()}


def _plain(value: object) -> object:
    """Keep plain types; replace anything else by the name of its type."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return f"<{type(value).__name__}>"
