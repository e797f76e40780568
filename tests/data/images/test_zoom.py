from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.data.images.augment import MILLION, PLACES, Augment, draw
from tl.data.images.on_pixels import PixelTargets
from tl.data.images.pipeline import Pipeline
from tl.data.images.zoom import Zoom, gathered, zoom_of
from tl.data.settings import Settings
from tl.tasks import Depth, Normals, Segmentation

SCALES = (1.0, 1.2, 1.5, 2.0)


def same(target: Tensor, _: Tensor) -> Tensor:
    return target


def zoom(scale: float, top: float, left: float, count: int = 1) -> Zoom:
    return Zoom(*(torch.full((count,), each) for each in (scale, top, left)))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 4), (4, 8)])
def test_maps_equal_the_crop_enlarged_by_the_nearest_pixel(top: int, left: int) -> None:
    target = torch.randint(9, (1, 2, 12, 24), generator=torch.Generator().manual_seed(0))
    found = zoom(1.5, top, left).targets(target, same)
    crop = target[..., top : top + 8, left : left + 16].float()
    assert found.equal(functional.interpolate(crop, (12, 24), mode="nearest-exact").long())


def test_images_equal_the_crop_enlarged_bilinearly_within_its_border() -> None:
    image = torch.rand(1, 3, 12, 24, generator=torch.Generator().manual_seed(0))
    found = zoom(1.5, 2, 4).images(image)
    crop = image[..., 2:10, 4:20]
    wanted = functional.interpolate(crop, (12, 24), mode="bilinear", align_corners=False)
    inside = (..., slice(1, -1), slice(1, -1))  # at its border the crop has no neighbours
    torch.testing.assert_close(found[inside], wanted[inside])


def test_an_image_and_a_map_of_it_stay_alike() -> None:
    """Coordinates as an image, enlarged, lie within half a pixel of those as a map."""
    ramp = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(20.0), indexing="ij"))
    both = ramp.expand(64, -1, -1, -1)
    settings = Augment(padding=0, scales=SCALES)
    found = zoom_of(settings, draw(64, settings, 12, 20, torch.Generator().manual_seed(1)), 12, 20)
    assert found is not None
    assert (found.images(both) - found.targets(both, same)).abs().max() <= 0.5 + 1e-4


def test_windows_lie_within_the_image_and_reach_its_borders() -> None:
    settings = Augment(scales=(2.0,))
    draws = torch.zeros(8, 2, dtype=torch.int64)
    draws[5], draws[6:, 1] = 2 * MILLION, PLACES - 1
    found = zoom_of(settings, draws, 8, 12)
    assert found is not None
    lines, columns = found.places(8, 12)
    assert lines[0].tolist() == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    assert [float(each[1, -1]) for each in (lines, columns)] == [7.75, 11.75]


def test_a_scale_of_one_changes_no_bit() -> None:
    image, target = torch.rand(2, 3, 7, 9), torch.rand(2, 1, 7, 9)
    found = zoom(1.0, 0, 0, 2)
    assert found.images(image).equal(image)
    assert found.targets(target, Depth("a").enlarged).equal(target)


def test_depth_is_divided_by_the_scale_inverse_depth_multiplied_normals_and_classes_kept() -> None:
    found = zoom(2.0, 0, 0)
    depth, normals = torch.full((1, 1, 4, 4), 3.0), torch.rand(1, 3, 4, 4)
    normals = functional.normalize(normals, dim=1)
    assert (found.targets(depth, Depth("a").enlarged) == 1.5).all()
    assert (found.targets(depth, Depth("a", inverse=True).enlarged) == 6).all()
    length = found.targets(normals, Normals("a").enlarged).norm(dim=1)
    torch.testing.assert_close(length, torch.ones(1, 4, 4))
    classes = torch.arange(16).view(1, 4, 4).to(torch.int8)
    assert found.targets(classes, Segmentation("a", 16).enlarged)[0].tolist() == [
        *([[0, 0, 1, 1]] * 2),
        *([[4, 4, 5, 5]] * 2),
    ]


