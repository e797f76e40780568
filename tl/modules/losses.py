"""The loss of each task in a batch, and the parameters that it does not depend on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tl.backbones.streams import beside_heads, shared_part
from tl.batch import at_least_float32, in_one_batch
from tl.modules.batch import (
    AnyBatch,
    Outputs,
    by_source,
    check_views,
    described,
    source_of,
    target_of,
)
from tl.modules.features import parameters_without_gradient
from tl.modules.twins import twin_of
from tl.transfer.layer_outputs import outputs_of
from tl.transfer.penalties.base import Step

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


def batch_losses(
    module: SharedBackboneModule, batch: AnyBatch, *, smooth: bool, seen: list[Step] | None
) -> tuple[dict[str, Tensor], Outputs]:
    """Return losses and outputs as :meth:`SharedBackboneModule.task_losses` does."""
    parts = by_source(batch, module.tasks.values())
    tasks = module.trained_tasks if smooth else module.tasks
    if len(tasks) < len(module.tasks):  # skip sources that no task trains on
        read = {source_of(task, parts) for task in tasks.values()}
        adapts = seen is not None and module.penalties.read_unlabelled
        parts = {s: part for s, part in parts.items() if s in read or adapts}
    read_inside = module.penalties.layers if seen is not None else ()
    with outputs_of(shared_part(module.backbone), read_inside) as layers:
        features = module.features({source: images for source, (images, _) in parts.items()})
    losses: dict[str, Tensor] = {}
    outputs: Outputs = {}
    answers: dict[str, Tensor] = {}
    for name, task in tasks.items():
        source = source_of(task, parts)
        if source not in parts:
            continue
        check_views(task, parts[source][0])
        output = module.output(name, features[source])
        twin = twin_of(module, module.owners[name])
        if twin is None:
            given = target_of(task, parts[source][1], parts[source][0])
        else:
            given = twin.targets(parts[source][0], source)
        target = task.settle(given, checked=module.target_check.done)
        truth = task.truth(target)
        smoothing = module.label_smoothing if smooth else 0.0
        loss = task.training_loss(at_least_float32(output), target, smoothing)
        if not isinstance(loss, Tensor) or loss.ndim:
            raise ValueError(
                f"The loss of task {name!r} is {described(loss)}; expected a scalar tensor."
            )
        losses[name] = loss
        outputs[name] = (output.detach(), truth)
        answers[name] = output
    if not losses:
        raise ValueError(
            f"No task reads a source of this batch: tasks read "
            f"{', '.join(str(t.source) for t in tasks.values())}, the batch holds "
            f"{', '.join(map(str, by_source(batch)))}."
        )
    if seen is not None:
        step = Step(
            backbone=shared_part(module.backbone),
            heads=module.heads,
            images={source: in_one_batch(images) for source, (images, _) in parts.items()},
            features={source: found.vector for source, found in features.items()},
            logits=answers,
            targets={name: target for name, (_, target) in outputs.items()},
            sources={name: source_of(module.tasks[name], parts) for name in outputs},
            progress=module.progress() if module.penalties.read_unlabelled else None,
            layers=layers,
        )
        seen.append(step)
    return losses, outputs


def parameters_beside(
    module: SharedBackboneModule, losses: Iterable[str], left_out: Collection[str]
) -> list[nn.Parameter]:
    """Return the parameters that DDP looks after and some tasks' losses do not depend on.

    Args:
        module: The module.
        losses: The tasks.
        left_out: Parameters of the backbone that DDP leaves alone, by name.
    """
    tasks = [module.tasks[name] for name in losses]
    used = {module.owners[task.name] for task in tasks}
    absent = [name for name in module.heads if name not in used]
    idle = [m for n in absent for m in (module.heads[n], *beside_heads(module.backbone, n))]
    found = [parameter for part in idle for parameter in part.parameters()]
    if not any(task.reads == "vector" for task in tasks):
        there = parameters_without_gradient(module.backbone, tasks)
        found += [p for name, p in there.items() if name not in left_out]
    return found
