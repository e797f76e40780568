"""Heads."""

import pytest
import torch

from tl.tasks.heads import linear_head


def test_logits_have_one_column_per_class() -> None:
    assert linear_head(64, 10)(torch.randn(5, 64)).shape == (5, 10)


def test_a_new_head_prefers_no_class() -> None:
    head = linear_head(64, 10)
    assert head.bias.count_nonzero() == 0
    assert head.weight.abs().max() <= 1 / 8
    assert head.weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("num_features", "num_classes"), [(0, 10), (64, 0)])
def test_empty_heads_are_refused(num_features: int, num_classes: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        linear_head(num_features, num_classes)
