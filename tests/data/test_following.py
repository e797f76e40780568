from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.images import class_folders
from tests.small import Tiny, multitask_module, trainer
from tests.transfer.adaptation.domains import domains
from tl import FolderDataModule, GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.data.shifts import Shift
from tl.transfer.adaptation import CORAL


def loaded(data: MultiTaskDataModule, stage: str = "fit") -> dict[str, Any]:
    data.setup(stage)
    return dict(data.sources)


def same_images(**options: Any) -> MultiTaskDataModule:
    """Images with labels, and the same ones under a shift without."""

    def source(**more: Any) -> GeneratedDataModule:
        return GeneratedDataModule(train_size=60, test_size=20, **more)

    odd = source(shift=Shift("contrast", 5), labels="none")
    return MultiTaskDataModule(
        sources={"odd": odd, "clean": source()},
        **{"shares": {"odd": "clean"}, "batch_size": 20, "val_size": 0.2, **options},
    )


def rows(data: Any, split: str) -> set[int]:
    return {*data.splits[split].index.tolist()}


def test_withheld_images_are_normalised_as_those_that_train_their_head() -> None:
    """By their own statistics a shift of contrast would vanish before any method adapts."""
    found = loaded(domains())
    assert all(map(torch.equal, found["odd"].statistics, found["clean"].statistics))
    assert found["odd"].describe()["mean"] == found["clean"].describe()["mean"]
    spread: dict[str, Tensor] = {}
    for name, source in loaded(same_images()).items():
        images, _ = source.transform(source.splits["val"][torch.arange(10)], None)
        spread[name] = images.std()
    assert float(spread["odd"]) < 0.8 * float(spread["clean"])


def test_a_source_with_a_head_of_its_own_keeps_its_statistics() -> None:
    def data(**options: Any) -> dict[str, Any]:
        made = same_images(**options)
        made.sources["odd"].labels = "all"
        return loaded(made)

    trained = data()
    assert not torch.equal(trained["odd"].statistics[0], trained["clean"].statistics[0])
    evaluated = data(trains={"odd": False})
    assert torch.equal(evaluated["odd"].statistics[0], evaluated["clean"].statistics[0])


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_of_the_same_images_those_validate_that_are_not_trained_on(fraction: float) -> None:
    made = same_images()
    made.sources["odd"].label_fraction = fraction
    found = loaded(made)
    assert rows(found["odd"], "val") == rows(found["clean"], "val")
    assert not rows(found["odd"], "val") & rows(found["odd"], "train")
    assert len(found["odd"].splits["train"]) == fraction * len(found["clean"].splits["train"])


def test_other_images_are_split_at_random() -> None:
    found = loaded(domains())
    assert rows(found["odd"], "val") != rows(found["clean"], "val")
    assert len(found["odd"].splits["val"]) == 12


def test_a_checkpoints_record_gives_the_same_validation_images_again() -> None:
    trained = same_images()
    loaded(trained)
    again = same_images(val_size=0.3)
    assert again.adopt(trained.describe())
    found = loaded(again, "validate")
    assert rows(found["odd"], "val") == rows(trained.sources["odd"], "val")
    assert all(map(torch.equal, found["odd"].statistics, found["clean"].statistics))


def test_the_relation_can_change(caplog: pytest.LogCaptureFixture) -> None:
    made = same_images()
    with caplog.at_level("INFO"):
        loaded(made)
    assert "tl: odd is normalised like clean, whose head it uses." in caplog.text
    made.sources["odd"].labels = "all"
    made.shares = None
    found = loaded(made)
    assert not torch.equal(found["odd"].statistics[0], found["clean"].statistics[0])


def test_a_checkpoint_keeps_the_normalisation_that_it_trained_with() -> None:
    """Also where the images are the same and another source is followed, or none."""
    trained = domains()
    loaded(trained)
    record = trained.describe()
    record["odd"] = {**record["odd"], "mean": [100.0, 110.0, 120.0]}
    again = domains()
    loaded(again)
    assert again.adopt(record)
    found = loaded(again, "test")
    assert found["odd"].statistics[0].tolist() == [100.0, 110.0, 120.0]
    assert found["clean"].trained_on is None  # nothing of it differs


def test_a_resumed_run_keeps_its_normalisation(tmp_path: Path) -> None:
    data = domains()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(multitask_module(data, penalties=CORAL()), data)
    run.save_checkpoint(tmp_path / "run.ckpt")
    stored = torch.load(tmp_path / "run.ckpt", weights_only=True)
    own = stored["MultiTaskDataModule"]["odd"]["record"]
    own["mean"] = [100.0, 110.0, 120.0]
    torch.save(stored, tmp_path / "run.ckpt")
    (tmp_path / "run.ckpt.sha256").unlink(missing_ok=True)
    again = domains()
    trainer(tmp_path, max_epochs=2).fit(
        multitask_module(again, penalties=CORAL()), again, ckpt_path=tmp_path / "run.ckpt"
    )
    assert again.sources["odd"].describe()["mean"] == [100.0, 110.0, 120.0]


def test_sources_whose_training_images_are_gone_predict(tmp_path: Path) -> None:
    """Their classes are read from the checkpoint, not from the folders."""

    def made(**options: Any) -> MultiTaskDataModule:
        sources = {n: FolderDataModule(root=str(tmp_path / n), **options) for n in "ab"}
        return MultiTaskDataModule(sources=sources, batch_size=4)

    for name in "ab":
        class_folders(tmp_path / name, seed=ord(name))
    data = made()
    ours = multitask_module(data)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(ours, data)
    run.save_checkpoint(tmp_path / "run.ckpt")
    for name in "ab":
        (tmp_path / name).rename(tmp_path / f"{name}_gone")
    elsewhere = made(predict_folder=str(tmp_path / "a_gone" / "red"))
    again = MultiTaskModule(Tiny(), [*ours.tasks.values()])
    found = trainer(tmp_path).predict(again, elsewhere, ckpt_path=tmp_path / "run.ckpt")
    assert found
