"""Rooms with spheres, boxes and cylinders, and the exact truth for each pixel."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tl.data.images.resident import mixed_seed
from tl.data.synthetic.rays import box, cylinder, pixel_directions, room, sphere

#: Classes of pixels.
SURFACES = ("wall", "floor", "ceiling", "sphere", "box", "cylinder")
#: Classes of objects.
OBJECTS = SURFACES[3:]
Look = Literal["day", "night"]
_CHUNK = 32  # scenes at once: what they need fits the cache of a core
_GENTLE = {"day": 0.35, "night": 0.12}  # light from everywhere


class Scenes(NamedTuple):
    """Pictures of rooms and the truth about them.

    Attributes:
        images: ``(N, 3, H, W)`` uint8.
        segmentation: Index in ``SURFACES``, ``(N, H, W)`` uint8.
        depth: Distance along the optical axis in metres, ``(N, 1, H, W)`` float32.
        normals: Unit vectors, x right, y up, z to the eye, ``(N, 3, H, W)`` float32.
        objects: 1 where a kind of ``OBJECTS`` is seen, ``(N, 3)`` float32.
    """

    images: Tensor
    segmentation: Tensor
    depth: Tensor
    normals: Tensor
    objects: Tensor


def draw_scenes(
    count: int,
    size: int | tuple[int, int] = 64,
    *,
    objects: int = 4,
    texture: float = 0.5,
    light: float = 0.5,
    noise: float = 0.03,
    look: Look = "day",
    seed: int = 0,
) -> Scenes:
    """Draw scenes by casting a ray through the centre of each pixel.

    Colour says little about the class: each surface has a random one. A scene depends on the seed
    and its place among the others alone, not on `count`.

    Args:
        count: How many.
        size: Pixels of both sides, or height and width.
        objects: The most objects in a room; each has one at least, unless this is 0.
        texture: 0 to 1: contrast of the checks on all surfaces.
        light: 0 to 1: how much the direction of the lamp varies.
        noise: Deviation of the noise on pixels, of a range of 1.
        look: ``day``: bright, warm rooms; ``night``: dark, blue ones with a lamp at the eye.
        seed: Seed of everything.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(count, objects, {"texture": texture, "light": light, "noise": noise}, look)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"`size` must be 1 or more, got {size}.")
    directions = pixel_directions(height, width).view(-1, 3)
    parts: list[Scenes] = []
    for start in range(0, count, _CHUNK):
        generator = torch.Generator().manual_seed(mixed_seed("scenes", look, seed, start))
        drawn = _draw(directions, objects, (texture, light, noise), look, generator)
        parts.append(Scenes(*(each[: count - start] for each in drawn)))
    images, kinds, depth, normals, seen = (torch.cat(each) for each in zip(*parts, strict=True))
    return Scenes(
        images.view(count, 3, height, width),
        kinds.view(count, height, width),
        depth.view(count, 1, height, width),
        normals.view(count, 3, height, width),
        seen,
    )


def _check(count: int, objects: int, shares: dict[str, float], look: str) -> None:
    if count < 1:
        raise ValueError(f"The number of scenes must be 1 or more, got {count}.")
    if objects < 0:
        raise ValueError(f"`objects` must be 0 or more, got {objects}.")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be from 0 to 1, got {value}.")
    if look not in _GENTLE:
        raise ValueError(f"`look` must be one of {', '.join(_GENTLE)}, got {look!r}.")


def _draw(
    directions: Tensor,
    objects: int,
    dials: tuple[float, float, float],
    look: Look,
    generator: torch.Generator,
) -> Scenes:
    """Draw a chunk of scenes, pixels flat."""
    depth, normals, kinds, thing = _cast(directions, objects, generator)
    images = _paint(directions, (depth, normals, thing), (objects, *dials), look, generator)
    seen = torch.stack([(kinds == kind).any(1) for kind in (3, 4, 5)], 1).float()
    normals = normals.movedim(-1, 1).contiguous()
    return Scenes(images, kinds.to(torch.uint8), depth.unsqueeze(1), normals, seen)


