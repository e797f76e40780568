from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import begun, checkpoint, images, network, step
from tl.transfer.penalties import LwF

LABELS = torch.zeros(6, dtype=torch.long)


def source(folder: Path) -> tuple[nn.Module, nn.ModuleDict, str]:
    backbone, heads = network(seed=1, classes=3)
    return backbone, heads, checkpoint(folder / "source.ckpt", backbone, heads)


def test_the_value_by_hand(tmp_path: Path) -> None:
    """Cross-entropy of softened answers, less its minimum; no temperature squared."""
    before, heads, path = source(tmp_path)
    after, new = network(seed=2)
    penalty = begun(LwF(temperature=2.0, weight=0.5), after, new, path)
    old, now = (heads["task"](backbone(images())) for backbone in (before, after))
    p, q = old.softmax(1).sqrt(), now.softmax(1).sqrt()  # equation 3 at T = 2
    p, q = (x / x.sum(1, keepdim=True) for x in (p, q))
    wanted = 0.5 * (-(p * q.log()).sum(1) + (p * p.log()).sum(1)).mean()
    torch.testing.assert_close(penalty(step(after, new, images(), LABELS)), wanted)


def test_the_sources_head_is_kept_and_trains(tmp_path: Path) -> None:
    before, heads, path = source(tmp_path)
    after, new = network(seed=2)
    penalty = begun(LwF(), after, new, path)
    assert isinstance(penalty, LwF)
    kept = penalty.head.linear
    assert kept is not None
    assert torch.equal(kept.weight, heads["task"].get_parameter("weight"))
    assert torch.equal(kept.bias, heads["task"].get_parameter("bias"))
    penalty(step(after, new, images(), LABELS)).backward()
    assert kept.weight.grad is not None
    assert all(p.grad is None for p in new.parameters())
    assert penalty.network is not None
    with torch.no_grad():
        kept.weight.zero_()
        for p in after.parameters():
            p.zero_()
    # the source as it was is a copy of its own
    torch.testing.assert_close(penalty.network(images()), heads["task"](before(images())))


def test_all_sources_of_a_batch_count_alike(tmp_path: Path) -> None:
    _, _, path = source(tmp_path)
    after, new = network(seed=2)
    penalty = begun(LwF(), after, new, path)
    given = step(after, new, images(), LABELS)
    features = given.features[None]
    apart = {
        "images": {"b": images()[:1], "a": images()[1:]},
        "features": {"a": features[1:], "b": features[:1]},
    }
    parted = penalty(type(given)(**{**vars(given), **apart}))
    torch.testing.assert_close(parted, penalty(given))


def test_the_source_does_not_follow_the_training_mode(tmp_path: Path) -> None:
    _, _, path = source(tmp_path)
    after, new = network(seed=2)
    penalty = begun(LwF(), after, new, path)
    penalty.train()
    assert isinstance(penalty, LwF)
    assert penalty.network is not None
    assert not any(module.training for module in penalty.network.modules())


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`temperature` must be positive, got 0"):
        LwF(temperature=0)
    with pytest.raises(ValueError, match="`weight` must be 0 or more, got -1"):
        LwF(weight=-1)
