"""Synthetic colour images: an offline stand-in for CIFAR-10 and CIFAR-100.

A picture shows one textured object, ``"striped_triangle"``, in front of clutter and a patterned
background. Its class is the pair of words (texture, shape); colours, pose, light and everything
behind the object are nuisance factors. Two class sets share a vocabulary to the degree set by
``relatedness``.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tl.data.synthetic.shapes import SHAPES, TEXTURES, Word

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

_BATCH_PIXELS = 1 << 18  # a few megabytes per intermediate: stays in the cache
_SLOTS = 96  # random numbers per image
_ANGLES = 1024
_TURN = torch.tensor([math.sin(2 * math.pi * k / _ANGLES) for k in range(_ANGLES)])


@dataclass(frozen=True)
class DrawnClasses:
    """Names and groups of a synthetic class set.

    Attributes:
        names: One name per class, ``"<texture>_<shape>"``; unique.
        coarse_names: Names of the groups.
        coarse_of_fine: Group index of each class, in class order.
    """

    names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    coarse_of_fine: tuple[int, ...]


@dataclass(frozen=True)
class _Vocabulary:
    """Words of a class set: those that name its classes and those used as nuisance."""

    pairs: tuple[tuple[str, str], ...]  # (texture, shape) of each class
    stray_shapes: tuple[str, ...]
    stray_textures: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]  # coarse name and number of classes, in class order


def _vocabulary(num_classes: int, relatedness: float) -> _Vocabulary:
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
        return _Vocabulary(pairs, _OTHER_SHAPES, _OTHER_TEXTURES, groups)
    shared = round(10 * relatedness)
    shapes, stray_shapes = _swap(_SHARED_SHAPES, _OTHER_SHAPES, shared // 2)
    textures, stray_textures = _swap(_SHARED_TEXTURES, _OTHER_TEXTURES, (shared + 1) // 2)
    # Each shape wears two textures and each texture two shapes: neither word alone identifies the
    # class.
    pairs = tuple((textures[(i + j) % 5], shape) for i, shape in enumerate(shapes) for j in (0, 1))
    return _Vocabulary(pairs, stray_shapes, stray_textures, tuple((name, 2) for name in shapes))


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
    words = _vocabulary(num_classes, relatedness)
    return DrawnClasses(
        names=tuple(f"{texture}_{shape}" for texture, shape in words.pairs),
        coarse_names=tuple(name for name, _ in words.groups),
        coarse_of_fine=tuple(g for g, (_, size) in enumerate(words.groups) for _ in range(size)),
    )


def draw_images(
    labels: Tensor,
    num_classes: Literal[10, 100],
    *,
    seed: int,
    start: int = 0,
    relatedness: float = 1.0,
    size: int = 32,
) -> Tensor:
    """Draw one image per label.

    Image ``i`` is a pure function of ``(seed, start + i, labels[i], num_classes, relatedness,
    size)``: it depends neither on other images of the call nor on the global random state.

    The 10-class set is hard for pixels and easy for a small network: with 20,000 images a linear
    model reaches 16 % and ResNet-20 in 5 epochs 99 % (``scripts/generated_difficulty.py``).

    Args:
        labels: Class indices, int64 of shape (N,), in [0, num_classes).
        num_classes: 10 or 100; see ``drawn_classes``.
        seed: Seed of the images; ``GeneratedDataModule`` uses different ones for train and test.
        start: Index of the first image, at least 0.
        relatedness: Fraction of words the 10-class set shares with the 100-class set, in [0, 1].
        size: Height and width in pixels, at least 16.

    Returns:
        The images, uint8 of shape (N, size, size, 3) on the CPU.

    Raises:
        ValueError: If an argument has the wrong type, shape or range.
    """
    words = _vocabulary(num_classes, relatedness)
    _check(labels, num_classes, seed, start, size)
    labels = labels.cpu()
    images = torch.empty(len(labels), size, size, 3, dtype=torch.uint8)
    step = max(1, _BATCH_PIXELS // size**2)
    for first in range(0, len(labels), step):
        part = labels[first : first + step]
        index = torch.arange(start + first, start + first + len(part))
        images[first : first + step] = _draw(part, _keys(index, seed, num_classes), words, size)
    return images


def _check(labels: Tensor, num_classes: int, seed: int, start: int, size: int) -> None:
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"`labels` must be int64 of shape (N,), got {labels.dtype} of shape "
            f"{tuple(labels.shape)}; convert with `.long().flatten()`."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"`labels` must be in [0, {num_classes}), got values from {int(labels.min())} to "
            f"{int(labels.max())}; match `num_classes` to the labels."
        )
    if not 0 <= seed < 2**63 or not 0 <= start < 2**63 - len(labels):
        raise ValueError(
            f"`seed` and `start` must be in [0, 2**63), got {seed} and {start}; use small integers."
        )
    if size < 16:  # noqa: PLR2004 - textures blur to grey below
        raise ValueError(f"`size` must be at least 16 pixels, got {size}; 32 is CIFAR's.")


# Random numbers from a counter-based generator, independent for each image.


def _mix(x: Tensor) -> Tensor:
    """Finaliser of splitmix64 (Steele et al., 2014) on int64; the shifts are logical."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _keys(index: Tensor, seed: int, num_classes: int) -> Tensor:
    """Return one int64 key per image; images of equal index share their nuisance across labels."""
    return _mix(_mix(torch.tensor(seed) + 0x632BE5AB * num_classes) + index)


