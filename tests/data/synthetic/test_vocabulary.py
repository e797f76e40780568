"""Classes of synthetic images: words that two sets share."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest

from tl.data.synthetic.vocabulary import drawn_classes


def words(relatedness: float) -> set[str]:
    """Textures and shapes that name the 10 classes."""
    return {word for name in drawn_classes(10, relatedness).names for word in name.split("_")}


@pytest.mark.parametrize(("count", "coarse", "each"), [(10, 5, 2), (100, 20, 5)])
def test_class_sets(count: Literal[10, 100], coarse: int, each: int) -> None:
    classes = drawn_classes(count)
    assert len(set(classes.names)) == len(classes.coarse_of_fine) == count
    assert len(set(classes.coarse_names)) == coarse
    assert Counter(classes.coarse_of_fine) == Counter(dict.fromkeys(range(coarse), each))
    for name, group in zip(classes.names, classes.coarse_of_fine, strict=True):
        assert name.split("_")[1] == classes.coarse_names[group].split("_")[-1]  # the shape


def test_neither_word_alone_names_a_class_of_the_ten() -> None:
    for place in (0, 1):
        uses = Counter(name.split("_")[place] for name in drawn_classes(10).names)
        assert sorted(uses.values()) == [2] * 5


@pytest.mark.parametrize("relatedness", [i / 10 for i in range(11)])
def test_relatedness_is_the_share_of_words_in_common(relatedness: float) -> None:
    known = {word for name in drawn_classes(100).names for word in name.split("_")}
    assert len(known) == 20
    mine = words(relatedness)
    assert len(mine) == 10
    assert len(mine & known) == round(10 * relatedness)
    assert len(words(1.0) - mine) == 10 - round(10 * relatedness)
