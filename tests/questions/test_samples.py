from __future__ import annotations

import pytest
import torch

from tests.small import tiny_data
from tests.text import read
from tl import Classification, Regression, TensorDataModule
from tl.data.errors import DataError
from tl.questions.samples import ImageSamples, TensorSamples, TextSamples, samples_of


def test_images_come_without_augmentation_and_with_their_classes() -> None:
    data = tiny_data()
    data.setup("fit")
    found = samples_of(data)
    assert isinstance(found, ImageSamples)
    [task] = data.tasks
    assert len(found) == len(data.splits["train"]) == len(found.targets[task.name])
    [image] = found.items(torch.tensor([3]))
    assert image.dtype == torch.uint8
    assert torch.equal(image, data.splits["train"][3][0])
    assert found.fingerprint == samples_of(data).fingerprint
    assert found.fingerprint != samples_of(data, "val").fingerprint


def test_a_part_keeps_the_classes_in_proportion() -> None:
    data = tiny_data()
    data.setup("fit")
    [labels] = samples_of(data, most=20).targets.values()
    assert torch.bincount(labels).tolist() == [2] * 10


def test_samples_with_a_label_of_the_task_are_drawn_its_classes_in_proportion() -> None:
    fine, coarse = torch.full((1000,), -1), torch.arange(1000) % 4
    fine[::50] = torch.arange(20) % 10
    level = torch.full((1000,), torch.nan)
    level[500:540] = torch.arange(40.0)
    tasks = [
        Classification("coarse", 4, target="coarse"),
        Classification("fine", 10, target="fine"),
        Regression("level", target="level"),
    ]
    targets = {"coarse": coarse, "fine": fine, "level": level}
    data = TensorDataModule(torch.randn(1000, 2), targets, tasks=tasks, val_size=0)
    data.setup("fit")
    found = samples_of(data, most=10, task="fine").targets["fine"]
    assert sorted(found.tolist()) == list(range(10))
    assert torch.bincount(samples_of(data, most=20).targets["coarse"]).tolist() == [5] * 4
    found = samples_of(data, most=30, task="level").targets["level"]
    assert len(found) == 30
    assert found.isfinite().all()


def test_texts_and_tensors_are_read_as_they_are() -> None:
    text = read()
    text.setup("fit")
    found = samples_of(text, most=12)
    assert isinstance(found, TextSamples)
    assert all(isinstance(each, str) for each in found.items(torch.arange(12)))
    inputs, targets = torch.randn(30, 4), torch.randn(30)
    data = TensorDataModule(inputs, targets, tasks=[Regression("level")], val_size=0.2)
    data.setup("fit")
    numbers = samples_of(data)
    assert isinstance(numbers, TensorSamples)
    assert numbers.targets["level"].shape == (24, 1)
    assert numbers.items(torch.arange(2))[0].shape == (4,)
    assert numbers.fingerprint != samples_of(data, "val").fingerprint


def test_a_split_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="has no samples in the split 'train'; expected a data mod"):
        samples_of(tiny_data())
