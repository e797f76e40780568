from __future__ import annotations

import io
import os

import pytest
import torch

from tl.tasks.figures import (
    confusion_figure,
    confusion_image,
    display_images,
    drawable_part,
    examples_figure,
    label_figure,
    scatter_figure,
)


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


def test_other_channels_are_shown_in_grey() -> None:
    one = display_images(torch.rand(2, 1, 4, 4), None)
    many = display_images(torch.rand(2, 13, 4, 4), None)
    assert one.shape == many.shape == (2, 3, 4, 4)
    assert torch.equal(many[:, 0], many[:, 2])


def test_what_can_be_drawn_of_inputs() -> None:
    image, signal = torch.zeros(2, 13, 4, 4), torch.zeros(2, 2, 9)
    assert drawable_part(image) is image
    assert drawable_part({"ids": torch.zeros(2, 9, dtype=torch.int64), "signal": signal}) is signal
    assert drawable_part(torch.zeros(2, 9)) is None
    assert drawable_part(signal.long()) is None


def test_bars_are_precision_recall_and_f1() -> None:
    counts = torch.tensor([[3, 0], [1, 0], [2, 0]])
    figure = label_figure(counts, ["$a", "b"], "$title")
    figure.savefig(io.BytesIO(), format="png")
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([0.75, 0, 0.6, 0, 6 / 9, 0])


def test_a_scatter_leaves_out_what_is_missing() -> None:
    true = torch.tensor([[1.0, torch.nan], [3.0, 2.0]])
    figure = scatter_figure(torch.zeros(2, 2), true, "title")
    figure.savefig(io.BytesIO(), format="png")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 3]  # type: ignore[union-attr]


def test_signals_are_drawn_as_lines() -> None:
    figure = examples_figure(torch.rand(3, 2, 9), ["a", "b", "$c"], None, "title")
    figure.savefig(io.BytesIO(), format="png")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]


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
    expected = torch.from_numpy(colormaps["viridis"](shares.numpy()))[..., :3]
    found = image[:, ::scale, ::scale].permute(1, 2, 0)
    assert (found - expected).abs().max() < 0.06
    assert torch.equal(image[:, :scale, :scale], image[:, :1, :1].expand(3, scale, scale))
