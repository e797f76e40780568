"""What a run begins with: a line on the data, a line on the model, and a table of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tl.batch import Inputs
from tl.callbacks.compute import forward_flops, heads_of_source
from tl.callbacks.surroundings import description_of
from tl.counting import counted
from tl.data.trained_on import sources_of
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source
from tl.report.frame import aligned

_THOUSAND = 1000


class RunHeader(Callback):
    """Print what is trained, on what: a line each, and a table of the model's parts.

    The table has the parameters, how many of them train, and the operations (additions and
    multiplications) of one forward pass of a sample. Parts without parameters are left out.

    Args:
        table: Print the table.
    """

    def __init__(self, table: bool = True) -> None:
        self.table = table
        self._due = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line on the data."""
        self._due = True
        description = description_of(trainer)
        if trainer.is_global_zero and description is not None:
            print(f"tl: data: {data_line(description)}", flush=True)  # noqa: T201

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Print the lines on the model, whose operations depend on the inputs."""
        due, self._due = self._due, False
        if not due or not trainer.is_global_zero or not isinstance(pl_module, SharedBackboneModule):
            return
        source, (inputs, _) = next(iter(by_source(batch).items()))
        try:
            flops: dict[str, float] = forward_flops(pl_module, inputs, source)
        except Exception:  # noqa: BLE001 - the step that follows runs the network, and raises
            flops = {}
        print(f"tl: model: {model_line(pl_module, inputs, flops, source)}", flush=True)  # noqa: T201
        if self.table:
            print("\n".join(part_table(pl_module, flops)), flush=True)  # noqa: T201


def data_line(description: Mapping[str, Any]) -> str:
    """Describe data in one line: name, samples by split, classes, size.

    Args:
        description: Of one source, or by source.
    """
    return "; ".join(map(_of_source, sources_of(description).values())) + "."


def _of_source(found: Mapping[str, Any]) -> str:
    # a user's own data module may mean something else by these words
    synthetic = " (synthetic)" if found.get("kind") in ("generated", "synthetic") else ""
    given = _mapping(found.get("images") or found.get("samples"))
    sizes = {split: count for split, count in given.items() if isinstance(count, int)}
    order = sorted(sizes, key=lambda split: (split != "train", split == "test"))
    splits = [f"{sizes[split]:,} {split}" for split in order]
    named = _mapping(found.get("class_names"))
    classes = {target: len(names) for target, names in named.items() if isinstance(names, Sized)}
    several = len(classes) > 1
    kinds = [
        f"{count} {target} classes" if several else f"{count} classes"
        for target, count in classes.items()
        if count  # a number has none
    ]
    size = found.get("image_size")
    sides = [size, size] if isinstance(size, int) else size
    known = isinstance(sides, list) and len(sides) == 2  # noqa: PLR2004 - height and width
    pixels = [f"{sides[0]}x{sides[1]} pixels"] if known and isinstance(sides, list) else []
    return ", ".join([f"{found.get('name', 'data')}{synthetic}", *splits, *kinds, *pixels])


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def model_line(
    module: SharedBackboneModule, inputs: Inputs, flops: Mapping[str, float], source: str | None
) -> str:
    """Describe a model in one line: backbone, heads, parameters, operations, initial weights.

    Args:
        module: The module.
        inputs: Inputs of a source.
        flops: As `forward_flops` counts them; empty if they could not be.
        source: That source; its tasks' heads count.
    """
    heads = ", ".join(f"{name} ({task.answers})" for name, task in module.tasks.items())
    every, train = counts(module.backbone), counts(module.heads)
    total, trained = every[0] + train[0], every[1] + train[1]
    moving = "all train" if total == trained else f"{short(trained)} train"
    used = {"backbone", *(f"head {name}" for name in heads_of_source(module, source))}
    passed = sum(count for part, count in flops.items() if part in used)
    each = f"; {short(passed)}FLOPs forward for {shape_of(inputs)}" if flops else ""
    start = f"; weights from {module.init_from}" if module.init_from else ""
    return (
        f"{type(module.backbone).__name__} for {heads}; {short(total)} parameters, "
        f"{moving}{each}{start}."
    )


def part_table(module: SharedBackboneModule, flops: Mapping[str, float]) -> Iterator[str]:
    """Return the lines of a table of the parts that have parameters.

    Args:
        module: The module.
        flops: As `forward_flops` counts them; a part without a count shows a dash.
    """
    parts = [("backbone", module.backbone)]
    parts += [(f"head {name}", head) for name, head in module.heads.named_children()]
    parts += [
        (name, part) for name, part in module.named_children() if name not in ("backbone", "heads")
    ]
    rows = [
        (
            name,
            type(part).__name__,
            *map(short, counts(part)),
            short(flops[name]) if name in flops else "-",
        )
        for name, part in parts
        if counts(part)[0]
    ]
    rows.insert(0, ("part", "class", "parameters", "trained", "FLOPs"))
    yield from (f"  {line}" for line in aligned(rows, (2, 3, 4)))


def counts(part: nn.Module) -> tuple[int, int]:
    """Return how many parameters a part has, and how many of them train."""
    every = list(part.parameters())
    return sum(p.numel() for p in every), sum(p.numel() for p in every if p.requires_grad)


def short(number: float) -> str:
    """Return a number in three digits with its unit: ``269 k``, ``81.6 M``."""
    value, unit = float(number), ""
    for larger in ("k", "M", "G", "T"):
        if value < _THOUSAND - 0.5:
            break
        value, unit = value / _THOUSAND, larger
    return f"{value:.3g} {unit}" if unit else f"{value:.0f}"


def shape_of(inputs: Inputs) -> str:
    """Return the shape of one sample, such as ``3x32x32``."""
    if isinstance(inputs, Mapping) and "input_ids" in inputs:
        return counted(inputs["input_ids"].shape[1], "token")
    part = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    return "x".join(map(str, part.shape[1:])) or "a number"
