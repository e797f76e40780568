"""DANN: features from which a discriminator cannot tell the source."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.transfer.adaptation.base import Adaptation, length_of_features
from tl.transfer.penalties.base import Step


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a negative number."""

    @staticmethod
    def forward(context: Any, features: Tensor, strength: float) -> Tensor:  # noqa: ANN401 - torch's
        context.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's
        return -context.strength * gradients[0], None


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return features unchanged; their gradient is multiplied by ``-strength``.

    Args:
        features: ``(N, D)``.
        strength: 0 or more.
    """
    return cast("Tensor", _Reversal.apply(features, strength))


def ramp(progress: float, steepness: float = 10.0) -> float:
    """Return ``2 / (1 + exp(-steepness * progress)) - 1``, which rises from 0 to nearly 1.

    Args:
        progress: Share of the training that is done, 0 to 1.
        steepness: How fast it rises.
    """
    return 2 / (1 + math.exp(-steepness * progress)) - 1


class DANN(Adaptation):
    """Learn features from which a discriminator cannot tell whether a sample is labelled.

    A discriminator on the features learns to tell the sides apart, and its gradient enters the
    backbone with the opposite sign, times ``ramp(p)`` (Ganin et al., 2016, arXiv:1505.07818,
    equations 9 and 18), where ``p`` is the share of the training that is done: a resumed run goes
    on where it stopped. Both sides weigh the same, whatever their batch sizes.

    ``transfer/dann_domain_accuracy`` is the discriminator's share of right answers, averaged over
    the sides: near 0.5 it can no longer tell them apart, near 1 the features still differ, or the
    discriminator is far ahead. Where the sides have their classes in other proportions, 0.5 aligns
    wrong classes.

    Args:
        weight: Weight of the discriminator's loss, 0 or more; the paper's is 1.
        hidden: Units of each of its two hidden layers, 1 or more; the paper's (section 5.2.2) for
            all but its smallest networks.
        steepness: Of the ramp, above 0; the paper's is 10.

    Raises:
        ValueError: If a number is out of range; when the model is built, without an unlabelled
            source; in training, if its length is not known.
    """

    def __init__(self, weight: float = 1.0, hidden: int = 1024, steepness: float = 10.0) -> None:
        super().__init__(weight)
        if hidden < 1:
            raise ValueError(f"`hidden` must be 1 or more, got {hidden}.")
        if not 0 < steepness < math.inf:
            raise ValueError(f"`steepness` must be above 0 and finite, got {steepness}.")
        self.hidden, self.steepness = hidden, steepness
        self.discriminator = nn.Sequential()
        self._accuracy: Tensor | None = None

    @property
    def group(self) -> str:
        """Name of the discriminator's parameters in the optimizer."""
        return "discriminator"

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Build the discriminator."""
        super().attach(backbone, heads)
        self.discriminator = nn.Sequential(
            nn.Linear(length_of_features(backbone), self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, 1),
        )

    def between(self, source: Tensor, target: Tensor, step: Step) -> Tensor:
        """Return the discriminator's loss."""
        if step.progress is None:
            raise ValueError(
                "The ramp of DANN needs the length of the run; set `max_epochs` or `max_steps`."
            )
        strength = ramp(step.progress, self.steepness)
        losses, right = [], []
        for features, label in ((source, 1.0), (target, 0.0)):
            answers = self.discriminator(reverse_gradient(features, strength)).flatten()
            wanted = torch.full_like(answers, label)
            losses.append(functional.binary_cross_entropy_with_logits(answers, wanted))
            right.append(((answers > 0).float() == wanted).float().mean())
        self._accuracy = torch.stack(right).mean().detach()
        return torch.stack(losses).mean()

    def watched(self) -> dict[str, Tensor]:
        """Return how often the discriminator is right."""
        return {} if self._accuracy is None else {"domain_accuracy": self._accuracy}
