from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tl import Classification

LABELS = Classification("a", 3, multi_label=True)


def logits(rows: int = 6, classes: int = 3) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_those_of_torch(smoothing: float) -> None:
    weights = [0.5, 1.0, 3.0]
    target = torch.tensor([0, 2, -1, 1, 2, 0])
    found = Classification("a", 3, class_weights=weights).training_loss(logits(), target, smoothing)
    wanted = functional.cross_entropy(
        logits(), target, torch.tensor(weights), ignore_index=-1, label_smoothing=smoothing
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weights": [1.0]}, r"`class_weights` of task 'a' must be 3 positive numbers"),
        ({"class_weights": [1, 1, 0]}, r"positive numbers, one for each class, got \[1.0, 1.0, 0"),
        ({"class_weights": [1, 1, float("inf")]}, r"positive numbers, .* got \[1.0, 1.0, inf"),
        ({"pos_weight": [1, 1, 1]}, "one class per sample; give it `class_weights`"),
        ({"multi_label": True, "class_weights": [1, 1, 1]}, "several labels per sample; give it"),
    ],
)
def test_weights_fit_the_classes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Classification("a", 3, **settings)


def test_rows_name_what_is_predicted() -> None:
    output = torch.tensor([[2.0, 1.0, -3.0], [-2.0, -1.0, -3.0]])
    names = ["ant", "bee", "cat"]
    one = Classification("a", 3)
    assert one.cells(one.answer(output), names)[0] == {
        "class": "0",
        "class_name": "ant",
        "probability": "0.727475",
        "top5": "ant 0.7275; bee 0.2676; cat 0.0049",
    }
    several = LABELS.cells(LABELS.answer(output), names)
    assert [row["class_name"] for row in several] == ["ant; bee", ""]
    assert several[1]["top5"].startswith("bee 0.2689; ant 0.1192")


def test_a_loss_of_ones_own_is_the_one_that_trains() -> None:
    class Doubled(Classification):
        kind = "doubled_classification"

        def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 2 * super().loss(output, target)

    logits, labels = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    plain, own = Classification("a", 2), Doubled("a", 2)
    assert own.training_loss(logits, labels, 0.0) == 2 * plain.loss(logits, labels)
    assert plain.training_loss(logits, labels, 0.0) == plain.loss(logits, labels)
    with pytest.raises(ValueError, match="Task 'a' has a loss of its own, without label smooth"):
        own.training_loss(logits, labels, 0.1)
    several = Classification("a", 2, multi_label=True)
    marks = torch.tensor([[1.0, 0.0], [1.0, torch.nan]])
    assert several.training_loss(logits, marks, 0.0) == several.loss(logits, marks)
