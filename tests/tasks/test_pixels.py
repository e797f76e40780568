from __future__ import annotations

import pytest
import torch

from tl.tasks import BinaryMap, Depth, Normals, Segmentation, Task
from tl.tasks.pixels import PixelMean

TASKS: list[Task] = [Segmentation("s", 3), Depth("d"), Normals("n"), BinaryMap("b")]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_targets_that_are_no_tensors_are_refused(task: Task) -> None:
    with pytest.raises(ValueError, match="are a list; expected"):
        task.settle([1])


def test_a_mean_over_pixels_adds_up_over_batches_of_any_size() -> None:
    mean = PixelMean()
    mean.update(torch.ones(3))
    mean.update(torch.tensor([5.0]))
    mean.update(torch.zeros(0))
    assert mean.compute() == 2
    assert PixelMean().compute().isnan()
