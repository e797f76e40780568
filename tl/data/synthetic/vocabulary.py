"""Classes of synthetic images: pairs of a texture and a shape, and the words they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: The 100-class set is every pair of ten shapes and ten textures, and is fixed.
_SHAPES = (
    *("triangle", "ring", "cross", "square", "crescent"),
    *("star", "disc", "heart", "flower", "arrow"),
)
_LINES = ("striped", "zigzag", "ringed", "gridded", "pinstriped")
_SPOTS = ("checked", "dotted", "hooped", "crossed", "speckled")
#: Five words of each kind that the 10-class set may share, and their five unrelated replacements.
_SHARED_SHAPES, _OTHER_SHAPES = _SHAPES[:5], ("pill", "hourglass", "drop", "house", "chevron")
_SHARED_TEXTURES = ("striped", "checked", "ringed", "dotted", "gridded")
_OTHER_TEXTURES = ("bricked", "blotched", "dashed", "scaled", "rayed")


@dataclass(frozen=True)
class DrawnClasses:
    """Names and groups of a synthetic class set."""

    names: tuple[str, ...]  # one per class, "<texture>_<shape>"
    coarse_names: tuple[str, ...]  # of the groups
    coarse_of_fine: tuple[int, ...]  # group index of each class


@dataclass(frozen=True)
class Vocabulary:
    """Words of a class set: those that name its classes and those used as nuisance."""

    pairs: tuple[tuple[str, str], ...]  # (texture, shape) of each class
    stray_shapes: tuple[str, ...]
    stray_textures: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]  # coarse name and number of classes, in class order


def vocabulary(num_classes: int, relatedness: float) -> Vocabulary:
    """Return the words of a class set; see `drawn_classes`.

    Raises:
        ValueError: If an argument is out of range.
    """
    if num_classes not in (10, 100):
        raise ValueError(f"`num_classes` must be 10 or 100, got {num_classes!r}; choose one.")
    if not 0 <= relatedness <= 1:
        raise ValueError(
            f"`relatedness` must be in [0, 1], got {relatedness!r}; 1 shares all words of the "
            "10-class set with the 100-class set, 0 none."
        )
    if num_classes == 100:  # noqa: PLR2004 - the size of the set
        families = [
            (f"{family}_{shape}", [(texture, shape) for texture in textures])
            for shape in _SHAPES
            for family, textures in (("lined", _LINES), ("spotted", _SPOTS))
        ]
        pairs = tuple(pair for _, members in families for pair in members)
        groups = tuple((name, len(members)) for name, members in families)
        return Vocabulary(pairs, _OTHER_SHAPES, _OTHER_TEXTURES, groups)
    shared = round(10 * relatedness)
    shapes, stray_shapes = _swap(_SHARED_SHAPES, _OTHER_SHAPES, shared // 2)
    textures, stray_textures = _swap(_SHARED_TEXTURES, _OTHER_TEXTURES, (shared + 1) // 2)
    # Each shape wears two textures and each texture two shapes: neither word alone identifies the
    # class.
    pairs = tuple((textures[(i + j) % 5], shape) for i, shape in enumerate(shapes) for j in (0, 1))
    return Vocabulary(pairs, stray_shapes, stray_textures, tuple((name, 2) for name in shapes))


def _swap(
    shared: Sequence[str], other: Sequence[str], kept: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keep the first words of ``shared`` and replace the rest by ``other``; return both sides."""
    return (*shared[:kept], *other[kept:]), (*other[:kept], *shared[kept:])


def drawn_classes(num_classes: Literal[10, 100], relatedness: float = 1.0) -> DrawnClasses:
    """Describe the classes that ``draw_images`` draws.

    The 100-class set is fixed: 10 shapes x 10 textures. Its 20 groups are a shape with a family
    of five textures (``"lined_star"``, ``"spotted_star"``), so classes of a group share their
    outline and differ in the texture. The 10-class set pairs five shapes with five textures, two
    textures to a shape; its 5 groups of two are the shapes. ``relatedness`` changes the 10-class
    set: ``round(10 * relatedness)`` of its ten words (textures and shapes in turn) are words of
    the 100-class set; the others are words that the 100-class set shows only as clutter and
    background, while the words they replace become clutter and background of the 10-class set.

    Args:
        num_classes: 10 or 100.
        relatedness: Fraction of shared words, in [0, 1].

    Returns:
        The names, the group names and the group of each class.

    Raises:
        ValueError: If an argument is out of range.
    """
    words = vocabulary(num_classes, relatedness)
    return DrawnClasses(
        names=tuple(f"{texture}_{shape}" for texture, shape in words.pairs),
        coarse_names=tuple(name for name, _ in words.groups),
        coarse_of_fine=tuple(g for g, (_, size) in enumerate(words.groups) for _ in range(size)),
    )
