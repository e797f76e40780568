from __future__ import annotations

import io

import pytest
import torch

from tl.tasks.map_figures import maps_figure, shares_figure


def test_four_maps_stand_side_by_side() -> None:
    images, numbers = torch.rand(2, 3, 6, 8), torch.rand(2, 6, 8)
    numbers[0, 0] = torch.nan
    errors = (numbers - 0.5).abs()
    parts = (images, numbers, 2 * numbers, errors)
    figure = maps_figure(parts, None, "a $title", error=("error", None))
    heads = [axes.get_title() for axes in figure.axes[:4]]
    assert heads == ["image", "truth", "answer", "error"]
    truth, answer, error = (axes.images[0] for axes in figure.axes[1:4])
    assert truth.get_clim() == answer.get_clim()  # colours can be compared
    assert error.get_clim() == pytest.approx((0, float(errors.nan_to_num(0).max())))
    figure.savefig(io.BytesIO())


def test_classes_have_a_key() -> None:
    colours = torch.rand(1, 4, 4, 3)
    parts = (torch.rand(1, 3, 4, 4), colours, colours, torch.zeros(1, 4, 4))
    names = ["wall", "$x^2\n"]
    figure = maps_figure(parts, None, "title", error=("wrong", 1.0), names=names)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["wall", r"\$x^2\n"]
    figure.savefig(io.BytesIO())
    names = [f"a class with the number {number}" for number in range(20)]
    figure = maps_figure(parts, None, "title", error=("wrong", 1.0), names=names)
    figure.savefig(io.BytesIO())
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert (box.x0 >= 0, box.x1 <= figure.bbox.x1) == (True, True)


def test_a_class_that_does_not_occur_is_marked_and_left_out_of_the_mean() -> None:
    figure = shares_figure(torch.tensor([0.5, torch.nan, 1.0]), ["a", "b", "c"], "IoU", "title")
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b (none)", "c"]
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "mean 0.750"
    figure.savefig(io.BytesIO())
