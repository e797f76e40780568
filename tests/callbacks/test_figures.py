from __future__ import annotations

import io
import os

import pytest
import torch

from tl.callbacks.figures import Mistakes, confusion_figure, display_images, image_grid


def test_rows_of_the_confusion_matrix_are_shares_of_the_true_class() -> None:
    figure = confusion_figure(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"], "title")
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]  # type: ignore[union-attr]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_many_names_are_left_out() -> None:
    figure = confusion_figure(torch.eye(100), [f"class {i}" for i in range(100)], "title")
    assert "class 1" not in [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_normalised_images_get_their_colours_back() -> None:
    colours = torch.rand(4, 3, 5, 5)
    mean, std = torch.tensor([100.0, 120.0, 90.0]), torch.tensor([50.0, 60.0, 70.0])
    normalised = (colours * 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(display_images(normalised, (mean, std)), colours)
    stretched = display_images(normalised, None)
    assert (stretched.amin().item(), stretched.amax().item()) == (0, 1)


def test_small_images_are_enlarged() -> None:
    assert image_grid(torch.zeros(10, 3, 32, 32)).shape == (3, 2 * 66 + 2, 8 * 66 + 2)
    assert image_grid(torch.zeros(2, 3, 224, 224)).shape[1] == 228


def test_the_most_confident_mistakes_are_kept() -> None:
    mistakes = Mistakes(2)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    logits = torch.tensor([[9.0, 0, 0], [0, 3.0, 0], [0, 2.0, 0], [0, 9.0, 0]])
    # right, wrong, wrong, no label
    mistakes.add(images, logits, torch.tensor([0, 0, 2, -1]))
    assert [(true, predicted) for _, true, predicted, _ in mistakes.kept] == [(0, 1), (2, 1)]
    mistakes.add(images[:1], torch.tensor([[0.0, 0, 8.0]]), torch.tensor([1]))
    assert [int(kept[3][0, 0, 0]) for kept in mistakes.kept] == [0, 1]
    assert mistakes.kept[0][0] == pytest.approx(torch.tensor([0.0, 0, 8]).softmax(0)[2].item())
    figure = mistakes.figure(["a", "b", "c"], None, "title")
    assert figure is not None
    assert figure.axes[0].get_title().startswith("b\n-> c")


def test_no_mistakes_give_no_figure() -> None:
    mistakes = Mistakes(3)
    mistakes.add(torch.zeros(2, 3, 2, 2), torch.eye(2), torch.arange(2))
    assert mistakes.figure(["a", "b"], None, "title") is None


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
    mistakes = Mistakes(4)
    mistakes.add(torch.rand(2, 3, 4, 4), torch.eye(4)[:2], torch.tensor([1, 2]))
    drawn = mistakes.figure(names, None, names[2])
    assert drawn is not None
    drawn.savefig(io.BytesIO(), format="png")
