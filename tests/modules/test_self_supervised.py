"""Runs of self-supervised tasks: alone, beside labels, resumed, as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torchjd.aggregation import UPGrad

from tests.small import Tiny, tiny_data, trainer
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule, TransferModule
from tl.batch import VIEWS
from tl.tasks import BarlowTwins, Classification, NTXent, TwoViews, VICReg

SMALL: dict[str, TwoViews] = {
    "nt_xent": NTXent(hidden=8, size=4),
    "barlow_twins": BarlowTwins(hidden=8, size=4),
    "vicreg": VICReg(hidden=8, size=4, passes="two"),
}


def data_of(task: TwoViews) -> GeneratedDataModule:
    return tiny_data(train_size=60, batch_size=12, val_size=0.2, learns=task)


def built(task: TwoViews) -> TransferModule:
    torch.manual_seed(0)
    sgd = torch.optim.SGD
    return TransferModule(
        Tiny(), data_of(task).task, optimizer=lambda p: sgd(p, lr=0.05, momentum=0.9)
    )


def state(module: LightningModule) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in module.state_dict().items() if isinstance(v, Tensor)}


def test_withheld_labels_are_not_missed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train_size": 60, "batch_size": 12, "val_size": 0.2}
    data = tiny_data(learns=SMALL["nt_xent"], labels="none", **settings)
    ours = built(SMALL["nt_xent"])
    before = state(ours)
    run = trainer(tmp_path)
    run.fit(ours, data)
    assert data.splits["train"].targets == {}
    assert run.global_step == 8
    assert {"val/loss", "val/spread"} <= run.callback_metrics.keys()
    assert not torch.equal(state(ours)["backbone.conv.weight"], before["backbone.conv.weight"])


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_stops_in_mid_epoch_continues_as_if_it_had_not(
    name: str, tmp_path: Path
) -> None:
    task = SMALL[name]
    whole = built(task)
    saved = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    run = trainer(tmp_path, callbacks=[saved], enable_checkpointing=True)
    run.fit(whole, data_of(task))
    assert run.global_step == 8
    assert {"val/loss", "val/spread"} <= run.callback_metrics.keys()
    torch.manual_seed(99)  # must not matter
    again = built(task)
    trainer(tmp_path).fit(again, data_of(task), ckpt_path=tmp_path / "step=6.ckpt")
    expected = state(whole)
    assert [k for k, v in state(again).items() if not torch.equal(v, expected[k])] == []


@pytest.mark.parametrize("batch_norm", ["joint", "per_source", "per_source_statistics"])
@pytest.mark.parametrize("balancer", [None, UPGrad])
def test_it_trains_beside_a_supervised_task(balancer: Any, batch_norm: Any, tmp_path: Path) -> None:
    data = MultiTaskDataModule(
        sources={
            "labels": GeneratedDataModule(train_size=40, test_size=10),
            "views": GeneratedDataModule(train_size=40, test_size=10, learns=SMALL["nt_xent"]),
        },
        batch_size=10,
    )
    module = MultiTaskModule(
        Tiny(), data.tasks, balancer=balancer and balancer(), batch_norm=batch_norm
    )
    before = state(module)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data)
    assert {"val/labels/acc", "val/views/loss", "val/views/spread"} <= run.callback_metrics.keys()
    moved = [key for key, value in state(module).items() if not torch.equal(value, before[key])]
    assert {"heads.labels.weight", "heads.views.net.0.weight", "backbone.conv.weight"} <= {*moved}


def test_one_pass_averages_batch_norm_over_both_views_and_two_over_each() -> None:
    one, two = torch.randn(4, 3, 8, 8), 3 + torch.randn(4, 3, 8, 8)
    inputs = dict(zip(VIEWS, (one, two), strict=True))
    torch.manual_seed(0)
    net = Tiny()
    both = TransferModule(net, NTXent(), channels_last=False).features({None: inputs})[None]
    each = TransferModule(net, NTXent(passes="two"), channels_last=False)
    found = each.features({None: inputs})[None].vector
    assert torch.allclose(both.vector, net(torch.cat([one, two])))
    assert torch.allclose(found, torch.cat([net(one), net(two)]))
    assert not torch.allclose(both.vector, found)


def test_the_projector_never_travels(tmp_path: Path) -> None:
    source = built(SMALL["nt_xent"])
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=2)
    run.fit(source, data_of(SMALL["nt_xent"]))
    run.save_checkpoint(tmp_path / "source.ckpt")
    path = str(tmp_path / "source.ckpt")
    target = TransferModule(Tiny(), Classification("target", 5), init_from=path)
    assert torch.equal(target.backbone.conv.weight, source.backbone.conv.weight)  # type: ignore[union-attr,arg-type]
    report = target.transfer_report
    assert report is not None
    assert all(name.startswith(("conv", "norm")) for name in report.loaded)
    again = TransferModule(Tiny(), data_of(SMALL["nt_xent"]).task, init_from=path)
    first = "heads.generated10.net.0.weight"
    assert not torch.equal(again.state_dict()[first], source.state_dict()[first])


def test_views_and_tasks_that_do_not_fit_are_refused() -> None:
    images, labels = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    two = dict.fromkeys(VIEWS, images)
    with pytest.raises(ValueError, match=r"'views' learns .* gives one; set `learns`"):
        TransferModule(Tiny(), NTXent()).task_losses((images, labels))
    with pytest.raises(ValueError, match=r"'a' is a classification .* gives two"):
        TransferModule(Tiny(), Classification("a", 3)).task_losses((two, labels))  # type: ignore[arg-type]


@pytest.mark.parametrize("passes", ["one", "two"])
def test_a_batch_of_one_is_one_line(tmp_path: Path, passes: Any) -> None:
    data = tiny_data(batch_size=1, learns=NTXent(hidden=4, size=4, passes=passes))
    with pytest.raises(ValueError, match="this batch has one; set `batch_size` to 2 or more"):
        trainer(tmp_path).fit(TransferModule(Tiny(), data.task), data)


def test_prediction_is_refused_in_one_line(tmp_path: Path) -> None:
    data = data_of(SMALL["nt_xent"])
    with pytest.raises(ValueError, match="self-supervised and predicts nothing"):
        trainer(tmp_path).predict(built(SMALL["nt_xent"]), data)
