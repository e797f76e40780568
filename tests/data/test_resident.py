from __future__ import annotations

from collections import Counter

import torch
from torch.utils.data import DataLoader

from tl.data.base import even_batch_size
from tl.data.resident import EpochSampler, ResidentDataset, as_batch, mixed_seed


def dataset(n: int = 10) -> ResidentDataset:
    images = torch.arange(n * 12, dtype=torch.uint8).view(n, 2, 2, 3)
    return ResidentDataset(images, {"fine": torch.arange(n)})


def sampler(n: int, steps: int | None, *, world: int = 1, rank: int = 0) -> EpochSampler:
    return EpochSampler(
        dataset(n),
        batch_size=3,
        steps_per_epoch=steps,
        seed=5,
        num_replicas=world,
        rank=rank,
    )


def test_a_batch_is_cut_by_index() -> None:
    data = dataset().subset(torch.tensor([9, 4, 7]))
    images, labels = data.__getitems__([2, 0])
    assert isinstance(labels, torch.Tensor)
    assert labels.tolist() == [7, 9]
    assert torch.equal(images, data.images[[7, 9]].permute(0, 3, 1, 2))
    one, label = data[1]
    assert torch.equal(one, data.images[4].permute(2, 0, 1))
    assert label == 4


def test_statistics_equal_torch() -> None:
    data = dataset()
    mean, std = data.statistics()
    pixels = data.images.view(-1, 3).double()
    torch.testing.assert_close(mean, pixels.mean(0).float())
    torch.testing.assert_close(std, pixels.std(0, unbiased=False).float())


def test_digest_changes_with_a_pixel_a_label_and_the_order() -> None:
    digests = {dataset().digest()}
    other = dataset()
    other.images[3, 1, 1, 2] += 1
    digests.add(other.digest())
    other = dataset()
    other.all_targets["fine"][0] = 3
    digests.add(other.digest())
    digests.add(dataset().subset(torch.arange(9, -1, -1)).digest())
    assert len(digests) == 4
    assert dataset().digest() in digests


def test_unlabelled_gives_positions() -> None:
    data = dataset().subset(torch.tensor([9, 4, 7])).unlabelled()
    _, positions = data.__getitems__([0, 2])
    assert isinstance(positions, torch.Tensor)
    assert positions.tolist() == [0, 2]


def test_short_data_are_recycled_in_a_new_order_each_pass() -> None:
    order = list(sampler(6, steps=6))  # 18 positions: three passes
    passes = [tuple(order[i : i + 6]) for i in (0, 6, 12)]
    assert all(sorted(p) == list(range(6)) for p in passes)
    assert len(set(passes)) == 3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    one, two = sampler(100, steps=30), sampler(100, steps=30)
    assert list(one) == list(two)
    two.set_epoch(1)
    assert list(one) != list(two)


def test_ranks_share_an_epoch_without_overlap() -> None:
    parts = [list(sampler(24, steps=4, world=2, rank=r)) for r in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(24))


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    whole = list(sampler(20, steps=5))
    resumed = sampler(20, steps=5)
    where = (0, 2)
    resumed.position = lambda: where
    begun = iter(resumed)
    where = (0, 3)  # known only when the pass begins, after the loader was made
    assert list(begun) == whole[9:]
    where = (1, 0)
    resumed_epoch = list(resumed)
    later = sampler(20, steps=5)
    later.set_epoch(1)
    assert resumed_epoch == list(later)


def test_order_is_the_same_for_any_number_of_workers() -> None:
    def labels(workers: int) -> list[int]:
        order = sampler(20, steps=5)
        order.position = lambda: (3, 1)
        loader = DataLoader(
            dataset(20), batch_size=3, sampler=order, num_workers=workers, collate_fn=as_batch
        )
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
                    list(EpochSampler(dataset(size), batch_size=batch, num_replicas=world, rank=r))
                    for r in range(world)
                ]
                assert Counter(i for share in shares for i in share) == Counter(range(size))
                assert len({-(-len(share) // batch) for share in shares}) == 1


def test_mixed_seeds_of_neighbours_are_unrelated() -> None:
    seeds = [mixed_seed("a", epoch, step) for epoch in range(20) for step in range(20)]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert abs(sum(seed >> 62 for seed in seeds) - 200) < 60  # the top bit is a fair coin
