"""A task of one's own whose head reads maps trains beside one that reads vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchjd.aggregation import UPGrad
from torchmetrics import MeanMetric

from tests.small import trainer
from tl import MultiTaskModule
from tl.backbones.resnet_cifar import ResNetCifar
from tl.data import TensorDataModule
from tl.tasks import Classification, Regression
from tl.tasks.base import Reads
from tl.tasks.heads import map_channels


class MapHead(nn.Module):
    """A 1x1 convolution of the lowest map, enlarged to the images."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, classes, 1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        logits: Tensor = self.layer(maps[-1])
        return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


class Marking(Classification):
    """Each pixel is of one class."""

    kind: ClassVar[str] = "marking"
    reads: ClassVar[Reads] = "maps"
    on_pixels: ClassVar[bool] = True
    score: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    tallied: ClassVar[tuple[str, ...]] = ()

    def head(self, num_features: Any) -> nn.Module:
        return MapHead(map_channels(num_features)[-1], self.num_classes)

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        return torch.as_tensor(target)

    def check(self, target: object) -> Tensor:
        return self.settle(target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target)

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        return self.loss(output, target)

    def truth(self, target: Tensor) -> Tensor:
        return target

    def present(self, target: Tensor) -> Tensor:
        return torch.tensor(target.numel())

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        return []

    def scores(self) -> dict[str, Any]:
        return {"right": MeanMetric()}

    def observe(self, metric: Any, output: Tensor, target: Tensor) -> None:
        metric.update((output.argmax(1) == target).float())

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)

    def confusion(self, output: Tensor, target: Tensor) -> Tensor | None:
        return None


TASKS = [Marking("marks", 3, target="marks"), Regression("mean", target="mean")]


def data() -> TensorDataModule:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = {"marks": images.argmax(1), "mean": images.mean((1, 2, 3))}
    return TensorDataModule(images, targets, TASKS, batch_size=4)


def module(balancer: Any = None) -> MultiTaskModule:
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
    return MultiTaskModule(ResNetCifar(8), TASKS, balancer=balancer, optimizer=sgd)


def weights(run: MultiTaskModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.parameters()])


@pytest.mark.parametrize("balancer", [None, UPGrad], ids=["sum", "upgrad"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_trains_and_predicts(tmp_path: Path, balancer: Any, precision: Any) -> None:
    run, source = module(balancer and balancer()), data()
    before = weights(run).clone()
    fit = trainer(tmp_path, precision=precision)
    fit.fit(run, source)
    assert not torch.equal(weights(run), before)
    assert {"val/marks/loss", "val/mean/mae"} <= fit.callback_metrics.keys()
    answers: Any = trainer(tmp_path).predict(run, source)
    assert answers[0]["marks"][0].shape == (4, 8, 8)


def test_a_run_resumed_in_mid_epoch_equals_one_that_went_through(tmp_path: Path) -> None:
    whole, first, second = module(), module(), module()
    trainer(tmp_path, max_epochs=-1, max_steps=8).fit(whole, data())
    stopped = trainer(tmp_path, max_epochs=-1, max_steps=3)
    stopped.fit(first, data())
    stopped.save_checkpoint(tmp_path / "a.ckpt")
    resumed = trainer(tmp_path, max_epochs=-1, max_steps=8)
    resumed.fit(second, data(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(weights(whole), weights(second))
