"""Scores of classes, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure

from tl.tasks.confusion import Confusion


def confusion() -> Confusion:
    counts = torch.tensor([[8, 2, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    return Confusion(counts, ["cat", "dog", "owl", "fox"], "pets")


def test_scores_by_hand() -> None:
    found = confusion()
    assert found.accuracy == 9 / 15
    # owl neither occurs nor is predicted; fox is never right
    assert found.f1 == pytest.approx((16 / 21 + 2 / 8 + 0) / 3)
    cat, dog, owl, fox = found.per_class()
    assert cat == {
        "class": "cat",
        "samples": 10,
        "accuracy": 0.8,
        "precision": 8 / 11,
        "f1": 16 / 21,
    }
    assert (dog["accuracy"], dog["precision"], dog["f1"]) == (0.25, 0.25, 0.25)
    assert (owl["samples"], owl["accuracy"], owl["f1"]) == (0, None, None)
    assert (fox["accuracy"], fox["precision"], fox["f1"]) == (0, None, 0)


def test_the_most_confused_pairs_come_first() -> None:
    pairs = confusion().most_confused(2)
    assert [(row["true"], row["predicted"], row["samples"]) for row in pairs] == [
        ("dog", "cat", 3),
        ("cat", "dog", 2),
    ]
    assert pairs[0]["share"] == 0.75
    assert len(confusion().most_confused()) == 3


def test_it_is_drawn_for_a_notebook_and_described() -> None:
    figure = confusion().plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # for a notebook
    assert repr(confusion()) == "Confusion(4 classes, 15 samples, 6 wrong)"


def test_without_samples_scores_are_nan() -> None:
    empty = Confusion(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"], "none")
    assert math.isnan(empty.accuracy)
    assert math.isnan(empty.f1)
    assert len(empty.most_confused()) == 0
