"""What a module is made of, and the losses of a batch."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from tests.small import Tiny, tiny_data
from tl import Classification, MultiTaskModule, TransferModule


def test_a_batch_that_no_task_reads_is_an_error() -> None:
    ours = TransferModule(Tiny(), Classification("a", 2, source="x"))
    part = (torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="No task reads a source of this batch"):
        ours.task_losses({"y": part, "z": part})


def test_tasks_may_come_as_plain_dicts() -> None:
    plain = {"name": "a", "num_classes": 3, "source": None, "target": None}
    assert TransferModule(Tiny(), plain).task == Classification("a", 3)


def test_label_smoothing_acts_in_training_only() -> None:
    ours = TransferModule(Tiny(), Classification("a", 4), label_smoothing=0.2).eval()
    batch = (torch.randn(6, 3, 8, 8), torch.arange(6) % 4)
    plain, _ = ours.task_losses(batch)
    smooth, outputs = ours.task_losses(batch, smooth=True)
    log_p = outputs["a"][0].log_softmax(1)
    # 0.8 of the target class's term, 0.2 of the mean over all classes (Szegedy et al., 2016)
    wanted = -(0.8 * log_p[range(6), batch[1]] + 0.2 * log_p.mean(1)).mean()
    torch.testing.assert_close(smooth["a"], wanted)
    torch.testing.assert_close(plain["a"], -log_p[range(6), batch[1]].mean())


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], "`tasks` is empty"),
        (
            [Classification("a", 2), Classification("a", 3)],
            "Task names must differ, got a, a",
        ),
    ],
)
def test_task_lists_are_checked(tasks: list[Classification], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultiTaskModule(Tiny(), tasks)


@pytest.mark.parametrize("name", ["train", "keys", "type"])
def test_names_of_torchs_own_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        TransferModule(Tiny(), Classification(name, 2))


def test_several_tasks_are_no_single_one() -> None:
    with pytest.raises(ValueError, match=r"the data have several.*targets: fine"):
        TransferModule(Tiny(), None)


def test_modules_can_be_pickled() -> None:
    made = TransferModule(Tiny(), Classification("a", 2))
    assert pickle.loads(pickle.dumps(made)).task == Classification("a", 2)  # noqa: S301 - our own


def test_a_backbone_says_its_width() -> None:
    with pytest.raises(ValueError, match="Identity has no integer attribute `num_features`"):
        TransferModule(nn.Identity(), Classification("a", 2))


def test_another_way_to_compile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`compile` must be false, true, .* got 'fast'"):
        TransferModule(Tiny(), tiny_data().tasks[0], compile="fast")


@pytest.mark.parametrize("kind", [TransferModule, MultiTaskModule])
def test_at_most_three_classes_of_ours_stand_in_a_module(kind: type) -> None:
    ours = [each for each in kind.__mro__ if each.__module__.startswith("tl.")]
    assert len(ours) <= 3
