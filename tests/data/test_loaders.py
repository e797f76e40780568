from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from tl.data.errors import DataError
from tl.data.images.resident import ResidentDataset
from tl.data.loaders import (
    EpochSampler,
    check_shared_memory,
    class_by_class,
    even_batch_size,
    make_loader,
)


def dataset(n: int = 10) -> ResidentDataset:
    images = torch.arange(n * 12, dtype=torch.uint8).view(n, 2, 2, 3)
    return ResidentDataset(images, {"fine": torch.arange(n)})


def positions(order: EpochSampler) -> list[int]:
    return [i for batch in order for i in batch.tolist()]


def sampler(n: int, steps: int | None, *, world: int = 1, rank: int = 0) -> EpochSampler:
    return EpochSampler(
        dataset(n),
        batch_size=3,
        steps_per_epoch=steps,
        seed=5,
        num_replicas=world,
        rank=rank,
    )


def test_short_data_are_recycled_in_a_new_order_each_pass() -> None:
    order = positions(sampler(6, steps=6))  # 18 positions: three passes
    passes = [tuple(order[i : i + 6]) for i in (0, 6, 12)]
    assert all(sorted(p) == list(range(6)) for p in passes)
    assert len(set(passes)) == 3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    one, two = sampler(100, steps=30), sampler(100, steps=30)
    assert positions(one) == positions(two)
    two.set_epoch(1)
    assert positions(one) != positions(two)


def test_ranks_share_an_epoch_without_overlap() -> None:
    parts = [positions(sampler(24, steps=4, world=2, rank=r)) for r in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(24))


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    whole = positions(sampler(20, steps=5))
    resumed = sampler(20, steps=5)
    where = (0, 2)
    resumed.position = lambda: where
    begun = iter(resumed)
    where = (0, 3)  # known only when the pass begins, after the loader was made
    assert torch.cat(list(begun)).tolist() == whole[9:]
    where = (1, 0)
    resumed_epoch = positions(resumed)
    later = sampler(20, steps=5)
    later.set_epoch(1)
    assert resumed_epoch == positions(later)


def test_order_is_the_same_for_any_number_of_workers() -> None:
    def labels(workers: int) -> list[int]:
        order = sampler(20, steps=5)
        order.position = lambda: (3, 1)
        loader = make_loader(dataset(20), order, workers)
        return torch.cat([target for _, target in loader]).tolist()

    assert labels(0) == labels(2)


def test_evaluation_gives_each_image_once_and_each_rank_as_many_batches() -> None:
    for size in range(2, 40):
        for world in (1, 2, 3):
            if size < world:
                continue
            for asked in (1, 2, 5, 8, 100):
                batch = even_batch_size(size, world, asked)
                shares = [
                    [
                        b.tolist()
                        for b in EpochSampler(
                            dataset(size), batch_size=batch, num_replicas=world, rank=r
                        )
                    ]
                    for r in range(world)
                ]
                assert Counter(i for share in shares for b in share for i in b) == Counter(
                    range(size)
                )
                assert len({len(share) for share in shares}) == 1


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(DataError, match="2 images cannot be divided among 3 processes"):
        even_batch_size(2, 3, 10)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_begins_when_the_first_batch_is_asked_for(workers: int) -> None:
    order = sampler(20, steps=5)
    begun: list[int] = []

    def position() -> tuple[int, int]:
        begun.append(1)
        return 0, 0

    order.position = position
    batches = iter(make_loader(dataset(20), order, workers))
    assert not begun
    first = next(batches)
    assert begun
    assert torch.equal(first[0], dataset(20)[order.order()[:3]][0])


def test_every_beginning_holds_each_class_in_proportion() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = class_by_class(labels)
    assert sorted(order.tolist()) == list(range(100))
    for size in (10, 20, 50):
        assert torch.bincount(labels[order[:size]]).tolist() == [
            6 * size // 10,
            3 * size // 10,
            size // 10,
        ]


def test_workers_without_shared_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_shared_memory(1, tmp_path)
    with pytest.raises(DataError, match=r"take 1,000,000,000,000\.0 MB, and .* `num_workers: 0`"):
        check_shared_memory(10**18, tmp_path)
    with pytest.raises(DataError, match=r".*/none is not writable. Set `num_workers: 0`"):
        check_shared_memory(1, tmp_path / "none")
    asked: list[int] = []
    monkeypatch.setattr("tl.data.loaders.check_shared_memory", asked.append)
    make_loader(dataset(20), sampler(20, steps=5), 2)
    make_loader(dataset(20), sampler(20, steps=5), 0)
    assert asked == [4 * 3 * 12 + 2**20]  # of two workers with two batches each


def test_no_room_for_a_worker_s_batch_is_an_error_in_the_loader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(RuntimeError, match="unable to allocate shared memory"):
        next(iter(make_loader(dataset(20), sampler(20, steps=5), 1)))
