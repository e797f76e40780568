"""Classes, depth and normals of a scene stay true to an image that is cropped and mirrored."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tl.data.images.augment import Augment, augment, draw
from tl.data.images.on_pixels import PixelTargets
from tl.data.synthetic.rays import pixel_directions
from tl.data.synthetic.rooms import SyntheticScenesDataModule
from tl.data.synthetic.scenes import draw_scenes

SIZE, COUNT = 48, 12


def scenes() -> tuple[Tensor, dict[str, Tensor]]:
    """Images and maps; the maps have a void corner each."""
    found = draw_scenes(COUNT, SIZE, seed=3)
    maps = {"segmentation": found.segmentation.to(torch.int8), "depth": found.depth}
    maps |= {"normals": found.normals, "objects": found.objects}
    maps["segmentation"][:, :4, :6] = -1
    for name in ("depth", "normals"):
        maps[name] = maps[name].clone()
        maps[name][..., :4, :6] = torch.nan
    return found.images, maps


def moved(settings: Augment, draws: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    images, maps = scenes()
    targets = PixelTargets(SyntheticScenesDataModule().tasks)
    found = targets(maps, SIZE, SIZE, settings, draws)
    assert isinstance(found, Mapping)
    seen = augment(images.movedim(1, -1), settings, torch.zeros(3), draws)
    return seen.movedim(-1, 1), found


def mirror() -> tuple[Augment, Tensor]:
    """Each image mirrored, none cropped."""
    draws = torch.zeros(5, COUNT, dtype=torch.int64)
    draws[2] = 1
    return Augment(padding=0, flip=True), draws


def test_a_mirror_image_has_the_maps_of_the_mirrored_room() -> None:
    images, maps = scenes()
    seen, found = moved(*mirror())
    assert seen.equal(images.flip(-1))
    assert found["segmentation"].equal(maps["segmentation"].flip(-1))
    for name, signs in (("depth", [1.0]), ("normals", [-1.0, 1, 1])):
        wanted = maps[name].flip(-1) * torch.tensor(signs).view(-1, 1, 1)
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=0, equal_nan=True)
    assert found["objects"].equal(maps["objects"])  # of the image, not of its pixels


def test_normals_of_a_mirror_image_are_the_finite_differences_of_its_depth() -> None:
    _, found = moved(*mirror())
    points = found["depth"] * pixel_directions(SIZE, SIZE).movedim(-1, 0)
    across = points[..., 1:-1, 2:] - points[..., 1:-1, :-2]
    up = points[..., :-2, 1:-1] - points[..., 2:, 1:-1]
    normal = torch.linalg.cross(across, up, dim=1)
    normal = normal / normal.norm(dim=1, keepdim=True)
    for kind in (0, 1, 2):  # walls, floor and ceiling are flat
        inside = found["segmentation"][:, 1:-1, 1:-1] == kind
        cosine = (normal * found["normals"][..., 1:-1, 1:-1]).sum(1)[inside]
        assert cosine[~cosine.isnan()].median() > 0.999


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_takes_all_maps_from_the_place_of_its_image(flip: bool) -> None:
    settings = Augment(padding=5, flip=flip)
    draws = draw(COUNT, settings, SIZE, SIZE, torch.Generator().manual_seed(1))
    images, maps = scenes()
    seen, found = moved(settings, draws)
    for i, (top, left, turned) in enumerate(draws[:3].T.tolist()):
        # what is not in the reflected border
        rows = slice(max(0, top - 5), min(SIZE, SIZE + top - 5))
        columns = slice(max(0, left - 5), min(SIZE, SIZE + left - 5))
        to_rows = slice(max(0, 5 - top), max(0, 5 - top) + rows.stop - rows.start)
        to_columns = slice(max(0, 5 - left), max(0, 5 - left) + columns.stop - columns.start)

        def taken(part: Tensor) -> Tensor:
            return part[..., to_rows, to_columns]  # noqa: B023 - called at once

        def given(part: Tensor) -> Tensor:  # the crop is of the mirror image
            return (part.flip(-1) if turned else part)[..., rows, columns]  # noqa: B023

        assert taken(seen[i]).equal(given(images[i]))
        assert taken(found["segmentation"][i]).equal(given(maps["segmentation"][i]))
        signs = torch.tensor([-1.0 if turned else 1.0, 1, 1]).view(3, 1, 1)
        for name, sign in (("depth", torch.ones(1, 1, 1)), ("normals", signs)):
            found_part, given_part = taken(found[name][i]), given(maps[name][i]) * sign
            torch.testing.assert_close(found_part, given_part, rtol=0, atol=0, equal_nan=True)


def test_normals_keep_their_length_and_void_pixels_stay_together() -> None:
    settings = Augment(padding=9, flip=True)
    draws = draw(COUNT, settings, SIZE, SIZE, torch.Generator().manual_seed(2))
    _, found = moved(settings, draws)
    void = found["segmentation"] == -1
    assert void.any()
    assert found["depth"][:, 0].isnan().equal(void)
    assert found["normals"].isnan().all(1).equal(void)
    length = found["normals"].norm(dim=1)[~void]
    torch.testing.assert_close(length, torch.ones_like(length))
