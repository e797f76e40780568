from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional

from tl import Classification, GeneratedDataModule, TransferModule
from tl.checkpoints.files import CheckpointError
from tl.data import DataError
from tl.modules import WarmupCosine


class Tiny(nn.Module):
    num_features = 8

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.num_features = width

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = functional.relu(self.norm(self.conv(images))).mean((2, 3))
        return features


def data(**settings: Any) -> GeneratedDataModule:
    return GeneratedDataModule(**{"train_size": 120, "test_size": 50, "batch_size": 20, **settings})


def module(made: GeneratedDataModule, **settings: Any) -> TransferModule:
    torch.manual_seed(0)
    [task] = made.tasks
    return TransferModule(
        Tiny(), task, **{"scheduler": partial(WarmupCosine, warmup=0.3), **settings}
    )


def trainer(folder: Path, **settings: Any) -> Trainer:
    return Trainer(
        **{
            "max_epochs": 2,
            "logger": False,
            "default_root_dir": folder,
            "callbacks": [ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            **settings,
        }
    )


def test_the_backbone_starts_from_the_source_and_the_head_anew(tmp_path: Path) -> None:
    source = data()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(source), source)
    run.save_checkpoint(tmp_path / "source.ckpt")
    weights = torch.load(tmp_path / "source.ckpt", weights_only=True)["state_dict"]

    target = data(classes=100, test_size=100, targets="coarse", val_size=0.0)
    ours = module(target, init_from=str(tmp_path / "source.ckpt"), scheduler=None)
    head = ours.heads.state_dict()["generated100.weight"].clone()
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=0)
    run.fit(ours, target)
    for name, value in ours.backbone.state_dict().items():
        assert torch.equal(value, weights[f"backbone.{name}"])
    assert torch.equal(ours.heads.state_dict()["generated100.weight"], head)

    assert ours.provenance is not None
    assert ours.provenance["tasks"][0]["name"] == "generated10"
    assert ours.provenance["data"]["fingerprint"] == source.fingerprint
    run.save_checkpoint(tmp_path / "second.ckpt")
    third = module(target, init_from=str(tmp_path / "second.ckpt"), scheduler=None)
    trainer(tmp_path, max_epochs=1, limit_train_batches=0).fit(third, target)
    assert third.provenance is not None
    assert third.provenance["parent"] == ours.provenance


def test_a_resumed_run_does_not_read_the_source_again(tmp_path: Path) -> None:
    made = data()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(made), made)
    run.save_checkpoint(tmp_path / "source.ckpt")
    first = module(made, init_from=str(tmp_path / "source.ckpt"))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(first, made)
    run.save_checkpoint(tmp_path / "half.ckpt")
    (tmp_path / "source.ckpt").unlink()
    again = module(made, init_from=str(tmp_path / "source.ckpt"))
    trainer(tmp_path, max_epochs=2).fit(
        again, data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert again.provenance == first.provenance is not None
    with pytest.raises(CheckpointError, match=r"source\.ckpt"):
        trainer(tmp_path).fit(module(made, init_from=str(tmp_path / "source.ckpt")), made)


def test_another_width_is_refused(tmp_path: Path) -> None:
    made = data()
    torch.save(Tiny(width=6).state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(CheckpointError, match=r"conv\.weight"):
        trainer(tmp_path).fit(module(made, init_from=str(tmp_path / "narrow.pt")), made)


def test_resuming_at_an_epochs_end_equals_going_on(tmp_path: Path) -> None:
    whole = module(data())
    trainer(tmp_path / "whole", max_epochs=4).fit(whole, data())

    class StopAfterTwo(ModelCheckpoint):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    part = trainer(
        tmp_path / "part",
        max_epochs=4,
        callbacks=[StopAfterTwo(tmp_path / "part", filename="{epoch}", save_top_k=-1)],
    )
    with pytest.raises(SystemExit):
        part.fit(module(data()), data())
    again = module(data())
    torch.manual_seed(99)
    trainer(tmp_path / "rest", max_epochs=4).fit(
        again, data(), ckpt_path=tmp_path / "part" / "epoch=1.ckpt", weights_only=True
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    made = data()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(made), made)
    run.save_checkpoint(tmp_path / "run.ckpt")
    other = data(draw_seed=1)
    with pytest.raises(DataError, match=r"trained on generated:.* this is generated:"):
        trainer(tmp_path).fit(
            module(other), other, ckpt_path=tmp_path / "run.ckpt", weights_only=True
        )
    # to test on other data is another matter
    trainer(tmp_path).test(
        module(other), other, ckpt_path=tmp_path / "run.ckpt", weights_only=True, verbose=False
    )


def test_the_optimiser_has_named_groups_and_norms_do_not_decay() -> None:
    made = data()
    ours = module(made, scheduler=None)
    configured: Any = ours.configure_optimizers()
    optimizer = configured["optimizer"]
    groups = {g["name"]: (len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups}
    assert groups == {
        "backbone": (1, 5e-4),
        "backbone_no_decay": (3, 0.0),
        "head": (1, 5e-4),
        "head_no_decay": (1, 0.0),
    }


def test_the_schedule_spans_the_run(tmp_path: Path) -> None:
    made = data()
    ours = module(made, scheduler=partial(WarmupCosine, warmup=0.0))
    run = trainer(tmp_path)
    run.fit(ours, made)
    assert run.global_step == 10
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)


def test_a_schedule_over_an_endless_run_is_refused(tmp_path: Path) -> None:
    made = data()
    with pytest.raises(ValueError, match=r"length of the run.*max_epochs"):
        trainer(tmp_path, max_epochs=-1).fit(module(made), made)


def test_plateau_schedules_watch_the_validation_loss(tmp_path: Path) -> None:
    made = data()
    ours = module(made, scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0))
    trainer(tmp_path).fit(ours, made)


def test_channels_last_is_a_choice() -> None:
    for choice in (True, False):
        weight = module(data(), channels_last=choice).backbone.get_parameter("conv.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) is choice


def test_forward_gives_logits() -> None:
    assert TransferModule(Tiny(), Classification("a", 7))(torch.randn(2, 3, 8, 8)).shape == (2, 7)
