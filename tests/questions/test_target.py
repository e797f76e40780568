from __future__ import annotations

import pytest
import torch

from tl.questions.samples import TensorSamples
from tl.questions.target import chosen_task, places_of, target_of
from tl.tasks import Classification, Depth, Prototypes, Regression, Segmentation, Task


def samples(targets: torch.Tensor, task: Task) -> TensorSamples:
    return TensorSamples(torch.zeros(len(targets), 4), {"": targets}, [task])


def test_classes_are_numbered_as_they_occur_and_gaps_are_left_out() -> None:
    task = Classification("ten", 10)
    found = target_of(samples(torch.tensor([7, -1, 2, 7]), task), task)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1]
    assert found.rows.tolist() == [0, 2, 3]
    assert found.values.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert found.groups is None
    assert found.of(torch.arange(4.0)[:, None]).flatten().tolist() == [0, 2, 3]


def test_classes_of_episodes_are_classes() -> None:
    task = Prototypes("episodes", 1)
    found = target_of(samples(torch.tensor([7, 2, 7]), task), task)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1]


def test_numbers_are_standardised_and_a_constant_is_left_out() -> None:
    task = Regression("level", 2)
    given = torch.tensor([[1.0, 5.0], [3.0, 5.0], [torch.nan, 5.0]])
    found = target_of(samples(given, task), task)
    assert found.labels is None
    assert found.values.tolist() == [[-1], [1]]


def test_several_labels_are_numbers() -> None:
    task = Classification("tags", 2, multi_label=True)
    found = target_of(samples(torch.tensor([[1, 0], [0, 1], [1, 1]]), task), task)
    assert found.labels is None
    [(rows, part)] = found.by_known()
    assert rows.tolist() == [0, 1, 2]
    assert torch.equal(part.values, found.values)


def test_a_sample_counts_for_the_labels_that_it_has() -> None:
    task = Classification("tags", 3, multi_label=True)
    given = torch.tensor([[1, 0, 1], [0, 1, 0], [-1, 1, -1], [1, -1, 1], [-1, -1, -1]])
    found = target_of(samples(given, task), task)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.values.isnan().tolist() == (given[:4] < 0).tolist()
    torch.testing.assert_close(found.values.nanmean(0), torch.zeros(3).double())
    parts = {tuple(rows.tolist()): part for rows, part in found.by_known()}
    assert parts.keys() == {(0, 1, 3), (0, 1, 2)}
    assert parts[0, 1, 3].values.shape == (3, 2)
    assert parts[0, 1, 2].rows.tolist() == [0, 1, 2]


def test_no_sample_needs_all_labels() -> None:
    task = Regression("level", 2)
    given = torch.tensor([[1.0, torch.nan], [2.0, torch.nan], [torch.nan, 5.0], [torch.nan, 5.0]])
    found = target_of(samples(given, task), task)  # the second number does not vary
    assert found.rows.tolist() == [0, 1]
    assert found.values.tolist() == [[-1], [1]]


def test_maps_are_read_where_features_are() -> None:
    task = Segmentation("parts", 3)
    maps = torch.tensor([[[0, 1], [2, -1]], [[1, 1], [0, 0]]])
    places = torch.tensor([[[0.1, 0.9], [0.9, 0.9], [0.6, 0.2]]] * 2)
    found = target_of(samples(maps, task), task, places)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 2, 1, 0, 0]
    assert found.rows.tolist() == [0, 0, 1, 1, 1]
    assert found.places.tolist() == [0, 2, 0, 1, 2]
    assert found.groups is not None
    features = torch.arange(6.0).view(2, 3, 1)
    assert found.of(features).flatten().tolist() == [0, 2, 3, 4, 5]
    depth = Depth("depth")
    metres = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [7.0, 8.0]]]])
    values = target_of(samples(metres, depth), depth, places).values
    assert values.shape == (6, 1)
    assert (places_of(depth), places_of(Regression("x"))) == (8, 0)


def test_mistakes_are_said() -> None:
    task, other = Classification("a", 3), Regression("b")
    with pytest.raises(
        ValueError, match="one sample of each class of task 'a': a source is judged"
    ):
        target_of(samples(torch.tensor([0, 1, 2]), task), task)
    with pytest.raises(ValueError, match="One sample of the target was taken for task 'a'"):
        target_of(samples(torch.tensor([1]), task), task)
    with pytest.raises(ValueError, match="one class of task 'a'; expected two"):
        target_of(samples(torch.tensor([1, 1]), task), task)
    with pytest.raises(ValueError, match="No sample of the target has a label of task 'a'"):
        target_of(samples(torch.tensor([-1, -1]), task), task)
    with pytest.raises(ValueError, match="numbers of task 'b' are all the same"):
        target_of(samples(torch.ones(3), other), other)
    with pytest.raises(ValueError, match=r"several tasks; choose by --task one of: a, b\."):
        chosen_task([task, other], None)
    with pytest.raises(ValueError, match="no task 'c' to rank for"):
        chosen_task([task, other], "c")
