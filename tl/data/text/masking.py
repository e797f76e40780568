"""Which tokens a language model predicts: a function of (seed, epoch, index)."""

from __future__ import annotations

import torch
from torch import Tensor

from tl.data.images.resident import mixed_seed
from tl.data.synthetic.dice import GOLDEN, mix
from tl.tasks.class_targets import MISSING

_TO_MASK, _TO_RANDOM = 0.8, 0.9  # Devlin et al., 2019, section 3.1
_MANTISSA = (1 << 53) - 1
_STREAMS = 3  # which tokens are chosen, what happens to them, and which tokens replace them


def mask_tokens(
    ids: Tensor,
    index: Tensor,
    *,
    seed: int,
    epoch: int,
    rate: float,
    mask_id: int,
    special: Tensor,
    vocab_size: int,
) -> tuple[Tensor, Tensor]:
    """Mask tokens for a language model (Devlin et al., 2019, arXiv:1810.04805).

    Each token is chosen with probability `rate`. Of the chosen tokens, 80 % become the mask token,
    10 % a random token, and 10 % stay. Special tokens are neither chosen nor inserted.

    What happens to a token depends only on `seed`, `epoch`, the sample's index and the token's
    position, not on the rest of the batch, padding or the number of processes.

    Args:
        ids: Tokens ``(N, L)``.
        index: Index of each sample in its source ``(N,)``.
        seed: Seed.
        epoch: Epoch; -1 for evaluation, whose masks stay the same.
        rate: Fraction of the tokens to choose, 0.15 in the paper.
        mask_id: Id of the mask token.
        special: Ids of the special tokens ``(S,)``.
        vocab_size: Size of the vocabulary.

    Returns:
        Tokens ``(N, L)`` with some of them masked, and targets ``(N, L)``: the original token where
        one was chosen, else -1.
    """
    chance, fate, other = uniform(mixed_seed("masks", seed, epoch), index, ids.shape[1])
    chosen = (chance < rate) & ~torch.isin(ids, special.to(ids.device))
    target = torch.where(chosen, ids, MISSING).long()
    plain = torch.ones(vocab_size, dtype=torch.bool, device=ids.device)
    plain[special.to(ids.device)] = False
    ordinary = plain.nonzero().flatten()
    drawn = ordinary[(other * len(ordinary)).long().clamp(max=len(ordinary) - 1)].to(ids.dtype)
    hidden = torch.where(chosen & (fate < _TO_MASK), mask_id, ids)
    random = chosen & (fate >= _TO_MASK) & (fate < _TO_RANDOM)
    return torch.where(random, drawn, hidden), target


def uniform(key: int, index: Tensor, length: int) -> Tensor:
    """Return uniform numbers in [0, 1) by sample and position, ``(3, N, L)`` float64.

    A counter-based generator: the finaliser of SplitMix64 (Steele et al., 2014) of sample, position
    and stream. A generator per sample would cost a call for each.

    Args:
        key: Seed, 63 bits.
        index: Index of each sample ``(N,)``.
        length: Number of positions.
    """
    streams = torch.arange(_STREAMS, device=index.device)[:, None, None]
    places = torch.arange(length, device=index.device)
    rows = mix(index.long()[:, None] ^ key)
    mixed = mix(rows + GOLDEN * (_STREAMS * places + streams + 1))
    return (mixed & _MANTISSA).double() * 2.0**-53
