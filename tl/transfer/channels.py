"""A source whose images have other channels than the backbone's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tl.transfer.names import Targets

_CONVOLUTION = 3  # dimensions of its weight, or more


def other_channels(
    state: Mapping[str, Tensor], matches: Mapping[str, str], targets: Targets
) -> str | None:
    """Return what to do if the first convolution has other input channels than the source's.

    Args:
        state: Tensors of the source by name.
        matches: Names in the source by names in the backbone, in the backbone's order.
        targets: Tensors of the backbone.

    Returns:
        One line, or ``None`` if the first convolution reads the same channels.
    """
    for target, name in matches.items():
        old, new = targets.tensors[target].shape, state[name].shape
        if len(old) == len(new) >= _CONVOLUTION and old[0] == new[0] and old[2:] == new[2:]:
            if old[1] == new[1]:
                return None  # it reads the same
            return (
                f"found {new[1]} input channels in {name} {tuple(new)}, expected {old[1]} as in "
                f"the backbone's {tuple(old)}; set the backbone's `in_channels` to {new[1]}, or "
                f"re-initialise this layer with `reinit: [{target.rpartition('.')[0]}]`."
            )
    return None
