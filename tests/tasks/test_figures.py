from __future__ import annotations

import io
import itertools

import torch
from PIL import Image

from tl.tasks.figures import (
    display_images,
    drawable_part,
    examples_figure,
    png,
    scatter_figure,
)


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


def test_a_scatter_leaves_out_what_is_missing() -> None:
    true = torch.tensor([[1.0, torch.nan], [3.0, 2.0]])
    figure = scatter_figure(torch.zeros(2, 2), true, "title")
    figure.savefig(io.BytesIO(), format="png")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 3]  # type: ignore[union-attr]


def test_signals_are_drawn_as_lines() -> None:
    figure = examples_figure(torch.rand(3, 2, 9), ["a", "b", "$c"], None, "title")
    figure.savefig(io.BytesIO(), format="png")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]


def test_captions_stay_readable_where_a_board_shows_a_picture_350_pixels_wide() -> None:
    captions = ["aquarium_fish\n→ bicycle-built-for-two, tandem\n98%"] * 16
    captions[1:3] = ["phenacogrammus_interruptus_var_albus\n→ supercalifragilistic\n9%"] * 2
    figure = examples_figure(torch.rand(16, 3, 4, 4), captions, None, "title")
    width = Image.open(io.BytesIO(png(figure))).width
    captions_drawn = figure.texts[1:]
    height = float(captions_drawn[0].get_fontsize()) / 72 * figure.dpi * 350 / width
    assert height > 9, "pixels"
    boxes = [text.get_window_extent() for text in captions_drawn]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes[:4]))
    assert all(box.y1 < figure.bbox.y1 for box in boxes)
    pictures = [image.get_window_extent() for image in figure.axes[0].images]
    assert len(pictures) == 16
    assert all(text.y1 < above.y0 for text, above in zip(boxes[4:], pictures, strict=False))
    words = captions_drawn[0].get_text().replace("\n", " ").replace("- ", "-")
    assert "bicycle-built-for-two, tandem 98%" in words, "nothing is cut off"
    lines = captions_drawn[1].get_text().split("\n")
    assert lines == ["phenacogramm…", "interruptus_var_", "albus", "→ supercalifra…", "9%"]
