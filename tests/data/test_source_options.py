"""Options set later or inherited take effect, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.tuner.tuning import Tuner

from tests.small import module, multitask_module, tiny_data, trainer
from tl.data import CifarDataModule, GeneratedDataModule, MultiTaskDataModule


def test_what_is_set_later_counts() -> None:
    data = GeneratedDataModule(train_size=200, batch_size=8)
    data.batch_size = 16
    data.setup("fit")
    assert len(next(iter(data.train_dataloader()))[0]) == 16
    first = data.splits["val"].index.tolist()
    data.batch_size = 4
    assert "val" in data.splits, "nothing is to be loaded anew"
    data.seed = 1
    assert not data.splits
    data.setup("fit")
    assert data.splits["val"].index.tolist() != first
    with pytest.raises(ValueError, match="`val_size` must be"):
        data.val_size = 2.0
    assert data.settings.val_size == 0.1
    data.train_size = 100
    data.setup("fit")
    assert len(data.splits["train"]) == 90


def test_what_is_set_later_reaches_the_sources_that_do_not_set_it_themselves() -> None:
    sources = {
        "a": GeneratedDataModule(train_size=100),
        "b": GeneratedDataModule(train_size=100, batch_size=5),
    }
    data = MultiTaskDataModule(sources=sources, batch_size=8)
    data.batch_size = 16
    assert [source.settings.batch_size for source in sources.values()] == [16, 5]
    with pytest.raises(ValueError, match="`label_fraction` must be"):
        data.label_fraction = 0.0
    assert sources["a"].settings.label_fraction == 1.0


def test_lightnings_finder_sets_the_batch_size(tmp_path: Path) -> None:
    data = tiny_data()
    run = trainer(tmp_path, max_epochs=1)
    Tuner(run).scale_batch_size(module(data), data, max_trials=2, steps_per_trial=1, init_val=4)
    assert data.settings.batch_size == data.batch_size == 8


def test_a_batch_size_that_no_source_takes_is_not_searched_for(tmp_path: Path) -> None:
    data = MultiTaskDataModule(sources={"ten": GeneratedDataModule(train_size=100, batch_size=5)})
    run = trainer(tmp_path, callbacks=[BatchSizeFinder()])
    with pytest.raises(ValueError, match="every source has its own"):
        run.fit(multitask_module(data), data)


@pytest.mark.parametrize(
    ("name", "value"), [("test_size", 0), ("train_size", -5), ("relatedness", 2.0), ("val_size", 1)]
)
def test_what_the_constructor_refuses_is_refused_later_too(name: str, value: float) -> None:
    data = GeneratedDataModule(train_size=200)
    before = getattr(data, name)
    with pytest.raises(ValueError, match=f"{name}"):
        setattr(data, name, value)
    assert getattr(data, name) == before
    assert data.settings.val_size == 0.1


def test_inherited_options_follow_and_own_ones_stay() -> None:
    sources = {"a": CifarDataModule(), "b": CifarDataModule(generated_size=300)}
    data = MultiTaskDataModule(sources=sources, images="generated", generated_size=100)
    data.generated_size = 200
    assert [source.generated_size for source in sources.values()] == [200, 300]
    data.setup("fit")
    assert len(sources["a"].splits["train"]) == 180
    data.generated_size = 100
    assert not sources["a"].splits, "other images are to be loaded"
    with pytest.raises(ValueError, match="`generated_size` must be at least"):
        data.generated_size = 5
    assert sources["a"].generated_size == 100


def test_a_subclass_with_a_constructor_of_its_own_may_be_changed_too() -> None:
    class Mine(GeneratedDataModule):
        def __init__(self, size: int) -> None:
            super().__init__(train_size=size)

    data = Mine(200)
    data.batch_size = 4
    assert data.settings.batch_size == 4
    with pytest.raises(ValueError, match="`batch_size` must be"):
        data.batch_size = 0
    assert data.batch_size == data.settings.batch_size == 4
    with pytest.raises(TypeError):
        data.batch_size = "16"  # type: ignore[assignment]
    assert data.settings.batch_size == 4
