from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tl.tasks import Segmentation, as_task


def batch(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(3, classes, 5, 6, generator=generator)
    target = torch.randint(-1, classes, (3, 5, 6), generator=generator)
    target[1] = -1  # an image without any label
    return output, target


def reference(output: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    answers, ious = output.argmax(1)[target >= 0], []
    true = target[target >= 0]
    for c in range(output.shape[1]):
        either = ((answers == c) | (true == c)).sum()
        if either:
            ious.append(float(((answers == c) & (true == c)).sum() / either))
    return sum(ious) / len(ious), float((answers == true).float().mean())


def scored(task: Segmentation, output: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    found = {}
    for name, score in task.scores().items():
        for rows in (slice(0, 1), slice(1, None)):
            task.observe(score, output[rows], target[rows])
        found[name] = float(score.compute())
    return found


def test_scores_are_over_all_pixels_of_the_split() -> None:
    output, target = batch()
    found = scored(Segmentation("a", 4), output, target)
    assert (found["miou"], found["acc"]) == pytest.approx(reference(output, target))


def test_a_class_that_does_not_occur_is_left_out() -> None:
    output, target = batch()
    wider = functional.pad(output, (0, 0, 0, 0, 0, 1), value=-100.0)
    found = scored(Segmentation("a", 5), wider, target)
    assert found["miou"] == pytest.approx(reference(output, target)[0])


def test_a_class_that_is_only_answered_counts_as_missed() -> None:
    output = torch.zeros(1, 3, 1, 2)
    output[0, 2] = 1
    target = torch.tensor([[[0, 2]]])
    assert scored(Segmentation("a", 3), output, target)["miou"] == pytest.approx((0 + 0.5) / 2)


def test_loss_is_the_mean_over_known_pixels_and_zero_without_any() -> None:
    task, (output, target) = Segmentation("a", 4), batch()
    output.requires_grad_()
    wanted = functional.cross_entropy(output, target, ignore_index=-1)
    torch.testing.assert_close(task.loss(output, target), wanted)
    nothing = task.loss(output, torch.full_like(target, -1))
    nothing.backward()  # type: ignore[no-untyped-call]
    assert nothing == 0
    assert output.grad is not None
    assert not output.grad.any()
    assert task.present(target) == (target >= 0).sum()
    assert task.tally(output, target)[0] == (output.argmax(1) == target).sum()


def test_class_weights_weigh_the_pixels() -> None:
    output, target = batch(2)
    apart = functional.cross_entropy(output, target, ignore_index=-1, reduction="none")
    wanted = (apart[target == 0].sum() + 3 * apart[target == 1].sum()) / (target >= 0).sum()
    found = Segmentation("a", 2, class_weights=(1, 3)).loss(output, target)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("value", "said"),
    [(4, "above the last class for sample 1"), (-2, "below -1"), (0.5, "a fraction")],
)
def test_wrong_labels_are_named(value: float, said: str) -> None:
    target = torch.zeros(2, 3, 3) if value == 0.5 else torch.zeros(2, 3, 3, dtype=torch.uint8).int()
    target[1, 2, 1] = value
    with pytest.raises(ValueError, match=said):
        Segmentation("a", 4).settle(target)


def test_targets_may_be_bytes_or_floats_and_have_a_channel() -> None:
    task = Segmentation("a", 4)
    wanted = torch.tensor([[[3, -1]]])
    assert task.settle(torch.tensor([[[3.0, float("nan")]]])).equal(wanted)
    assert task.settle(wanted.unsqueeze(1).to(torch.int8)).equal(wanted)
    with pytest.raises(ValueError, match=r"of shape \(2, 3, 4, 4\)"):
        task.settle(torch.zeros(2, 3, 4, 4))


def test_a_checkpoint_keeps_it() -> None:
    task = Segmentation("a", 2, class_weights=(1, 2), width=8, target="rooms")
    assert as_task(task.record()) == task


def test_answers_and_cells() -> None:
    task = Segmentation("a", 3)
    output = functional.one_hot(torch.tensor([[[0, 2, 2, 2]]]), 3).movedim(-1, 1).float()
    answer = task.answer(output)
    assert answer.tolist() == [[[0, 2, 2, 2]]]
    assert task.cells(answer, ("floor", "wall", "box")) == [{"classes": "box 0.7500; floor 0.2500"}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": 2, "class_weights": (1.0,)}, "2 numbers"),
        ({"num_classes": 2, "width": 0}, "1 or more"),
        ({"num_classes": 2, "decoder": "tl.nowhere"}, "path of a class"),
    ],
)
def test_bad_options_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Segmentation("a", **given)  # type: ignore[arg-type]
