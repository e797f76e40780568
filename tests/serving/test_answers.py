from __future__ import annotations

import pytest
import torch

from tl.serving.answers import Answer, Prediction
from tl.tasks import Classification


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
