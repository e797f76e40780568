from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small import trainer, two_sources
from tl import MultiTaskModule
from tl.backbones import MTAN
from tl.backbones.resnet_cifar import ResNetCifar
from tl.callbacks import Dashboard
from tl.callbacks.attention import attention_grid, attention_masks


def test_a_row_is_an_image_and_the_mean_of_each_mask() -> None:
    shown = torch.full((2, 3, 64, 64), 0.25)
    shown[1] = 0.5
    low = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(2, 2, 32, 32)
    grid = attention_grid(shown, [torch.ones(2, 5, 64, 64), low])
    assert grid.shape == (3, 2 * 66 + 2, 3 * 66 + 2)
    cells = [
        [grid[0, 2 + 66 * row + 30, 2 + 66 * column + 30] for column in range(3)] for row in (0, 1)
    ]
    assert torch.equal(torch.tensor(cells), torch.tensor([[0.25, 1.0, 0.5], [0.5, 1.0, 0.5]]))


@pytest.mark.parametrize("batch_norm", ["joint", "per_source_statistics"])
def test_tensorboard_shows_what_each_task_attends_to(batch_norm: str, tmp_path: Path) -> None:
    data = two_sources()
    module = MultiTaskModule(MTAN(ResNetCifar(14)), data.tasks, batch_norm=batch_norm)  # type: ignore[arg-type]
    logger = TensorBoardLogger(tmp_path, name="", version="")
    run = trainer(
        tmp_path,
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=1,
        logger=logger,
        callbacks=[Dashboard(every_n_epochs=1, mistakes=0, images=0)],
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        masks = attention_masks(module.eval(), torch.zeros(2, 3, 32, 32), "ten")
    assert list(masks) == [task.name for task in data.tasks if task.source == "ten"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    run.fit(module, data)
    board = EventAccumulator(str(tmp_path)).Reload()
    images = board.Tags()["images"]
    assert {f"val/attention/{task.name}" for task in data.tasks} <= set(images)
    assert board.Tags()["graph"]


def test_other_backbones_have_no_masks() -> None:
    data = two_sources()
    module = MultiTaskModule(ResNetCifar(14), data.tasks)
    assert attention_masks(module, torch.zeros(1, 3, 32, 32), "ten") == {}
