from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tl.data.images.augment import Augment
from tl.data.images.pipeline import DRAWN_AT_ONCE, Pipeline
from tl.data.images.resident import ResidentDataset
from tl.data.settings import Settings

CPU = torch.device("cpu")
STATISTICS = (torch.tensor([100.0, 110.0, 120.0]), torch.tensor([50.0, 60.0, 70.0]))


def data(n: int = 40) -> ResidentDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return ResidentDataset(images, {"fine": torch.arange(n)})


def pipeline(**changes: object) -> Pipeline:
    settings = Settings(augment=Augment(padding=2, cutout=3))
    return Pipeline("some", replace(settings, **changes), STATISTICS)  # type: ignore[arg-type]


def test_stored_and_loaded_images_give_the_same_batch_to_the_bit() -> None:
    made, split, positions = pipeline(), data(), torch.tensor([7, 1, 30, 2])
    stored = made.stored("train", split, CPU)
    assert stored is not None
    found = []
    for batch in (stored[positions], split[positions]):
        images, labels = made.transform(batch, made.draws(batch, epoch=2, step=300, rank=0))
        assert isinstance(labels, torch.Tensor)
        assert torch.equal(labels, positions)
        found.append((images, made.transform(batch, None)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not torch.equal(*found[0])


def test_draws_are_a_function_of_epoch_step_and_rank() -> None:
    batch = data()[torch.arange(4)]
    one, two = pipeline(), pipeline()
    for step in range(3, DRAWN_AT_ONCE + 3, 50):  # the one goes on, the other starts anew
        wanted = one.draws(batch, epoch=1, step=step, rank=0)
        assert torch.equal(pipeline().draws(batch, epoch=1, step=step, rank=0), wanted)
    here = two.draws(batch, epoch=1, step=9, rank=0)
    others = [
        two.draws(batch, epoch=1, step=10, rank=0),
        two.draws(batch, epoch=1, step=9 + DRAWN_AT_ONCE, rank=0),
        two.draws(batch, epoch=2, step=9, rank=0),
        two.draws(batch, epoch=1, step=9, rank=1),
        pipeline(seed=1).draws(batch, epoch=1, step=9, rank=0),
        Pipeline("other", two.settings, STATISTICS).draws(batch, epoch=1, step=9, rank=0),
    ]
    assert not any(torch.equal(here, other) for other in others)


def test_what_does_not_fit_is_left_to_the_loader_and_said(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made = pipeline(resident_share=1e-12)
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        assert made.stored("train", data(), CPU) is None
    said = caplog.text + capsys.readouterr().err
    assert "some: train images are cut on the CPU" in said
    assert "`resident_share`" in said


def test_workers_cut_images_themselves() -> None:
    assert pipeline(num_workers=2).stored("train", data(), CPU) is None
    assert pipeline().stored("train", data(), None) is None
    assert pipeline(resident_share=0.0).stored("train", data(), CPU) is None


def test_images_are_laid_out_once() -> None:
    made = pipeline()
    one, two = (made.stored("train", data(), CPU) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.store is two.store


def test_random_numbers_and_the_colour_of_holes_follow_the_images_to_their_device() -> None:
    made, images = pipeline(), data()[torch.arange(4)][0]
    labels = torch.zeros(4)
    assert made.draws((images, labels), epoch=0, step=0, rank=0).device == CPU
    there = (images.to("meta"), labels)
    draws = made.draws(there, epoch=0, step=0, rank=0)
    assert draws.is_meta
    assert made.transform(there, draws)[0].is_meta
    colour = made._fill
    assert colour.is_meta
    made.transform(there, draws)
    assert made._fill is colour  # moved once, not in each step
