"""What classifications show of their answers."""

from __future__ import annotations

import io

import pytest
import torch

from tl.tasks import Classification
from tl.tasks.pictures import Pictures, View

IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)


def collect(task: Classification, most: int = 2) -> Pictures:
    found = task.pictures(most)
    assert found is not None
    return found


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
