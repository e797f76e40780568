from __future__ import annotations

import pytest
import torch

from tl.data.errors import DataError
from tl.data.tensors import TensorDataModule
from tl.tasks import BinaryMap, Depth, Normals, Segmentation, Task
from tl.tasks.pixels import PixelMean, PixelTask

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


def batch(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and settled targets of four images, the third of them void in all pixels."""
    assert isinstance(task, PixelTask)
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, task.channels, 5, 6, generator=generator)
    if isinstance(task, Segmentation | BinaryMap):
        given = torch.randint(0, 2, (4, 5, 6), generator=generator).float()
    else:
        given = torch.rand(4, task.channels, 5, 6, generator=generator) + 0.5
        given = given / given.norm(dim=1, keepdim=True) if task.channels > 1 else given
    given[2] = torch.nan
    return output, task.settle(given)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_image_that_is_all_void_changes_nothing(task: Task) -> None:
    output, target = batch(task)
    others = torch.tensor([0, 1, 3])
    output.requires_grad_()
    loss = task.loss(output, target)
    torch.testing.assert_close(loss, task.loss(output[others], target[others]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.isfinite().all()
    assert not output.grad[2].any()
    assert task.present(target) == task.present(target[others])
    for name, score in task.scores().items():
        task.observe(score, output.detach(), target)
        found, again = score.compute(), task.scores()[name]
        task.observe(again, output.detach()[others], target[others])
        assert found.isfinite()
        assert found.equal(again.compute())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_split_that_is_all_void_has_no_score(task: Task) -> None:
    output, target = batch(task)
    for score in task.scores().values():
        task.observe(score, output[2:3], target[2:3])
        assert score.compute().isnan()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_score_has_a_direction(task: Task) -> None:
    assert task.directions.keys() == task.scores().keys()
    assert task.directions[task.score] == ("max" if task.higher_is_better else "min")


@pytest.mark.parametrize(
    ("task", "share"), [*zip(TASKS, ("acc", "delta1", "under_11", "acc"), strict=True)]
)
def test_right_answers_are_counted_as_by_a_score(task: Task, share: str) -> None:
    output, target = batch(task)
    score = task.scores()[share]
    task.observe(score, output, target)
    assert task.right_or_wrong
    found = task.right(output, target) / task.present(target)
    torch.testing.assert_close(found.float(), score.compute())


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("task", "value", "said"),
    [
        (TASKS[0], 3, "of task 's' is above the last class for sample 4 of the batch, at row 1"),
        (TASKS[0], -2, "of task 's' is below -1 for sample 4"),
        (TASKS[1], -0.5, "of task 'd' is below 0 for sample 4"),
        (TASKS[1], INF, "of task 'd' is infinite for sample 4"),
        (TASKS[2], 2.0, "of task 'n' is a vector of another length than 1 for sample 4"),
        (TASKS[3], 2, "of task 'b' is neither 0 nor 1 for sample 4"),
    ],
)
def test_a_wrong_map_is_one_line_before_training(task: Task, value: float, said: str) -> None:
    assert isinstance(task, PixelTask)
    shape = (6, 3, 4, 4) if task.channels == 3 and isinstance(task, Normals) else (6, 4, 4)
    maps = torch.ones(shape) / (3**0.5 if isinstance(task, Normals) else 1)
    maps[0] = NAN  # void is no mistake
    maps[4, ..., 1, 2] = value
    data = TensorDataModule(torch.zeros(6, 3, 4, 4), maps, [task], batch_size=2)
    with pytest.raises(DataError, match=rf"\A`targets`: [^\n]*{said}[^\n]*\Z"):
        data.setup("fit")


def test_a_map_of_another_shape_than_its_task_is_one_line() -> None:
    data = TensorDataModule(torch.zeros(6, 3, 4, 4), torch.zeros(6, 4), [TASKS[0]])
    with pytest.raises(DataError, match=r"of shape \(6, 4\); expected class indices"):
        data.setup("fit")
