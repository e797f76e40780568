from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from tests.small import tiny_data
from tl import Classification, DenseFolderDataModule, GeneratedDataModule, MultiTaskDataModule
from tl.batch import VIEWS
from tl.data import Views
from tl.data.images.augment import Augment
from tl.data.settings import Settings
from tl.tasks import NTXent


def test_defaults() -> None:
    assert Settings().augment == Augment()
    assert (Settings().batch_size, Settings().val_size, Settings().label_fraction) == (128, 0.1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("eval_batch_size", 0),
        ("val_size", 1.0),
        ("val_size", float("nan")),
        ("label_fraction", 0.0),
        ("num_workers", -1),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        Settings(**given)


def test_source_publishes_the_task_under_its_own_name() -> None:
    data = MultiTaskDataModule(
        sources={
            "labels": GeneratedDataModule(),
            "views": GeneratedDataModule(learns=NTXent(temperature=0.3)),
            "both": GeneratedDataModule(classes=100, targets="both", learns=NTXent()),
        }
    )
    labels, views, both = data.tasks
    assert labels == Classification("labels", 10, source="labels")
    assert views == NTXent("views", temperature=0.3, source="views")
    assert (both.name, both.target) == ("both", "fine")
    assert set(data.class_names) == {"labels"}


def test_views_are_a_function_of_seed_epoch_step_and_rank() -> None:
    data = tiny_data(learns=NTXent())
    data.setup("fit")
    pipeline = data._ready()
    batch = data.splits["train"][torch.arange(4)]

    def views(*at: int) -> torch.Tensor:
        inputs, _ = pipeline.two_views(batch, pipeline.draws(batch, *at))
        return torch.cat([inputs[name] for name in VIEWS])

    first = views(0, 0, 0)
    assert first.shape == (8, 3, 32, 32)
    others = [views(1, 0, 0), views(0, 1, 0), views(0, 0, 1)]
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(first, views(0, 0, 0))
    assert not torch.equal(first[:4], first[4:])


def test_evaluation_sees_the_same_views_each_time() -> None:
    data = tiny_data(learns=NTXent())
    data.setup("fit")
    pipeline = data._ready()
    batch = data.splits["val"][torch.arange(4)]
    one, other = (pipeline.evaluation_draws(batch) for _ in range(2))
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)
    plain = tiny_data()
    plain.setup("fit")
    assert plain._ready().evaluation_draws(batch) is None


def test_fingerprint_and_description_tell_the_views() -> None:
    found = {}
    for name, options in (
        ("plain", {}),
        ("default", {"learns": NTXent()}),
        ("other", {"learns": NTXent(), "views": Views(grey=0.5)}),
    ):
        data = tiny_data(**options)
        data.setup("fit")
        found[name] = data.fingerprint
        described = data.describe()
        assert ("views" in described) is (name != "plain")
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (GeneratedDataModule, {"views": Views()}, "`views` gives two .* set `learns` too"),
        (GeneratedDataModule, {"learns": "simclr"}, "`learns` must be of kind TwoViews.*'simclr'"),
        (
            DenseFolderDataModule,
            {"layout": "nyuv2", "learns": NTXent()},
            "`learns` is not for DenseFolderDataModule",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        kind(**options)


@pytest.mark.parametrize("own", [True, False])
def test_augment_beside_views_is_told(caplog: pytest.LogCaptureFixture, *, own: bool) -> None:
    data = tiny_data(learns=NTXent(), augment=Augment() if own else None)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert ("`augment` has no effect" in caplog.text) is own
