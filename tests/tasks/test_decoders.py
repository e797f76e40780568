from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tl.tasks import Depth, Segmentation
from tl.tasks.decoders import DeepLab, FeaturePyramid, decoder_class


def maps(samples: int = 2) -> list[torch.Tensor]:
    return [torch.randn(samples, c, s, s + 1) for c, s in ((4, 8), (6, 4), (8, 3))]


@pytest.mark.parametrize("decoder", [FeaturePyramid, DeepLab])
def test_answers_are_as_large_as_the_images(decoder: type[nn.Module]) -> None:
    head = decoder([4, 6, 8], 5, 16)
    found = head(maps(), (17, 19))
    assert found.shape == (2, 5, 17, 19)
    found.sum().backward()
    reads = list(head.parameters())
    assert all(each.grad is not None for each in reads)


def test_the_pyramid_reads_every_stage() -> None:
    head = FeaturePyramid([4, 6, 8], 5).eval()
    given = maps(1)
    before = head(given, (8, 9))
    for i, stage in enumerate(given):
        changed = [*given[:i], stage + 1, *given[i + 1 :]]
        assert not head(changed, (8, 9)).allclose(before)


def test_deeplab_computes_what_torchvision_does() -> None:
    deeplab = pytest.importorskip("torchvision.models.segmentation.deeplabv3")
    theirs = deeplab.DeepLabHead(16, 5, [12, 24, 36]).eval()
    ours = DeepLab([4, 16], 5).eval()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.copy_(other)
    top = torch.randn(2, 16, 9, 9)
    torch.testing.assert_close(ours([top, top], (9, 9)), theirs(top))


def test_deeplab_says_what_to_do_about_a_batch_of_one() -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        DeepLab([8], 5, 16)([torch.randn(1, 8, 4, 4)], (8, 8))


def test_tasks_take_decoders_by_class_path() -> None:
    head = Segmentation("a", 7, decoder="tl.tasks.decoders.DeepLab", width=16).head([4, 8])
    assert isinstance(head, DeepLab)
    assert head([*maps()[::2]], (8, 9)).shape == (2, 7, 8, 9)
    assert isinstance(Depth("a").head((4, 6, 8)), FeaturePyramid)
    with pytest.raises(TypeError, match="channels of each"):
        Depth("a").head(64)


@pytest.mark.parametrize(
    "path",
    ["", ".x", "FeaturePyramid", "tl.tasks.decoders.None", "tl.task.decoders.DeepLab", "math.pi"],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path of a class"):
        decoder_class(path)


@pytest.mark.parametrize(
    ("content", "error"),
    [("import nowhere", ImportError), ("import math; math.pie", AttributeError)],
)
def test_a_mistake_in_the_module_of_a_decoder_keeps_its_traceback(
    content: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decoder_with_a_typo.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(error) as found:
        decoder_class("decoder_with_a_typo.Net")
    assert "decoder_with_a_typo.py" in str(found.traceback[-1].path)
