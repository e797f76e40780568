"""Pictures and tables at the end of a run, a test and a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, tensor

from tests.small import module, tiny_data, trainer
from tl import GeneratedDataModule
from tl.callbacks.dashboard import Dashboard
from tl.tasks.class_pictures import ClassPictures


def pictures_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))


def test_the_figures_of_a_run_and_of_its_test_are_files(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data)
    logger = TensorBoardLogger(tmp_path, "runs")
    run = trainer(tmp_path, logger=logger, callbacks=[Dashboard(1, 4, 0, graph=False)])
    run.fit(ours, data)
    names = [f"{what}_generated10.png" for what in ("classes", "confusion", "mistakes")]
    folder = Path(logger.log_dir)
    assert pictures_in(folder) == names
    run.test(ours, data, verbose=False)
    run.validate(ours, data, verbose=False)
    assert pictures_in(folder / "test") == pictures_in(folder / "validate") == names
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    shown = events.Images("test/confusion/generated10")[0]
    assert Image.open(folder / "test" / names[1]).size == (shown.width, shown.height)
    [table] = events.Tensors("test/classes/generated10/text_summary")
    head, _, *rows = table.tensor_proto.string_val[0].decode().splitlines()
    assert head == "| class | samples | accuracy | precision | f1 |"
    assert len(rows) == 10


def test_nothing_is_drawn_as_a_file_between_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    before = ClassPictures.figures

    def figures(self: ClassPictures, view: Any) -> Any:
        drawn.append(view.title)
        return before(self, view)

    monkeypatch.setattr(ClassPictures, "figures", figures)
    data = tiny_data()
    logger = CSVLogger(tmp_path, "runs")
    dashboard = Dashboard(1, 4, 0, graph=False)
    trainer(tmp_path, logger=logger, callbacks=[dashboard], max_epochs=3).fit(module(data), data)
    assert drawn == ["generated10, val, epoch 3"]
    assert len(pictures_in(Path(logger.log_dir))) == 3, "without TensorBoard too"


class Chosen(Callback):
    """Scores the validation of each epoch by a given number."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            pl_module.log("val/chosen", self.scores[trainer.current_epoch])


@pytest.mark.parametrize("every", [1, 5])
def test_the_files_of_a_run_are_of_its_best_checkpoint(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Tensor] = {}
    before = ClassPictures.figures

    def figures(self: ClassPictures, view: Any) -> Any:
        drawn[view.title] = self.counts
        return before(self, view)

    monkeypatch.setattr(ClassPictures, "figures", figures)
    data = tiny_data()
    ours, logger = module(data), TensorBoardLogger(tmp_path, "runs")
    best = ModelCheckpoint(monitor="val/chosen", mode="max")
    callbacks = [Dashboard(every, 4, 0, graph=False), Chosen(0.1, 0.9, 0.5), best]
    run = trainer(
        tmp_path, logger=logger, callbacks=callbacks, max_epochs=3, enable_checkpointing=True
    )
    run.fit(ours, data)
    assert [*drawn] == ["generated10, val, epoch 2, the best checkpoint"]
    assert len(pictures_in(Path(logger.log_dir))) == 3
    [counts] = drawn.values()
    run.validate(ours, data, ckpt_path=best.best_model_path, verbose=False)
    assert drawn["generated10, val"].equal(counts)


class Lost(ModelCheckpoint):
    """In the third epoch the second one's checkpoint, the best, turns out not to be written."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.current_epoch == 2:
            self.best_model_score = tensor(0.1)


def test_pictures_of_a_checkpoint_that_was_not_written_are_not_called_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, object] = {}
    monkeypatch.setattr(ClassPictures, "figures", lambda _, view: drawn.setdefault(view.title, {}))
    data = tiny_data()
    scores = Chosen(0.1, 0.9, 0.5, 0.4)
    callbacks = [Dashboard(5, 4, 0, graph=False), scores, Lost(monitor="val/chosen", mode="max")]
    settings: dict[str, Any] = {"max_epochs": 4, "enable_checkpointing": True}
    logger = CSVLogger(tmp_path, "runs")
    trainer(tmp_path, logger=logger, callbacks=callbacks, **settings).fit(module(data), data)
    assert [*drawn] == ["generated10, val, epoch 4"]


def test_each_loader_has_its_own(tmp_path: Path) -> None:
    class Twice(GeneratedDataModule):
        def val_dataloader(self) -> Any:
            return [super().val_dataloader()] * 2

    data = Twice(train_size=40, test_size=30, batch_size=20)
    logger = CSVLogger(tmp_path, "loaders")
    run = trainer(tmp_path, logger=logger, callbacks=[Dashboard(1, 0, 0, graph=False)])
    run.fit(module(data), data)
    assert pictures_in(Path(logger.log_dir)) == [
        f"{what}_generated10_dataloader_idx_{number}.png"
        for what in ("classes", "confusion")
        for number in (0, 1)
    ]


def test_a_run_bounded_by_steps_has_them_too(tmp_path: Path) -> None:
    data = tiny_data()
    logger = CSVLogger(tmp_path, "runs")
    run = trainer(
        tmp_path,
        logger=logger,
        callbacks=[Dashboard(graph=False, images=0)],
        max_epochs=-1,
        max_steps=5,
    )
    run.fit(module(data), data)
    assert "confusion_generated10.png" in pictures_in(Path(logger.log_dir))


def test_a_picture_that_cannot_be_written_is_named_and_the_run_ends_well(tmp_path: Path) -> None:
    data = tiny_data()
    logger = CSVLogger(tmp_path, "runs")
    folder = Path(logger.log_dir)
    (folder / "confusion_generated10.png").mkdir(parents=True)
    run = trainer(tmp_path, logger=logger, callbacks=[Dashboard(1, 0, 0, graph=False)])
    with pytest.warns(UserWarning, match="tl: no confusion_generated10.png in"):
        run.fit(module(data), data)
    assert (folder / "classes_generated10.png").is_file()
