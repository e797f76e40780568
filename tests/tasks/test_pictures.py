"""What each kind of task shows of its answers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tl.tasks import Classification, Regression
from tl.tasks.pictures import Pictures, View, Worst

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
NAN = torch.nan


def collect(task: Classification | Regression, most: int = 2) -> Pictures:
    found = task.pictures(most)
    assert found is not None
    return found


def points(figure: Figure) -> Any:
    """What the first output's predictions are drawn at ``(N, 2)``: truth, prediction."""
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def test_a_classification_shows_confusion_and_the_most_confident_mistakes() -> None:
    pictures = collect(Classification("a", 3))
    logits = torch.tensor([[9.0, 0, 0], [0, 3.0, 0], [0, 2.0, 0], [0, 9.0, 0]])
    # right, wrong, wrong, no label
    pictures.add(IMAGES, logits, torch.tensor([0, 0, 2, -1]))
    assert [int(kept[3][0, 0, 0]) for kept in pictures.worst.kept] == [1, 2]  # type: ignore[attr-defined]
    pictures.add(IMAGES[:1], torch.tensor([[0.0, 0, 8.0]]), torch.tensor([1]))
    assert pictures.counts is not None
    assert pictures.counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    kept = pictures.worst.kept  # type: ignore[attr-defined]
    assert [int(one[3][0, 0, 0]) for one in kept] == [0, 1]
    assert kept[0][0] == pytest.approx(torch.tensor([0.0, 0, 8]).softmax(0)[2].item())
    figures = pictures.figures(View("title", ["a", "b", "c"]))
    assert list(figures) == ["confusion", "classes", "mistakes"]
    assert figures["mistakes"].texts[1].get_text() == "b\n→ c\n100%"
    assert [text.get_text() for text in figures["confusion"].axes[0].get_yticklabels()] == [
        *("a", "b", "c")
    ]


def test_tables_hold_the_confused_pairs_and_the_classes_the_worst_first() -> None:
    pictures = collect(Classification("a", 4))
    pictures.counts = torch.tensor([[3, 1, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 4]])
    found = pictures.tables(View("title", ["cat", "dog", "owl", "fox"]))
    assert list(found) == ["confused", "classes"]
    assert [(row["true"], row["samples"]) for row in found["confused"]] == [("dog", 2), ("cat", 1)]
    assert found["classes"]["class"] == ["dog", "cat", "fox"], "owl does not occur"
    assert found["classes"]["accuracy"] == [0.5, 0.75, 1]
    pictures.counts = torch.eye(4, dtype=torch.int64)
    assert list(pictures.tables(View("title"))) == ["classes"], "nothing is confused"
    assert collect(Classification("a", 2)).tables(View("title")) == {}


def test_no_mistakes_give_no_figure() -> None:
    pictures = collect(Classification("a", 2))
    pictures.add(torch.zeros(2, 3, 2, 2), torch.eye(2), torch.arange(2))
    assert list(pictures.figures(View("title"))) == ["confusion", "classes"]
    assert collect(Classification("a", 2)).figures(View("title")) == {}


def test_several_labels_show_the_scores_of_each_and_the_worst_samples() -> None:
    pictures = collect(Classification("a", 2, multi_label=True), 1)
    logits = torch.tensor([[4.0, 4.0], [-4.0, 1.0], [-9.0, 4.0], [4.0, -9.0]])
    truth = torch.tensor([[1, 0], [1, 1], [-1, 1], [1, 0]])
    pictures.add(IMAGES, logits, truth)
    assert pictures.counts is not None
    assert pictures.counts.tolist() == [[2, 2], [0, 1], [1, 0]]
    [cat, dog] = pictures.tables(View("title", ["cat", "dog"]))["labels"]
    assert (cat["label"], cat["recall"], dog["precision"]) == ("cat", 2 / 3, 2 / 3)
    figures = pictures.figures(View("title", ["cat", "$dog"]))
    assert list(figures) == ["labels", "mistakes"]
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png")
    assert figures["mistakes"].texts[1].get_text() in ("wrong: $dog", "missed: cat")


def test_numbers_show_predictions_against_the_truth_and_the_largest_errors() -> None:
    pictures = collect(Regression("a", 2), 1)
    output = torch.tensor([[1.0, 0.0], [0.0, 5.0], [2.0, 2.0], [3.0, 3.0]])
    truth = torch.tensor([[1.0, 0.5], [0.0, NAN], [NAN, NAN], [3.0, 3.0]])
    pictures.add(IMAGES, output, truth)
    figures = pictures.figures(View("title"))
    assert list(figures) == ["scatter", "mistakes"]
    figures["scatter"].savefig(io.BytesIO(), format="png")
    assert sorted(points(figures["scatter"])[:, 0].tolist()) == [0, 1, 3]
    assert figures["mistakes"].texts[1].get_text() == "1; 0.5\n→ 1; 0"


def test_many_points_are_a_random_part_and_no_random_number_is_taken_from_training() -> None:
    before = torch.get_rng_state()
    pictures = collect(Regression("a"))
    for begin in range(0, 6000, 1000):
        numbers = torch.arange(begin, begin + 1000.0)[:, None]
        pictures.add(None, numbers, numbers)
    shown = points(pictures.figures(View("title"))["scatter"])
    assert len(shown) == 2000
    assert 2700 < shown[:, 0].mean() < 3300
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_of_other_shapes_than_the_worst_one_are_left_out() -> None:
    worst = Worst(4)
    for size, badness in ((2, 1.0), (3, 2.0)):
        worst.add(torch.zeros(1, 3, size, size), torch.tensor([badness]), *[torch.zeros(1)] * 2)
    worst.add(None, torch.ones(1), *[torch.zeros(1)] * 2)
    worst.add(torch.zeros(1, 7), torch.ones(1), *[torch.zeros(1)] * 2)
    assert len(worst.kept) == 2
    figure = worst.figures(View("title"), lambda *_: "caption")["mistakes"]
    assert len(figure.axes) == 1
