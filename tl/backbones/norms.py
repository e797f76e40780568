"""Kinds of batch norm that networks of libraries have."""

from __future__ import annotations

from torch import nn

# Subclasses that only run their children, such as an activation, behind the plain layer.
_ONLY_RUN_CHILDREN = (("timm", "BatchNormAct2d"), ("timm", "SyncBatchNormAct"))


def runs_its_children(layer: nn.Module) -> bool:
    """Tell whether a layer is batch norm that runs its children on what it gives.

    Your own layers declare it by an attribute ``only_runs_children``.
    """
    kind = type(layer)
    known = (kind.__module__.partition(".")[0], kind.__name__) in _ONLY_RUN_CHILDREN
    return known or bool(getattr(layer, "only_runs_children", False))
