from __future__ import annotations

import pytest
import torch

from tl.data.images.resident import ResidentDataset, mixed_seed


def dataset(n: int = 10) -> ResidentDataset:
    images = torch.arange(n * 12, dtype=torch.uint8).view(n, 2, 2, 3)
    return ResidentDataset(images, {"fine": torch.arange(n)})


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


def test_only_the_labels_asked_for() -> None:
    data = dataset()
    data.all_targets["coarse"] = torch.arange(10) // 5
    alone = data.only(["coarse"])
    assert list(alone.targets) == ["coarse"]
    assert list(data.targets) == ["fine", "coarse"]
    assert alone.digest() != data.digest()


def test_unlabelled_gives_positions() -> None:
    data = dataset().subset(torch.tensor([9, 4, 7])).unlabelled()
    _, positions = data.__getitems__([0, 2])
    assert isinstance(positions, torch.Tensor)
    assert positions.tolist() == [0, 2]


def test_mixed_seeds_of_neighbours_are_unrelated() -> None:
    seeds = [mixed_seed("a", epoch, step) for epoch in range(20) for step in range(20)]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert abs(sum(seed >> 62 for seed in seeds) - 200) < 60  # the top bit is a fair coin


def test_large_images_give_the_same_numbers_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (7, 20, 30, 3), dtype=torch.uint8)
    data = ResidentDataset(images, {"a": torch.arange(7)})
    mean, std = data.statistics()
    digest = data.digest()
    monkeypatch.setattr("tl.data.images.resident._PIXELS", 1300)  # two images at once
    again = data.statistics()
    assert (again[0].equal(mean), again[1].equal(std)) == (True, True)
    assert data.digest() == digest
    torch.testing.assert_close(mean, images.flatten(0, 2).float().mean(0))
