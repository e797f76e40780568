"""Targets that a classification takes, and one line for those that it does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Tiny, tiny_data, trainer
from tl import Classification, TransferModule
from tl.tasks.class_targets import MISSING, check, class_numbers, settled, wrong_label

TASK = Classification("a", 3)
NAN = float("nan")


def run(targets: Any, tmp_path: Any, verb: str = "fit") -> Any:
    torch.manual_seed(0)
    images = torch.randn(8, 3, 8, 8)
    ours, loader = TransferModule(Tiny(), TASK), DataLoader(TensorDataset(images, targets), 4)
    runner = trainer(tmp_path, max_epochs=1, log_every_n_steps=1)
    getattr(runner, verb)(ours, loader)
    return runner, ours, images


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([2, 0, -1]),
        torch.tensor([2, 0, -1], dtype=torch.int32),
        torch.tensor([2.0, 0.0, NAN]),
        torch.tensor([2.0, 0.0, NAN], dtype=torch.float64),
        torch.tensor([2, 0, 1], dtype=torch.uint16),
        torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]])[:2],
        torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [NAN, NAN, NAN]]),
        torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [NAN, NAN, NAN]]).half(),
    ],
)
def test_targets_of_a_classification_in_any_form(given: Tensor) -> None:
    found = class_numbers(check(TASK, given))
    assert found.dtype is torch.int64
    wanted = [2, 0, 1 if given.dtype is torch.uint16 else MISSING]
    assert found.tolist() == wanted[: len(given)]


def test_truth_values_are_two_classes() -> None:
    assert check(Classification("a", 2), torch.tensor([True, False])).tolist() == [1, 0]
    assert check(Classification("a", 2), torch.tensor([1, 0], dtype=torch.uint8)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.tensor([1.0, 0.25]), "sample 1 of the batch has the target 0.25, which is not"),
        (torch.tensor([NAN, float("inf")]), "sample 1 of the batch has the target inf"),
        (torch.tensor([0.0, 3.0]), "sample 1 of the batch has the label 3"),
        (torch.tensor([0.0, 2.0]), r"its targets are torch.float32 numbers; .*with `.long\(\)`"),
        (torch.tensor([2.0, -1.0]).half(), "its targets are torch.float16 numbers; expected class"),
        (torch.tensor([0, -2]), "sample 1 of the batch has the label -2"),
        (torch.tensor([0, 255], dtype=torch.uint8), "has the label 255"),
        (torch.tensor([[0.0], [1.0]]), r"of shape \(2, 1\); expected class indices 0 to 2"),
        (torch.zeros(2, 4), r"of shape \(2, 4\)"),
        (torch.zeros(2, 3, 1), r"of shape \(2, 3, 1\)"),
        (torch.tensor(1), r"of shape \(\)"),
        (torch.zeros(2, dtype=torch.complex64), "complex"),
        (torch.tensor([[0, 1, 0], [1, 1, 0]]), r"Row 1 of the targets of task 'a' is \[1, 1, 0\]"),
        (torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.7, -0.2]]), "Row 1 .* sum to 1"),
        (torch.tensor([[0.5, 0.5, NAN]]), "Row 0"),
        ([1, 2], "are a list; expected class indices"),
    ],
)
def test_other_targets_are_refused_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check(TASK, given)
    assert "\n" not in str(caught.value)


def test_integers_are_passed_through_and_soft_ones_are_not_checked_twice() -> None:
    integers = torch.tensor([2, -1])
    assert settled(TASK, integers) is integers
    soft = torch.full((2, 3), 7.0)
    assert settled(TASK, soft, checked=True) is soft
    # a batch of a column with gaps need not have one
    assert settled(TASK, torch.tensor([2.0, 0.0])).tolist() == [2, 0]


def test_a_label_that_a_head_lacks_is_named() -> None:
    error = wrong_label("a", torch.tensor([0, -1, 12, -7]), 10)
    assert "'a' has a head of 10 classes, and sample 2 of the batch has the label 12" in str(error)
    assert "2 of its 4 labels are not 0 to 9" in str(error)


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    "bad", [torch.rand(8), torch.ones(8), torch.full((8,), 3), torch.rand(8, 1)]
)
def test_a_run_ends_with_the_line(tmp_path: Any, verb: str, bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"[Tt]ask 'a'"):
        run(bad, tmp_path, verb)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_labels_are_the_cross_entropy_with_probabilities(smoothing: float) -> None:
    ours = TransferModule(Tiny(), TASK, label_smoothing=smoothing).eval()
    images, soft = torch.randn(4, 3, 8, 8), torch.rand(4, 3).softmax(1)
    soft[2] = NAN
    losses, outputs = ours.task_losses((images, soft), smooth=True)
    logits, labels = outputs["a"]
    kept = [0, 1, 3]
    wanted = functional.cross_entropy(logits[kept], soft[kept], label_smoothing=smoothing)
    torch.testing.assert_close(losses["a"].detach(), wanted)
    assert labels.tolist() == [*soft[:2].argmax(1).tolist(), MISSING, int(soft[3].argmax())]


def test_one_hot_probabilities_train_as_class_numbers_do(tmp_path: Any) -> None:
    numbers = torch.arange(8) % 3
    hard, by_number, images = run(numbers, tmp_path)
    soft, by_row, _ = run(functional.one_hot(numbers, 3).float(), tmp_path)
    torch.testing.assert_close(by_row(images), by_number(images))
    for name in ("train/acc", "train/loss"):
        torch.testing.assert_close(soft.callback_metrics[name], hard.callback_metrics[name])
    told = [
        run(t, tmp_path, "validate")[0].callback_metrics["val/acc"]
        for t in (numbers, functional.one_hot(numbers, 3).float())
    ]
    assert told[0] == told[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("bad", [torch.full((8,), 3), torch.rand(8)])
def test_on_a_gpu_too(tmp_path: Any, bad: Tensor) -> None:
    loader = DataLoader(TensorDataset(torch.randn(8, 3, 8, 8), bad), 4)
    runner = trainer(tmp_path, accelerator="gpu", max_epochs=1)
    with pytest.raises(ValueError, match="Classification 'a'"):
        runner.fit(TransferModule(Tiny(), TASK), loader)
    assert torch.ones(1, device="cuda").item() == 1  # no device-side assert


def test_our_own_data_cost_no_further_hook_and_foreign_data_can_be_copied(tmp_path: Any) -> None:
    data = tiny_data()
    ours = TransferModule(Tiny(), data.task)
    trainer(tmp_path, max_epochs=1).fit(ours, data)
    assert "on_before_batch_transfer" not in vars(ours)
    _, foreign, images = run(torch.arange(8) % 3, tmp_path)
    again = copy.deepcopy(foreign)
    assert again.on_before_batch_transfer.args[0] is again
    with pytest.raises(ValueError, match="the label 3"):
        again.on_before_batch_transfer((images, torch.full((8,), 3)), 0)
