"""Shape outlines and textures as signed functions of coordinate grids.

A word of the drawing vocabulary is a function ``(x, y) -> height``: coordinate tensors of one
shape in, a float tensor of that shape out, zero on the edge. They use only ``+ - * /``, ``sqrt``,
rounding and comparisons, which floating point computes the same for every batch and machine.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Word = Callable[[Tensor, Tensor], Tensor]

# Shapes: distance to the outline, negative inside; the shape about fills the unit disc, y is up.


def _length(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt()


def _fold(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the plane into half a sector of a five-fold symmetry, its axis pointing up."""
    x = x.abs()
    for nx, ny in ((0.809017, -0.587785), (-0.809017, -0.587785)):
        beyond = 2 * (x * nx + y * ny).clamp(min=0)
        x, y = x - nx * beyond, y - ny * beyond
    return x.abs(), y


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def star(x: Tensor, y: Tensor) -> Tensor:
    """Five-pointed star."""
    x, y = _fold(x, y)
    return 0.883 * x + 0.469 * (y - 1.05)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Square on its tip with two discs on the upper sides."""
    x, y = x.abs(), y + 0.15
    return torch.minimum((x + y.abs() - 0.8) * 0.707, _length(x - 0.4, y - 0.4) - 0.566)


def crescent(x: Tensor, y: Tensor) -> Tensor:
    """Moon: a disc bitten by another."""
    x = x - 0.2
    return torch.maximum(_length(x, y) - 0.9, 0.68 - _length(x - 0.5, y))


def flower(x: Tensor, y: Tensor) -> Tensor:
    """Five round petals."""
    x, y = _fold(x, y)
    return torch.minimum(_length(x, y - 0.6) - 0.33, _length(x, y) - 0.5)


def arrow(x: Tensor, y: Tensor) -> Tensor:
    """Triangular head on a shaft."""
    head = torch.maximum(-y, 0.75 * x.abs() + 0.66 * y - 0.6)
    return torch.minimum(head, _box(x, y + 0.45, 0.26, 0.5))


def drop(x: Tensor, y: Tensor) -> Tensor:
    """Disc drawn out to a point."""
    tip = torch.maximum(0.9 * x.abs() + 0.436 * (y - 1.05), -y - 0.1)
    return torch.minimum(_length(x, y + 0.32) - 0.6, tip)


def house(x: Tensor, y: Tensor) -> Tensor:
    """Square under a gable roof that juts out."""
    roof = torch.maximum(0.1 - y, 0.64 * x.abs() + 0.77 * (y - 0.9))
    return torch.minimum(roof, _box(x, y + 0.3, 0.6, 0.55))


def chevron(x: Tensor, y: Tensor) -> Tensor:
    """Broad V."""
    x = x.abs()
    return torch.maximum(((y + 0.45 - 0.9 * x).abs() - 0.42) * 0.743, x - 0.85)


# Textures: height over the period, positive in the second colour, slope about 1 at the edge.


def _wave(x: Tensor) -> Tensor:
    """Triangle wave of period 1: distance to the nearest edge, in [-0.25, 0.25]."""
    return 0.25 - (x - x.round()).abs()


def _cell(x: Tensor) -> Tensor:
    """Coordinate in the unit cell, in [-0.5, 0.5]."""
    return x - x.round()


def checked(x: Tensor, y: Tensor) -> Tensor:
    """Checkerboard."""
    a, b = _wave(0.7 * x), _wave(0.7 * y)
    return torch.maximum(torch.minimum(a, b), torch.minimum(-a, -b)) * 1.4


def crossed(x: Tensor, y: Tensor) -> Tensor:
    """Plus signs on a lattice."""
    a, b = _cell(0.65 * x).abs(), _cell(0.65 * y).abs()
    return 1.5 * torch.minimum(0.12 - torch.minimum(a, b), 0.38 - torch.maximum(a, b))


def speckled(x: Tensor, y: Tensor) -> Tensor:
    """Small cells coloured at random."""
    a, b = (1.8 * x).round(), (1.8 * y).round()
    mixed = a * 0.7549 + b * 0.5698 + (a * b + b * b) * 0.3819
    return mixed - mixed.floor() - 0.5


def bricked(x: Tensor, y: Tensor) -> Tensor:
    """Courses of bricks with mortar."""
    y = 0.9 * y
    shift = 0.25 * y.round()
    return 0.12 - torch.minimum(_cell(y + 0.5).abs(), 2 * _cell(0.45 * x + 2 * shift).abs())


def dashed(x: Tensor, y: Tensor) -> Tensor:
    """Broken lines, each shifted against the next."""
    x = 0.8 * x
    return torch.minimum(_wave(x) - 0.05, 2 * _wave(0.4 * y + 0.37 * x.round()) + 0.12)


def scaled(x: Tensor, y: Tensor) -> Tensor:
    """Overlapping arcs like fish scales."""
    y = 0.8 * y
    row = y.floor()
    arc = _length(_cell(0.6 * x + 0.5 * row), 0.75 * (y - row))
    return 0.14 - (arc - 0.5).abs()


def rayed(x: Tensor, y: Tensor) -> Tensor:
    """Eight sectors around one point."""
    square_radius = x * x + y * y + 1e-3
    return x * y * (x * x - y * y) / (square_radius * square_radius.sqrt())


SHAPES: dict[str, Word] = {
    "triangle": lambda x, y: torch.maximum(-y, 0.866 * x.abs() + 0.5 * y) - 0.5,
    "ring": lambda x, y: (_length(x, y) - 0.64).abs() - 0.26,  # thick circle with a hole
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.9, 0.3), _box(x, y, 0.3, 0.9)),  # plus sign
    "square": lambda x, y: _box(x, y, 0.7, 0.7),
    "crescent": crescent,
    "star": star,
    "disc": lambda x, y: _length(x, y) - 0.8,  # filled circle
    "heart": heart,
    "flower": flower,
    "arrow": arrow,
    "pill": lambda x, y: _length(x, (y.abs() - 0.55).clamp(min=0)) - 0.42,  # bar with round ends
    # two triangles, tip to tip
    "hourglass": lambda x, y: torch.maximum(y.abs() - 0.8, 0.78 * x.abs() - 0.62 * y.abs() - 0.12),
    "drop": drop,
    "house": house,
    "chevron": chevron,
}
TEXTURES: dict[str, Word] = {
    "striped": lambda x, _: _wave(x),  # even straight stripes
    "checked": checked,
    "ringed": lambda x, y: _wave(_length(x, y)),  # concentric rings
    # round spots on a lattice
    "dotted": lambda x, y: 0.3 - _length(_cell(0.9 * x), _cell(0.9 * y)),
    # thin crossing lines
    "gridded": lambda x, y: torch.maximum(_wave(0.75 * x), _wave(0.75 * y)) - 0.1,
    "zigzag": lambda x, y: 0.75 * _wave(x + 2.2 * _wave(0.55 * y)),  # stripes bent to and fro
    "pinstriped": lambda x, _: 1.4 * (_wave(0.7 * x) - 0.13),  # thin lines, far apart
    # small rings on a lattice
    "hooped": lambda x, y: 0.2 - 1.8 * (_length(_cell(0.6 * x), _cell(0.6 * y)) - 0.32).abs(),
    "crossed": crossed,
    "speckled": speckled,
    "bricked": bricked,
    # camouflage: large irregular patches
    "blotched": lambda x, y: (
        _wave(0.45 * x + _wave(0.31 * y)) + _wave(0.37 * y + 1.3 * _wave(0.29 * x)) - 0.02
    ),
    "dashed": dashed,
    "scaled": scaled,
    "rayed": rayed,
}
