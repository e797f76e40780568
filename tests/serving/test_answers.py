from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tl.serving.answers import Answer, Prediction
from tl.tasks import (
    BinaryMap,
    Classification,
    Depth,
    MaskedTokens,
    Normals,
    Regression,
    Segmentation,
    Task,
)


def test_the_best_classes_come_first() -> None:
    answer = Answer(Classification("a", 3), torch.tensor([0.2, 0.5, 0.3]), ["x", "y", "z"])
    assert answer.label == "y"
    assert answer.probability == pytest.approx(0.5)
    assert [name for name, _ in answer.top(5)] == ["y", "z", "x"]
    assert "class_name=y" in repr(answer)
    assert Answer(Classification("a", 3), torch.tensor([0.2, 0.5, 0.3])).label == "1"


def test_a_prediction_is_a_mapping_and_the_only_answer() -> None:
    answer = Answer(Classification("a", 2), torch.tensor([0.2, 0.8]), ["x", "y"])
    one, two = Prediction({"a": answer}), Prediction({"a": answer, "b": answer})
    assert one.label == one["a"].label == "y"
    assert len(two) == 2
    with pytest.raises(
        AttributeError, match=r"choose one, as prediction\['a'\]\.label; they are a"
    ):
        _ = two.label
    bad = Prediction({}, "a.png", "a.png: cannot be read.")
    with pytest.raises(KeyError, match="cannot be read"):
        _ = bad["a"]
    assert repr(bad) == "Prediction(error='a.png: cannot be read.')"


class Unnamed(Regression):
    """A task that fills no column."""

    columns: ClassVar[tuple[str, ...]] = ()

    def cells(self, answer: Tensor, names: object) -> list[dict[str, str]]:
        return [{} for _ in answer]


LABELS = Classification("m", 3, multi_label=True)
MAP = torch.full((1, 2, 2), 0.75)


@pytest.mark.parametrize(
    ("task", "value", "said"),
    [
        (Classification("a", 3), [0.25, 0.5, 0.25], "y 0.500000"),
        (LABELS, [0.75, 0.25, 0.875], "z 0.875000; x 0.750000"),
        (LABELS, [0.25, 0.375, 0.5], "no label above 0.5; the most probable is z 0.500000"),
        (Regression("r"), [0.545808], "0.545808"),
        (Regression("r", 2), [0.5, -3.0], "0.5; -3"),
        (Segmentation("s", 3), [[0, 0], [0, 2]], "classes x 0.7500; z 0.2500"),
        (Depth("d"), MAP, "mean depth 0.75"),
        (Normals("n"), MAP.expand(3, 2, 2), "mean normal 0.7500; 0.7500; 0.7500"),
        (BinaryMap("b"), MAP, "share 1.0000"),
        (MaskedTokens("t", 9), [4, 7], "tokens 4 7"),
        (Unnamed("u", 2), [1.0, 2.0], "numbers of the shape (2,)"),
    ],
)
def test_every_kind_of_task_is_said_in_words(task: Task, value: object, said: str) -> None:
    assert Answer(task, torch.as_tensor(value), ["x", "y", "z"]).words == said
