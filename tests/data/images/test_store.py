from __future__ import annotations

import pytest
import torch

from tl.data.images.augment import Augment, augment, draw
from tl.data.images.resident import ResidentDataset
from tl.data.images.store import Pick, Store, StoredDataset, bytes_needed, bytes_of

CPU = torch.device("cpu")


def split() -> ResidentDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 6, 6, 3), dtype=torch.uint8, generator=generator)
    whole = ResidentDataset(images, {"fine": torch.arange(9)})
    return whole.subset(torch.tensor([8, 3, 5, 1]))


@pytest.mark.parametrize(
    "settings", [None, Augment(padding=2), Augment(padding=0, flip=False, cutout=2)]
)
def test_a_store_cuts_what_the_loader_would(settings: Augment | None) -> None:
    data, positions, fill = split(), torch.tensor([2, 0, 3]), torch.full((3,), 7.0)
    store = Store(data, CPU, settings)
    plain = data.pixels(data.index[positions])
    assert torch.equal(store.cut(positions, fill, None), plain)
    if settings is not None:
        draws = draw(3, settings, 6, 6, torch.Generator().manual_seed(1))
        wanted = augment(plain, settings, fill, draws)
        assert not torch.equal(wanted, plain)
        assert torch.equal(store.cut(positions, fill, draws), wanted)


def test_a_batch_holds_positions_and_the_split_s_labels() -> None:
    data = split()
    stored = StoredDataset(data, Store(data, CPU, Augment()), CPU)
    pick, labels = stored[torch.tensor([1, 3])]
    assert isinstance(labels, torch.Tensor)
    assert labels.tolist() == [3, 1]
    assert (len(stored), len(pick)) == (4, 2)
    assert pick.to(torch.device("meta"), non_blocking=True) is pick


def test_evaluation_on_the_cpu_copies_nothing() -> None:
    data = split()
    store = Store(data, CPU, None)
    assert store._images.data_ptr() == data.images.data_ptr()


def test_the_bytes_needed_are_those_of_the_layout() -> None:
    assert bytes_needed(split(), None) == 4 * 6 * 6 * 3
    store = Store(split(), CPU, Augment(padding=2))
    assert store.windows is not None
    stored = store.windows._windows.untyped_storage().nbytes()
    assert bytes_needed(split(), Augment(padding=2)) == stored
    assert store._images.untyped_storage().nbytes() == 0  # nor the images once more
    assert bytes_of(CPU) > 10**9


def test_a_pick_tells_its_device() -> None:
    assert Pick(Store(split(), CPU, None), torch.tensor([1])).device == CPU
