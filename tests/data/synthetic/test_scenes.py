from __future__ import annotations

from typing import Any

import pytest
import torch

from tl.data.synthetic.rays import pixel_directions
from tl.data.synthetic.scenes import SURFACES, draw_scenes


def test_maps_fit_images_and_each_other() -> None:
    found = draw_scenes(40, (12, 16))
    assert found.images.shape == (40, 3, 12, 16)
    assert found.images.dtype is torch.uint8
    assert found.depth.shape == (40, 1, 12, 16)
    assert found.segmentation.shape == (40, 12, 16)
    assert set(found.segmentation.flatten().tolist()) == set(range(len(SURFACES)))
    torch.testing.assert_close(found.normals.norm(dim=1), torch.ones(40, 12, 16))
    assert (found.depth > 0).all()
    assert found.depth.isfinite().all()
    for kind in range(3):
        there = (found.segmentation == kind + 3).flatten(1).any(1)
        assert found.objects[:, kind].bool().equal(there)


def test_normals_are_the_finite_differences_of_depth() -> None:
    size = 96
    found = draw_scenes(8, size, seed=1)
    points = found.depth * pixel_directions(size, size).movedim(-1, 0)
    across = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    up = points[..., :-2, 1:-1] - points[..., 2:, 1:-1]
    normal = torch.linalg.cross(across, up, dim=1)
    normal = normal / normal.norm(dim=1, keepdim=True)
    cosine = (normal * found.normals[..., 1:-1, 1:-1]).sum(1)
    # edges of surfaces are between them
    assert (cosine > 0.99).float().mean() > 0.85
    floor = found.segmentation[:, 1:-1, 1:-1] == 1
    assert cosine[floor].median() > 0.9999


def test_every_surface_faces_the_eye() -> None:
    found = draw_scenes(8, 32, seed=2)
    rays = pixel_directions(32, 32).movedim(-1, 0)
    assert ((found.normals * rays).sum(1) < 1e-4).all()


def test_scenes_depend_on_seed_and_look_and_not_on_their_number() -> None:
    few, many = draw_scenes(3, 8), draw_scenes(40, 8)
    for one, other in zip(few, many, strict=True):
        assert one.equal(other[:3])
    assert not draw_scenes(3, 8, seed=1).depth.equal(few.depth)
    night = draw_scenes(40, 8, look="night")
    assert night.images.float().mean() < 0.8 * many.images.float().mean()


def test_dials_change_what_they_name() -> None:
    assert (draw_scenes(4, 8, objects=0).segmentation < 3).all()
    quiet: dict[str, Any] = {"texture": 0.0, "noise": 0.0}
    plain, noisy = draw_scenes(8, 16, **quiet), draw_scenes(8, 16, texture=0.0, noise=0.2)
    assert plain.depth.equal(noisy.depth)
    assert plain.images.float().std() < noisy.images.float().std()
    textured = draw_scenes(8, 16, texture=1.0, noise=0.0)
    floor = plain.segmentation == 1
    spread = [each.images.movedim(1, -1)[floor].float().std() for each in (plain, textured)]
    assert spread[0] < spread[1]


@pytest.mark.parametrize(
    "given", [{"objects": -1}, {"texture": 2.0}, {"look": "dusk"}, {"size": 0}]
)
def test_bad_dials_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        draw_scenes(1, **{"size": 8, **given})