def _between(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(_CHUNK, *shape, generator=generator)


def _cast(
    directions: Tensor, objects: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return depth ``(N, P)``, normals ``(N, P, 3)``, classes and the number of what is seen."""
    between = partial(_between, generator)
    low = torch.stack([-between(1.4, 2.4), -between(0.9, 1.4), -between(3.5, 6)], 1)
    high = torch.stack([between(1.4, 2.4), between(0.9, 1.5), torch.ones(_CHUNK)], 1)
    depth, side = room(directions, low, high)
    into = torch.cat([torch.eye(3), -torch.eye(3)])  # by side
    normals = into[side]
    kinds = torch.tensor([0, 1, 0, 0, 2, 0])[side]
    thing = side.clone()  # whose colour it is
    # the objects stand on the floor
    counts = torch.randint(min(objects, 1), objects + 1, (_CHUNK,), generator=generator)
    for number in range(objects):
        kind = torch.randint(3, (_CHUNK,), generator=generator)
        radius, half = between(0.2, 0.5), between(0.2, 0.6)
        z = low[:, 2] + 0.5 + between(0, 1) * (-1.8 - low[:, 2])
        x = between(-0.55, 0.55) * -z
        x = torch.minimum(torch.maximum(x, low[:, 0] + 0.5), high[:, 0] - 0.5)
        tall = torch.where(kind == 0, radius, half)
        centre = torch.stack([x, low[:, 1] + tall, z], 1)
        edges = torch.stack([radius * 0.7, half, between(0.15, 0.35)], 1)
        angle = between(0, math.pi)
        for which in range(3):
            rows = ((kind == which) & (number < counts)).nonzero()[:, 0]
            if not len(rows):
                continue
            if which == 0:
                near, facing = sphere(directions, centre[rows], radius[rows])
            elif which == 1:
                near, facing = box(directions, centre[rows], edges[rows], angle[rows])
            else:
                near, facing = cylinder(directions, centre[rows], radius[rows], half[rows])
            hides = near < depth[rows]
            depth[rows] = torch.where(hides, near, depth[rows])
            normals[rows] = torch.where(hides.unsqueeze(-1), facing, normals[rows])
            kinds[rows] = torch.where(hides, which + 3, kinds[rows])
            thing[rows] = torch.where(hides, number + 6, thing[rows])
    return depth, functional.normalize(normals, dim=-1), kinds, thing


def _paint(
    directions: Tensor,
    seen: tuple[Tensor, Tensor, Tensor],
    dials: tuple[int, float, float, float],
    look: Look,
    generator: torch.Generator,
) -> Tensor:
    """Return images ``(N, 3, P)`` of depth, normals and numbers: diffuse light, no shadows."""
    (depth, normals, thing), (objects, texture, light, noise) = seen, dials
    between = partial(_between, generator)
    points = depth.unsqueeze(-1) * directions
    colours = between(0.25, 0.95, 6 + objects, 3)
    albedo = colours.gather(1, thing.unsqueeze(-1).expand(-1, -1, 3))
    cells = ((points * between(2, 4, 1, 1) + 100).floor().sum(-1, keepdim=True) % 2) - 0.5
    albedo = albedo * (1 - texture * 0.8 * cells)
    if look == "day":
        lamp = torch.tensor([0.3, 0.8, 0.5]) + light * between(-0.8, 0.8, 3)
        towards = (lamp / lamp.norm(dim=1, keepdim=True)).unsqueeze(1)
        fall: Tensor | float = 1.0
        tint = torch.tensor([1.0, 0.95, 0.85])
    else:
        lamp = light * between(-0.5, 0.5, 3)
        ray = lamp.unsqueeze(1) - points
        away = ray.norm(dim=-1, keepdim=True)
        towards, fall = ray / away, 3 / (1 + away)
        tint = torch.tensor([0.6, 0.7, 1.0])
    facing = (normals * towards).sum(-1, keepdim=True).clamp(min=0)
    gentle = _GENTLE[look]
    shade = albedo * tint * (gentle + (1 - gentle) * facing * fall)
    shade = shade + noise * torch.randn(shade.shape, generator=generator)
    pixels: Tensor = (shade.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.movedim(-1, 1).contiguous()
