"""Synthetic colour images: an offline stand-in for CIFAR-10 and CIFAR-100.

A picture shows one textured object, ``"striped_triangle"``, in front of clutter and a patterned
background. Its class is the pair of words (texture, shape); colours, pose, light and everything
behind the object are nuisance factors. Two class sets share a vocabulary to the degree set by
``relatedness``.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from tl.data.synthetic.dice import Dice, keys_of, mix, uniform
from tl.data.synthetic.shapes import SHAPES, TEXTURES, Word
from tl.data.synthetic.vocabulary import Vocabulary, vocabulary

_BATCH_PIXELS = 1 << 18  # a few megabytes per intermediate: stays in the cache
_ANGLES = 1024
_TURN = torch.tensor([math.sin(2 * math.pi * k / _ANGLES) for k in range(_ANGLES)])


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
    words = vocabulary(num_classes, relatedness)
    _check(labels, num_classes, seed, start, size)
    labels = labels.cpu()
    images = torch.empty(len(labels), size, size, 3, dtype=torch.uint8)
    step = max(1, _BATCH_PIXELS // size**2)
    for first in range(0, len(labels), step):
        part = labels[first : first + step]
        index = torch.arange(start + first, start + first + len(part))
        images[first : first + step] = _draw(part, keys_of(index, seed, num_classes), words, size)
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


def _draw(labels: Tensor, keys: Tensor, words: Vocabulary, size: int) -> Tensor:
    dice = Dice(keys)
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
    grain = uniform(mix(keys + 1), size * size).view(-1, 1, size, size) - 0.5
    canvas = canvas + dice.between(0, 0.1)[:, None] * grain
    return (canvas.clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1)


def _texture(words: Tensor, x: Tensor, y: Tensor, focus: Tensor, dice: Dice) -> Tensor:
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
    dice: Dice,
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