def _uniform(keys: Tensor, counts: int) -> Tensor:
    """Return ``counts`` float32 numbers in [0, 1) per key, shape (N, counts)."""
    counters = torch.arange(1, counts + 1) * -0x61C8864680B583EB
    return ((_mix(keys[:, None] + counters) >> 40) & 0xFFFFFF).float() / (1 << 24)


class _Dice:
    """Per-image random numbers of shape (N, 1, 1), one slot after the other."""

    def __init__(self, keys: Tensor) -> None:
        self._slots: Iterator[Tensor] = iter(_uniform(keys, _SLOTS).T[..., None, None])

    def between(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        return low + (high - low) * next(self._slots)

    def chance(self, probability: float) -> Tensor:
        return (next(self._slots) < probability).float()

    def choice(self, words: Sequence[str], table: Sequence[str]) -> Tensor:
        """Return the index in ``table`` of one of ``words``, shape (N,)."""
        picks = (next(self._slots).flatten() * len(words)).long()
        return torch.tensor([table.index(word) for word in words])[picks]


# Drawing: coordinates run from -1 to 1 over the image, colours are (N, 3, 1, 1) in [0, 1].

_SHAPE_NAMES, _TEXTURE_NAMES = tuple(SHAPES), tuple(TEXTURES)


def _rotate(x: Tensor, y: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate by tabulated angles, because a sine rounds differently depending on batch size."""
    k = (turns * _ANGLES).long() % _ANGLES
    sin, cos = _TURN[k], _TURN[(k + _ANGLES // 4) % _ANGLES]
    return cos * x + sin * y, cos * y - sin * x


def _per_word(table: dict[str, Word], words: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate each image's own word: one call per word, on the images that have it."""
    functions, out = tuple(table.values()), torch.empty_like(x)
    for word in sorted(set(words.tolist())):
        rows = (words == word).nonzero().flatten()
        out[rows] = functions[word](x[rows], y[rows])
    return out


def _hue(hue: Tensor, lightness: Tensor, saturation: Tensor) -> Tensor:
    """Colour (N, 3, 1, 1) from a hue in turns: a colour wheel of three shifted triangle waves."""
    phase = hue[:, None] + torch.tensor([0.0, 1 / 3, 2 / 3])[:, None, None]
    wheel = 4 * (phase - phase.round()).abs() - 1
    return (lightness[:, None] + 0.5 * saturation[:, None] * wheel).clamp(0, 1)


def _draw(labels: Tensor, keys: Tensor, words: _Vocabulary, size: int) -> Tensor:
    dice = _Dice(keys)
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    x, y = axis.expand(len(labels), size, size), -axis[:, None].expand(len(labels), size, size)
    focus = dice.between(0.4, 0.8) * size / 2  # edge steepness: half a unit is one pixel

    hue = dice.between(0, 1)
    ground = dice.between(0.2, 0.85)
    tones = [
        _hue(
            hue + dice.between(-0.1, 0.1), ground + dice.between(-0.15, 0.15), dice.between(0, 0.4)
        )
        for _ in range(2)
    ]
    ramp, _ = _rotate(x, y, dice.between(0, 1))
    canvas = tones[0] + (tones[1] - tones[0]) * (0.5 + 0.5 * ramp).clamp(0, 1)[:, None]
    pattern = _texture(dice.choice(words.stray_textures, _TEXTURE_NAMES), x, y, focus, dice)
    canvas = canvas + dice.between(-0.2, 0.2)[:, None] * (pattern - 0.5)[:, None]

    for _ in range(2):  # clutter, half behind the object, half out of the frame
        shape = dice.choice(words.stray_shapes, _SHAPE_NAMES)
        texture = dice.choice(words.stray_textures, _TEXTURE_NAMES)
        far, scale = dice.between(0.6, 1), dice.between(0.2, 0.4) * dice.chance(0.7)
        cx, cy = _rotate(far, torch.zeros_like(far), dice.between(0, 1))
        canvas = _paint(canvas, shape, texture, x - cx, y - cy, scale, hue, focus, dice)

    pairs = [(_TEXTURE_NAMES.index(t), _SHAPE_NAMES.index(s)) for t, s in words.pairs]
    texture, shape = torch.tensor(pairs)[labels].unbind(1)
    cx, cy, scale = dice.between(-0.25, 0.25), dice.between(-0.25, 0.25), dice.between(0.6, 0.9)
    canvas = _paint(canvas, shape, texture, x - cx, y - cy, scale, hue + 0.5, focus, dice)

    light, _ = _rotate(x, y, dice.between(0, 1))
    canvas = canvas * (1 + dice.between(0, 0.2) * light)[:, None]
    canvas = (
        (canvas - 0.5) * dice.between(0.7, 1.1)[:, None] + 0.5 + dice.between(-0.1, 0.1)[:, None]
    )
    grain = _uniform(_mix(keys + 1), size * size).view(-1, 1, size, size) - 0.5
    canvas = canvas + dice.between(0, 0.1)[:, None] * grain
    return (canvas.clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1)


def _texture(words: Tensor, x: Tensor, y: Tensor, focus: Tensor, dice: _Dice) -> Tensor:
    """Return the fraction of the second colour, (N, size, size) in [0, 1]."""
    x, y = _rotate(x, y, dice.between(0, 1))
    period = dice.between(0.32, 0.48)  # 5 to 8 of 32 pixels
    centred = torch.tensor([name in ("ringed", "rayed") for name in _TEXTURE_NAMES])[words]
    slack = torch.where(centred, 0.5, 10.0)[:, None, None]  # rings keep their centre near
    x = x / period + slack * dice.between(-1, 1)
    y = y / period + slack * dice.between(-1, 1)
    return (0.5 + _per_word(TEXTURES, words, x, y) * period * focus * 2).clamp(0, 1)


def _paint(
    canvas: Tensor,
    shape: Tensor,
    texture: Tensor,
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    hue: Tensor,
    focus: Tensor,
    dice: _Dice,
) -> Tensor:
    """Paint one textured and outlined object, centred at the origin of ``x, y``, on each image."""
    weave = _texture(texture, x, y, focus, dice)[:, None]
    dark, light = dice.between(0.1, 0.35), dice.between(0.65, 0.9)
    swap = dice.chance(0.5)
    first = _hue(hue + dice.between(-0.2, 0.2), dark + (light - dark) * swap, dice.between(0.3, 1))
    second = _hue(
        hue + dice.between(-0.2, 0.2), light + (dark - light) * swap, dice.between(0.3, 1)
    )
    edge = _hue(hue, dice.between(0, 0.2), dice.between(0, 0.4))
    ink = first + (second - first) * weave

    u, v = _rotate(x, y, dice.between(0, 1))
    safe = scale.clamp(min=1e-3)
    inside = -_per_word(SHAPES, shape, u / safe, v / safe) * scale
    rim = (0.5 + (0.08 - inside) * focus * 2).clamp(0, 1)[:, None]
    ink = ink + (edge - ink) * rim
    cover = (0.5 + inside * focus * 2).clamp(0, 1)[:, None] * (scale > 0)[:, None]
    return canvas + (ink - canvas) * cover
