"""What an episode is made of, and what it depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tl.data.episode_sampler import EpisodeSampler, FixedEpisodes
from tl.data.errors import DataError

LABELS = torch.arange(70) % 7


def sampler(kind: type[EpisodeSampler] = EpisodeSampler, **given: Any) -> EpisodeSampler:
    options = {"ways": 3, "each": 4, "owner": "photos", "steps_per_epoch": 5, "num_replicas": 2}
    return kind(LABELS, **{**options, "rank": 0, **given})


def episodes(of: EpisodeSampler, epoch: int = 0) -> list[list[int]]:
    of.set_epoch(epoch)
    return [batch.tolist() for batch in of]


def test_an_episode_has_its_classes_and_different_samples_of_each() -> None:
    found = episodes(sampler())
    assert len(found) == len(sampler()) == 5
    for rows in found:
        classes = LABELS[rows].reshape(3, 4)
        assert len(set(rows)) == 12
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == 3
    every = [row for epoch in range(20) for rows in episodes(sampler(), epoch) for row in rows]
    assert set(every) == set(range(70))


def test_episodes_are_a_function_of_seed_epoch_step_and_rank() -> None:
    assert episodes(sampler()) == episodes(sampler())
    variants: list[dict[str, Any]] = [{}, {"seed": 1}, {"rank": 1}]
    all_of_them = [rows for v in variants for e in (0, 1) for rows in episodes(sampler(**v), e)]
    assert len(set(map(tuple, all_of_them))) == 30


def test_a_resumed_pass_goes_on_where_the_run_stands() -> None:
    whole, rest = episodes(sampler(), 3), sampler()
    rest.position = lambda: (3, 2)
    assert [batch.tolist() for batch in rest] == whole[2:]


def test_episodes_of_an_evaluation_do_not_change() -> None:
    assert episodes(sampler(FixedEpisodes), 0) == episodes(sampler(FixedEpisodes), 4)


@pytest.mark.parametrize("given", [{"ways": 8}, {"each": 11}])
def test_too_few_classes_or_samples_are_said(given: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="there are 7 classes, the smallest with 10 samples"):
        sampler(**given)
