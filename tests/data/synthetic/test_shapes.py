from __future__ import annotations

from itertools import combinations

import pytest
import torch

from tl.data.synthetic.shapes import SHAPES, TEXTURES, Word

AXIS = torch.linspace(-1.2, 1.2, 97)
X, Y = AXIS.expand(97, 97), AXIS[:, None].expand(97, 97)
WORDS = {**SHAPES, **TEXTURES}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_heights_are_finite_everywhere(word: Word) -> None:
    for stretch in (0.0, 1.0, 1000.0):  # small objects see coordinates far outside
        height = word(stretch * X, stretch * Y)
        assert height.shape == X.shape
        assert height.isfinite().all()


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_heights_are_the_same_alone_and_in_a_batch(word: Word) -> None:
    batch = word(torch.stack([X, 2 * X, -X]), torch.stack([Y, 2 * Y, Y]))
    assert torch.equal(batch[1], word(2 * X, 2 * Y))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_one_object_within_the_frame(name: str) -> None:
    inside = SHAPES[name](X, Y) < 0
    assert 0.1 < inside.float().mean() < 0.5
    rim = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    assert not rim.any()
    assert (SHAPES[name](50 * X, 50 * Y) < 0).float().mean() < 0.01


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_has_two_colours_everywhere(name: str) -> None:
    first = TEXTURES[name](8 * X, 8 * Y) > 0
    assert 0.15 < first.float().mean() < 0.85
    for quarter in (first[:48, :48], first[:48, 48:], first[48:, :48], first[48:, 48:]):
        assert 0.05 < quarter.float().mean() < 0.95


@pytest.mark.parametrize("table", [SHAPES, TEXTURES], ids=["shapes", "textures"])
def test_words_are_pairwise_different(table: dict[str, Word]) -> None:
    scale = 1 if table is SHAPES else 4
    masks = {name: word(scale * X, scale * Y) > 0 for name, word in table.items()}
    for one, two in combinations(masks, 2):
        # at least one pixel in twenty-five tells them apart, also upside down and mirrored
        for turned in (masks[two], masks[two].flip(0), masks[two].flip(1), masks[two].T):
            assert (masks[one] != turned).float().mean() > 0.04, (one, two)


def test_the_disc_and_the_square_are_what_geometry_says() -> None:
    assert SHAPES["disc"](torch.tensor(3.0), torch.tensor(4.0)) == pytest.approx(4.2)
    assert SHAPES["square"](torch.tensor(0.2), torch.tensor(-1.0)) == pytest.approx(0.3)
