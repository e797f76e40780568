"""A network in an epoch: what requires gradients, and what is in training mode."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from tl.backbones.base import stages_of
from tl.backbones.streams import beside_heads
from tl.private.torch import BatchNorm
from tl.transfer.freezing import HEAD, BatchNormMode


def stage_modules(backbone: nn.Module, heads: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the modules of each stage from the stem to the top, ``head`` last.

    With the heads are the parts of the backbone that are not shared by the tasks.
    """
    return {**stages_of(backbone), HEAD: [heads, *beside_heads(backbone)]}


def set_requires_grad(
    stages: dict[str, list[nn.Module]], trainable: Iterable[str], fixed: Iterable[nn.Parameter] = ()
) -> list[nn.Parameter]:
    """Set ``requires_grad`` on the parameters of the trainable stages only.

    Frozen parameters lose their gradient, so that optimizers skip them: neither momentum nor weight
    decay moves them.

    Args:
        stages: Modules by stage.
        trainable: The stages that train.
        fixed: Parameters whose ``requires_grad`` is not touched.

    Returns:
        The frozen parameters.
    """
    chosen, kept = set(trainable), {id(p) for p in fixed}
    frozen: list[nn.Parameter] = []
    for stage, modules in stages.items():
        for parameter in (p for module in modules for p in module.parameters()):
            if id(parameter) not in kept:
                parameter.requires_grad_(stage in chosen)
            if stage not in chosen:
                parameter.grad = None
                frozen.append(parameter)
    return frozen


def set_modes(
    backbone: nn.Module,
    stages: dict[str, list[nn.Module]],
    trainable: Iterable[str],
    bn: BatchNormMode,
) -> None:
    """Put each stage in training or evaluation mode.

    Frozen stages are in evaluation mode: dropout is off, and batch norm normalises by its running
    statistics without updating them. With ``requires_grad`` alone they would drift, and with
    ``track_running_stats`` training and evaluation would normalise differently.

    Args:
        backbone: The network; modules outside all stages train if any stage does.
        stages: Modules by stage.
        trainable: The stages that train.
        bn: What batch norm does.
    """
    chosen = set(trainable)
    backbone.train(any(stage in chosen for stage in stages if stage != HEAD))
    for stage, modules in stages.items():
        for module in modules:
            module.train(stage in chosen)
    if bn != "train":
        # what trains with the heads is new, and has no statistics of a source to keep
        new = {id(layer) for part in beside_heads(backbone) for layer in part.modules()}
        for module in backbone.modules():
            if isinstance(module, BatchNorm) and id(module) not in new:
                module.train(bn == "adapt_stats")
