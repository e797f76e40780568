"""Where rays meet boxes, spheres and cylinders: batched, exact, in plain tensors.

Rays start at the eye, the origin; points are ``(x, y, z)`` with x to the right, y up and z towards
the eye, so that what is seen has a negative z. Distances count along directions whose z is -1:
the distance is then the depth, the distance along the optical axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FAR = float("inf")
_SMALL = 1e-9


def pixel_directions(height: int, width: int, slope: float = 0.6) -> Tensor:
    """Return the direction through the centre of each pixel ``(H, W, 3)``, z = -1.

    Args:
        height: Rows.
        width: Columns.
        slope: Tangent of half the angle of view, along the longer side.
    """
    longer = max(height, width)
    x = (torch.arange(width) + 0.5 - width / 2) * (2 * slope / longer)
    y = (height / 2 - torch.arange(height) - 0.5) * (2 * slope / longer)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows, -torch.ones(height, width)], -1)


def room(directions: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays from inside leave a box.

    Args:
        directions: ``(P, 3)``.
        low: Corner of the box with the least coordinates ``(N, 3)``.
        high: The opposite one ``(N, 3)``; the origin is between them.

    Returns:
        Distances ``(N, P)``, and the side that is met ``(N, P)``: 0 to 2 where its axis points
        into the box (left, floor, front wall), 3 to 5 where it points out of it.
    """
    ahead = directions > 0
    wall = torch.where(ahead, high[:, None], low[:, None])
    steps = torch.where(directions.abs() < _SMALL, _FAR, wall / directions)
    distance, axis = steps.min(-1)
    side = axis + 3 * ahead.expand(len(low), -1, -1).gather(-1, axis.unsqueeze(-1)).squeeze(-1)
    return distance, side


def sphere(directions: Tensor, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays meet spheres.

    Args:
        directions: ``(P, 3)``.
        centre: ``(N, 3)``.
        radius: ``(N,)``.

    Returns:
        Distances ``(N, P)``, infinite for a miss, and normals ``(N, P, 3)``.
    """
    along = centre @ directions.T
    square = (directions**2).sum(-1)
    left = along**2 - square * ((centre**2).sum(-1) - radius**2)[:, None]
    distance = (along - left.clamp(min=0).sqrt()) / square
    distance = torch.where((left > 0) & (distance > 0), distance, _FAR)
    points = _points(distance, directions)
    return distance, (points - centre[:, None]) / radius[:, None, None]


def box(directions: Tensor, centre: Tensor, half: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays meet boxes that stand upright.

    Args:
        directions: ``(P, 3)``.
        centre: ``(N, 3)``.
        half: Half the edges ``(N, 3)``.
        angle: Turn about the upright axis ``(N,)``.

    Returns:
        Distances ``(N, P)``, infinite for a miss, and normals ``(N, P, 3)``.
    """
    turned = _turn(directions.expand(len(centre), -1, -1), -angle)
    start = _turn(-centre[:, None], -angle)
    safe = torch.where(turned.abs() < _SMALL, _SMALL, turned)
    near = (-start - half[:, None] * safe.sign()) / safe
    far = (-start + half[:, None] * safe.sign()) / safe
    distance, axis = near.max(-1)
    met = (distance < far.amin(-1)) & (distance > 0)
    normal = torch.zeros_like(turned).scatter_(
        -1, axis.unsqueeze(-1), -safe.sign().gather(-1, axis.unsqueeze(-1))
    )
    return torch.where(met, distance, _FAR), _turn(normal, angle)


def cylinder(
    directions: Tensor, centre: Tensor, radius: Tensor, half: Tensor
) -> tuple[Tensor, Tensor]:
    """Return where rays meet cylinders that stand upright.

    Args:
        directions: ``(P, 3)``.
        centre: ``(N, 3)``.
        radius: ``(N,)``.
        half: Half the height ``(N,)``.

    Returns:
        Distances ``(N, P)``, infinite for a miss, and normals ``(N, P, 3)``.
    """
    x, y, z = directions.unbind(-1)
    square = x**2 + z**2
    along = centre[:, :1] * x + centre[:, 2:] * z
    left = along**2 - square * (centre[:, :1] ** 2 + centre[:, 2:] ** 2 - radius[:, None] ** 2)
    root = left.clamp(min=0).sqrt()
    side = (along - root) / square
    fits = (left > 0) & (side > 0) & ((side * y - centre[:, 1:2]).abs() <= half[:, None])
    side = torch.where(fits, side, _FAR)
    # of the two lids only the one on the eye's side is seen
    lid = centre[:, 1:2] - centre[:, 1:2].sign() * half[:, None]
    cap = torch.where(y.abs() < _SMALL, _FAR, lid / y)
    across = (cap * x - centre[:, :1]) ** 2 + (cap * z - centre[:, 2:]) ** 2
    cap = torch.where((across <= radius[:, None] ** 2) & (cap > 0), cap, _FAR)
    distance = torch.minimum(side, cap)
    normal = (_points(distance, directions) - centre[:, None]) / radius[:, None, None]
    normal[..., 1] = 0
    upright = torch.zeros_like(normal)
    upright[..., 1] = -centre[:, 1:2].sign()
    return distance, torch.where((cap < side).unsqueeze(-1), upright, normal)


def _points(distance: Tensor, directions: Tensor) -> Tensor:
    """Return the points ``(N, P, 3)`` at distances ``(N, P)``; the origin for a miss."""
    return distance.masked_fill(distance.isinf(), 0.0).unsqueeze(-1) * directions


def _turn(points: Tensor, angle: Tensor) -> Tensor:
    """Return points ``(N, P, 3)`` turned about the upright axis by angles ``(N,)``."""
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x, y, z = points.unbind(-1)
    return torch.stack([cos * x + sin * z, y.expand_as(cos * x), cos * z - sin * x], -1)
