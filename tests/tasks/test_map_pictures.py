"""What tasks with answers for pixels show of them."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch.nn import functional

from tl.tasks import BinaryMap, Depth, Normals, Segmentation, Task
from tl.tasks.map_pictures import MapPictures
from tl.tasks.pictures import View

IMAGES = torch.arange(6.0)[:, None, None, None].expand(6, 3, 4, 4)
NAN = torch.nan


def flat(*values: float) -> torch.Tensor:
    """Maps ``(N, 1, 4, 4)`` of one value each."""
    return torch.tensor(values).float()[:, None, None, None].repeat(1, 1, 4, 4)


def collect(task: Task, most: int = 2) -> Any:
    found = task.pictures(most)
    assert isinstance(found, MapPictures)
    return found


def places(kept: Any) -> list[int]:
    """Which of the images were kept."""
    return [int(sample[0, 0, 0]) for *_, sample in kept]


def test_depth_keeps_the_first_and_the_worst() -> None:
    pictures = collect(Depth("a"))
    target = flat(NAN, 2, 2, 2, 2, 2)
    target[3, 0, 0, 0] = NAN  # a pixel without a depth does not count
    pictures.add(IMAGES[:3], flat(9, 2, 4), target[:3])
    pictures.add(IMAGES[3:], flat(3, 2.5, 7), target[3:])
    assert places(pictures.first.kept) == [1, 2]  # the first one has no depth at all
    assert places(pictures.worst.kept) == [5, 2]
    assert [badness for badness, *_ in pictures.worst.kept] == [5, 2]
    figures = pictures.figures(View("title"))
    assert list(figures) == ["maps", "mistakes"]
    truth, answer, error = (axes.images[0].get_array() for axes in figures["mistakes"].axes[1:4])
    assert [float(part.max()) for part in (truth, answer, error)] == [2, 7, 5]


def test_depth_from_a_start_is_shown_as_depth() -> None:
    pictures = collect(Depth("a", start=3.0))
    pictures.add(IMAGES[:1], flat(-1), flat(2))
    assert pictures.first.kept[0][1].eq(2).all()


def test_segmentation_counts_all_pixels_and_shows_ious() -> None:
    pictures = collect(Segmentation("a", 3))
    target = torch.zeros(2, 4, 4, dtype=torch.int64)
    target[0, 0], target[1] = 1, -1
    answer = torch.zeros(2, 4, 4, dtype=torch.int64)
    answer[:, :, 0] = 1
    output = functional.one_hot(answer, 3).movedim(-1, 1).float()
    pictures.add(None, output, target)  # another process shows no samples, and counts
    assert pictures.counts.tolist() == [[9, 3, 0], [3, 1, 0], [0, 0, 0]]
    assert list(pictures.figures(View("title"))) == ["iou", "confusion"]
    pictures.add(IMAGES[:2], output, target)
    assert places(pictures.first.kept) == [0]
    assert pictures.worst.kept[0][0] == pytest.approx(6 / 16)
    figures = pictures.figures(View("title", ["wall", "floor", "box"]))
    assert list(figures) == ["iou", "confusion", "maps", "mistakes"]
    bars = figures["iou"].axes[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([9 / 15, 1 / 7, 0])
    for figure in figures.values():
        figure.savefig(io.BytesIO())


def test_normals_and_yes_or_no() -> None:
    up, away = torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1])
    target = up.view(1, 3, 1, 1).repeat(2, 1, 4, 4)
    target[1, :, 0] = NAN
    pictures = collect(Normals("a"))
    pictures.add(IMAGES[:2], away.view(1, 3, 1, 1).expand(2, 3, 4, 4), target)
    assert [badness for badness, *_ in pictures.worst.kept] == pytest.approx([90, 90])
    pictures.figures(View("title"))["maps"].savefig(io.BytesIO())
    pictures = collect(BinaryMap("a"))
    target = flat(1, 0, -1)
    pictures.add(IMAGES[:3], flat(9, 9, 9), target)
    assert places(pictures.worst.kept) == [1, 0]
    assert places(pictures.first.kept) == [0, 1]
    pictures.figures(View("title"))["maps"].savefig(io.BytesIO())


@pytest.mark.parametrize(
    "task", [Segmentation("a", 2), Depth("a"), Normals("a"), BinaryMap("a")], ids=lambda t: t.kind
)
def test_nothing_known_and_nothing_wanted_show_nothing(task: Task) -> None:
    channels = task.channels  # type: ignore[attr-defined]
    target = torch.full((2, 3, 4, 4) if channels == 3 else (2, 1, 4, 4), NAN)
    settled = task.settle(target)
    for most in (2, 0):
        pictures = task.pictures(most)
        assert pictures is not None
        pictures.add(IMAGES[:2], torch.ones(2, channels, 4, 4), settled)
        assert pictures.figures(View("title")) == {}
