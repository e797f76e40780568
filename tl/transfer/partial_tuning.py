"""Train a small part of every layer: biases, or normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from tl.private.torch import BatchNorm
from tl.transfer.freezing import HEAD, FullFineTuning

_NORMS = (BatchNorm, nn.GroupNorm, nn.LayerNorm)


class _PartOfEachLayer(FullFineTuning):
    """Train the heads and those parameters of the backbone that :meth:`chosen` yields."""

    @abstractmethod
    def chosen(self, module: nn.Module) -> Iterator[nn.Parameter]:
        """Yield the parameters of a stage that train."""

    def left_out(self, stages: Mapping[str, Sequence[nn.Module]]) -> list[nn.Parameter]:
        """Return all other parameters of the backbone.

        Raises:
            ValueError: If nothing of the backbone would train.
        """
        parts = [part for stage, modules in stages.items() if stage != HEAD for part in modules]
        kept = {id(parameter) for part in parts for parameter in self.chosen(part)}
        every = [parameter for part in parts for parameter in part.parameters()]
        if every and not kept:
            raise ValueError(
                f"{type(self).__name__} finds nothing to train in the backbone, which has no such "
                "parameters; choose another strategy, such as LinearProbe."
            )
        return [parameter for parameter in every if id(parameter) not in kept]


class BitFit(_PartOfEachLayer):
    """Train only biases, and the heads (Ben Zaken et al., 2022, arXiv:2106.10199, section 3).

    Biases are parameters whose name ends in ``bias``: those of linear layers and convolutions, the
    shifts of normalisation, and an attention's ``in_proj_bias``, ``bias_k`` and ``bias_v``. A
    ResNet has only shifts.

    Args:
        bn: As for every strategy.
    """

    def chosen(self, module: nn.Module) -> Iterator[nn.Parameter]:
        """Yield biases."""
        for name, parameter in module.named_parameters():
            if name.endswith(("bias", "bias_k", "bias_v")):
                yield parameter


class NormTuning(_PartOfEachLayer):
    """Train only scales and shifts of normalisation layers, and the heads.

    Frankle et al., 2021, arXiv:2003.00152, train batch norm alone in random networks; in pretrained
    ones it is a usual baseline of parameter-efficient transfer.

    Args:
        bn: As for every strategy.
    """

    def chosen(self, module: nn.Module) -> Iterator[nn.Parameter]:
        """Yield the parameters of batch, group and layer norm, and of layers called a norm."""
        for layer in module.modules():
            if isinstance(layer, _NORMS) or type(layer).__name__.endswith("Norm"):
                yield from layer.parameters(recurse=False)
