"""Masks: Devlin's shares, and a function of (seed, epoch, index) alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.data.text.masking import mask_tokens, uniform

SPECIAL = torch.tensor([0, 1, 2, 3, 4])
GIVEN: dict[str, Any] = {"seed": 0, "epoch": 0, "rate": 0.15, "mask_id": 4, "vocab_size": 1000}


def texts(count: int = 4000, length: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (count, length), generator=generator)
    ids[:, 0], ids[:, -1] = 2, 3
    return ids


def masked(ids: Tensor, index: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    return mask_tokens(ids, index, special=SPECIAL, **{**GIVEN, **given})


def test_the_shares_are_those_of_the_paper() -> None:
    ids = texts()
    hidden, target = masked(ids, torch.arange(len(ids)))
    chosen = target != -1
    plain = ~torch.isin(ids, SPECIAL)
    count = int(plain.sum())
    assert abs(int((chosen & plain).sum()) / count - 0.15) < 4 * (0.15 * 0.85 / count) ** 0.5
    assert torch.equal(target[chosen], ids[chosen])
    total = int(chosen.sum())
    shares = {
        "masked": int((chosen & (hidden == 4)).sum()) / total,
        "kept": int((chosen & (hidden == ids)).sum()) / total,
    }
    for what, share in (("masked", 0.8), ("kept", 0.1 + 0.1 / 995)):
        assert abs(shares[what] - share) < 4 * (share * (1 - share) / total) ** 0.5
    random = chosen & (hidden != 4) & (hidden != ids)
    assert abs(int(random.sum()) / total - 0.1) < 0.01
    # replacements come from all ordinary tokens, and are no special ones
    drawn = hidden[random].bincount(minlength=1000)
    assert not drawn[:5].any()
    assert (drawn[5:] > 0).float().mean() > 0.9


def test_special_tokens_are_never_hidden() -> None:
    ids = texts()
    ids[:, 20:] = 0  # padding
    hidden, target = masked(ids, torch.arange(len(ids)), rate=0.9)
    special = torch.isin(ids, SPECIAL)
    assert torch.equal(hidden[special], ids[special])
    assert (target[special] == -1).all()


def test_a_mask_depends_on_seed_epoch_and_index_alone() -> None:
    ids, index = texts(64), torch.arange(64)
    hidden, target = masked(ids, index)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    again = masked(ids[order], index[order])
    assert torch.equal(again[0], hidden[order])
    assert torch.equal(again[1], target[order])
    longer = torch.cat([ids, torch.zeros(64, 9, dtype=torch.int64)], 1)
    assert torch.equal(masked(longer, index)[0][:, :50], hidden)
    for other in ({"seed": 1}, {"epoch": 1}):
        assert not torch.equal(masked(ids, index, **other)[1], target)
    assert not torch.equal(masked(ids, index + 1)[1], target)


def test_the_numbers_are_uniform_and_unrelated() -> None:
    found = uniform(1, torch.arange(2000), 40)
    assert found.dtype is torch.float64
    assert 0 <= float(found.min()) < float(found.max()) < 1
    bins = (found * 20).long().flatten(1)
    for stream in bins:
        count = stream.bincount(minlength=20).double()
        expected = len(stream) / 20
        assert float(((count - expected) ** 2 / expected).sum()) < 50  # chi2 of 19: 99.99 % below
    flat = found.flatten(1)
    related = torch.corrcoef(flat)
    assert float((related - torch.eye(3)).abs().max()) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([flat[0, 1:], flat[0, :-1]]))[0, 1])) < 0.02