def test_what_is_missing_stays_missing_and_mixes_with_nothing() -> None:
    depth = torch.ones(1, 1, 6, 6)
    depth[..., 1, 1] = torch.nan
    found = zoom(2.0, 0, 0).targets(depth, Depth("a").enlarged)
    assert found.isnan().sum() == 4
    assert (found[~found.isnan()] == 0.5).all()


def test_random_numbers_of_the_others_stay_and_every_scale_comes_up() -> None:
    def drawn(settings: Augment) -> Tensor:
        return draw(300, settings, 8, 8, torch.Generator().manual_seed(3))

    plain, more = drawn(Augment()), drawn(Augment(scales=SCALES))
    assert (plain.shape[0], more.shape[0]) == (5, 8)
    assert more[:5].equal(plain)
    found = zoom_of(Augment(scales=SCALES), more, 8, 8)
    assert found is not None
    assert sorted(set(found.scale.tolist())) == pytest.approx(SCALES)


def test_off_without_scales_and_in_evaluation() -> None:
    settings = Augment(scales=SCALES)
    assert zoom_of(settings, None, 8, 8) is None
    assert zoom_of(Augment(), draw(2, Augment(), 8, 8), 8, 8) is None


@pytest.mark.parametrize("scales", [(0.5,), (1.0, float("nan")), (float("inf"),)])
def test_scales_below_one_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"`augment.scales` must be 1 or more"):
        Augment(scales=scales)


def test_the_pipeline_enlarges_a_batch_and_its_targets() -> None:
    tasks = (Segmentation("kinds", 4, target="kinds"), Depth("depth", target="depth"))
    augment = Augment(padding=0, flip=False, scales=(2.0,))
    pipeline = Pipeline("a", Settings(augment=augment), (torch.zeros(3), torch.ones(3)), tasks)
    images = torch.randint(256, (3, 3, 8, 12), dtype=torch.uint8)
    targets = {"kinds": torch.zeros(3, 8, 12), "depth": torch.ones(3, 1, 8, 12)}
    draws = pipeline.draws((images, targets), 0, 0, 0)
    found, maps = pipeline.transform((images, targets), draws)
    assert found.shape == images.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(maps, dict)
    assert (maps["depth"] == 0.5).all()
    plain, kept = pipeline.transform((images, targets), None)
    assert plain.equal(images.float())
    assert isinstance(kept, dict)
    assert kept["depth"].equal(targets["depth"])


def test_a_flip_negates_the_normals_of_an_enlarged_image() -> None:
    normals = torch.zeros(1, 3, 6, 6)
    normals[:, 0] = 1
    settings = Augment(padding=0, scales=(1.5,))
    draws = draw(1, settings, 6, 6)
    draws[2] = 1
    on_pixels = PixelTargets([Normals("a")])
    found = on_pixels(normals, 6, 6, settings, draws)
    assert isinstance(found, Tensor)
    assert (found[:, 0] == -1).all()


def test_gathered_takes_lines_and_columns_of_each_sample() -> None:
    target = torch.arange(18).view(2, 3, 3)
    lines, columns = torch.tensor([[0, 0, 2], [1, 1, 1]]), torch.tensor([[2, 1, 0], [0, 0, 0]])
    assert gathered(target, lines, columns).tolist() == [
        [[2, 1, 0], [2, 1, 0], [8, 7, 6]],
        [[12, 12, 12]] * 3,
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_takes_the_same_pixels() -> None:
    settings = Augment(scales=SCALES)
    draws = draw(64, settings, 32, 48, torch.Generator().manual_seed(0))
    target, image = torch.rand(64, 1, 32, 48), torch.rand(64, 3, 32, 48)
    here, there = zoom_of(settings, draws, 32, 48), zoom_of(settings, draws.cuda(), 32, 48)
    assert here is not None
    assert there is not None
    apart = here.targets(target, same) != there.targets(target.cuda(), same).cpu()
    assert apart.float().mean() < 0.01  # where a pixel's centre lies on a border
    torch.testing.assert_close(
        here.images(image), there.images(image.cuda()).cpu(), atol=1e-4, rtol=0
    )
