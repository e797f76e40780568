from __future__ import annotations

import torch

from tl.data.synthetic.rays import box, cylinder, pixel_directions, room, sphere

AHEAD = torch.tensor([[0.0, 0, -1]])
CENTRE = torch.tensor([[0.0, 0, -4]])


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def test_rays_go_through_the_centres_of_pixels() -> None:
    found = pixel_directions(2, 4, slope=1.0)
    assert found[0, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert found[:, 0, 1].tolist() == [0.25, -0.25]
    assert (found[..., 2] == -1).all()


def test_the_floor_is_a_plane() -> None:
    directions = pixel_directions(9, 9).view(-1, 3)
    low, high = torch.tensor([[-50.0, -1, -50]]), torch.tensor([[50.0, 50, 1]])
    depth, side = room(directions, low, high)
    down = directions[:, 1] < -1 / 50
    torch.testing.assert_close(depth[0, down], -1 / directions[down, 1])
    assert (side[0, down] == 1).all()
    assert depth[0, 40] == 50  # straight ahead
    assert side[0, 40] == 2


def test_a_sphere_is_where_the_quadratic_formula_says() -> None:
    directions = pixel_directions(15, 15).view(-1, 3)
    depth, normals = sphere(directions, torch.tensor([[0.5, -0.2, -4]]), one(1.0))
    met = depth[0].isfinite()
    points = depth[0, met, None] * directions[met] - torch.tensor([0.5, -0.2, -4])
    torch.testing.assert_close(points.norm(dim=1), torch.ones(int(met.sum())))
    torch.testing.assert_close(normals[0, met], points)
    assert ((normals[0, met] * directions[met]).sum(1) < 0).all()  # it faces the eye
    assert sphere(AHEAD, CENTRE, one(1.0))[0] == 3
    assert sphere(AHEAD, -CENTRE, one(1.0))[0].isinf()  # behind the eye


def test_a_box_is_met_at_its_front_and_turned_at_its_edge() -> None:
    half = torch.tensor([[1.0, 1, 1]])
    depth, normal = box(AHEAD, CENTRE, half, one(0.0))
    assert depth == 3
    assert normal.tolist() == [[[0, 0, 1]]]
    depth, normal = box(AHEAD, CENTRE, half, one(torch.pi / 4))
    torch.testing.assert_close(depth[0, 0], 4 - torch.tensor(2.0).sqrt())
    torch.testing.assert_close(normal.abs()[0, 0], torch.tensor([0.5, 0, 0.5]).sqrt())
    assert box(AHEAD, torch.tensor([[3.0, 0, -4]]), half, one(0.0))[0].isinf()


def test_a_cylinder_has_a_side_and_a_lid() -> None:
    depth, normal = cylinder(AHEAD, CENTRE, one(1.0), one(0.5))
    assert depth == 3
    assert normal.tolist() == [[[0, 0, 1]]]
    down = torch.tensor([[0.0, -0.25, -1]])
    below = torch.tensor([[0.0, -1.5, -4]])
    depth, normal = cylinder(down, below, one(1.0), one(0.5))
    assert depth == 4  # the lid, at y = -1
    assert normal.tolist() == [[[0, 1, 0]]]
    assert cylinder(AHEAD, below, one(1.0), one(0.5))[0].isinf()
