"""Heads: feature vectors in, logits out."""

import math

from torch import nn


def linear_head(num_features: int, num_classes: int) -> nn.Linear:
    """Return a linear classifier on features.

    Weights are uniform in ``+-1 / sqrt(num_features)``, torch's own default; the bias is zero, so
    that a new head prefers no class.

    Args:
        num_features: Length of a feature vector.
        num_classes: How many logits to return.
    """
    for name, value in (("num_features", num_features), ("num_classes", num_classes)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    head = nn.Linear(num_features, num_classes)
    bound = 1 / math.sqrt(num_features)
    nn.init.uniform_(head.weight, -bound, bound)
    nn.init.zeros_(head.bias)
    return head
