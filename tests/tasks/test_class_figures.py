"""Matrices and bars of classes."""

from __future__ import annotations

import io
import itertools
import os

import pytest
import torch

from tl.tasks.class_figures import (
    accuracy_figure,
    confusion_figure,
    confusion_image,
    label_figure,
)
from tl.tasks.figures import examples_figure


def test_rows_of_the_confusion_matrix_are_shares_of_the_true_class() -> None:
    figure = confusion_figure(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"], "title")
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]  # type: ignore[union-attr]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_many_names_are_left_out() -> None:
    figure = confusion_figure(torch.eye(300), [f"class {i}" for i in range(300)], "title")
    assert "class 1" not in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_bars_are_precision_recall_and_f1() -> None:
    counts = torch.tensor([[3, 0], [1, 0], [2, 0]])
    figure = label_figure(counts, ["$a", "b"], "$title")
    figure.savefig(io.BytesIO(), format="png")
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([0.75, 0, 0.6, 0, 6 / 9, 0])


def test_class_names_are_not_formulas() -> None:
    names = ["$x^2", "a_b", r"$\frac{1"]
    figure = confusion_figure(torch.eye(3), names, "$title")
    figure.savefig(io.BytesIO(), format="png")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == names


def test_class_names_that_cannot_be_drawn_are_escaped() -> None:
    names = ["a\nb", "\x1b[31mred", os.fsdecode(b"caf\xe9"), "caf\u00e9"]
    shown = ["a\\nb", "\\x1b[31mred", "caf\\udce9", "caf\u00e9"]
    figure = confusion_figure(torch.eye(4), names, "title")
    figure.savefig(io.BytesIO(), format="png")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == shown
    drawn = examples_figure(torch.rand(1, 3, 4, 4), [shown[1]], None, names[2])
    drawn.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_image_of_a_confusion_matrix_has_the_colours_of_the_figure(classes: int) -> None:
    colormaps = pytest.importorskip("matplotlib").colormaps
    counts = torch.randint(0, 50, (classes, classes), generator=torch.Generator().manual_seed(0))
    counts[0] = 0  # a class without a sample
    image = confusion_image(counts)
    scale = image.shape[1] // classes
    assert image.shape == (3, scale * classes, scale * classes)
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    colours = pytest.importorskip("matplotlib.colors")
    norm = colours.LogNorm(1e-3, 1) if classes == 100 else colours.Normalize(0, 1)
    places = norm(shares.numpy().clip(1e-3 if classes == 100 else 0))
    expected = torch.from_numpy(colormaps["viridis"](places))[..., :3]
    found = image[:, ::scale, ::scale].permute(1, 2, 0)
    assert (found - expected).abs().max() < 0.06
    assert torch.equal(image[:, :scale, :scale], image[:, :1, :1].expand(3, scale, scale))


def test_names_of_a_hundred_classes_do_not_overlap() -> None:
    names = [f"class {i}" for i in range(100)]
    figure = confusion_figure(torch.eye(100), names, "title")
    figure.savefig(io.BytesIO(), format="png")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(lower.y1 < upper.y0 for upper, lower in itertools.pairwise(rows))
    assert min(box.x0 for box in rows) > axes.yaxis.label.get_window_extent().x1
    columns = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(columns))


def test_bars_are_accuracies_the_worst_on_top() -> None:
    counts = torch.tensor([[3, 0, 1, 0], [0, 0, 0, 0], [2, 0, 2, 0], [0, 0, 0, 5]])
    figure = accuracy_figure(counts, ["cat", "owl", "$dog", "fox"], "title")
    figure.savefig(io.BytesIO(), format="png")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.75, 1]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$dog", "cat", "fox"]
    assert [text.get_text() for text in axes.texts] == ["50%  → cat 50%", "75%  → $dog 25%", "100%"]


def test_of_many_classes_the_worst_have_a_bar() -> None:
    counts = torch.ones(130, 130, dtype=torch.int64)
    counts[7, 7] = 0
    figure = accuracy_figure(counts, [f"class {i}" for i in range(130)], "title")
    axes = figure.axes[0]
    assert len(axes.patches) == 100
    assert axes.get_yticklabels()[0].get_text() == "class 7"
    assert "the 100 worst of 130 classes" in figure.texts[0].get_text()
