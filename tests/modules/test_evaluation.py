from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.tuner.tuning import Tuner
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Tiny, module, tiny_data, trainer
from tl import Classification, Regression, TransferModule
from tl.callbacks import Dashboard
from tl.modules.evaluation import Evaluation, Evaluations
from tl.tasks.class_targets import MISSING


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation({"a": Classification("a", 3), "b": Classification("b", 2)})


def test_means_are_over_labelled_samples(evaluation: Evaluation) -> None:
    logits = torch.eye(3)[[0, 1, 2, 0]]
    evaluation.add("val", "a", torch.tensor(2.0), logits, torch.tensor([0, 1, 0, MISSING]))
    evaluation.add("val", "a", torch.tensor(6.0), logits[:1], torch.tensor([1]))
    found = evaluation.results("val", alone)["a"]
    assert found["loss"].item() == pytest.approx((3 * 2.0 + 6.0) / 4)
    assert found["acc"].item() == pytest.approx(2 / 4)


def test_the_size_of_evaluation_batches_changes_only_rounding(tmp_path: Path) -> None:
    found = []
    for size in (3, 10):
        data = tiny_data(eval_batch_size=size)
        torch.manual_seed(0)
        found += trainer(tmp_path).validate(module(data), data, verbose=False)
    assert found[0]["val/acc"] == found[1]["val/acc"]
    assert found[0]["val/loss"] == pytest.approx(found[1]["val/loss"], rel=1e-6)


def test_sets_are_apart_and_begin_anew(evaluation: Evaluation) -> None:
    evaluation.add("val", "b", torch.tensor(1.0), torch.eye(2), torch.tensor([0, 1]))
    assert evaluation.results("test", alone) == {}
    assert set(evaluation.results("val", alone)) == {"b"}
    assert evaluation.results("val", alone) == {}


def test_a_task_without_any_label_has_no_result_and_a_diverged_one_has(
    evaluation: Evaluation,
) -> None:
    nothing = torch.tensor([MISSING, MISSING])
    evaluation.add("val", "b", torch.tensor(0.0), torch.eye(2), nothing)
    nan = torch.tensor(torch.nan)
    evaluation.add("val", "a", nan, torch.eye(3), torch.tensor([0, 1, 2]))
    found = evaluation.results("val", alone)
    assert set(found) == {"a"}
    assert found["a"]["loss"].isnan()


@pytest.fixture
def halves() -> Iterator[None]:
    """What new tensors are within a step in bf16."""
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


def test_sums_grow_with_weights_in_bf16(request: pytest.FixtureRequest) -> None:
    found = Evaluations({"a": Regression("a")}).to(torch.bfloat16)
    request.getfixturevalue("halves")
    outputs = {"a": (torch.zeros(1, 1), torch.full((1, 1), 3.0))}
    for loader in (0, 1):  # the second has an evaluation of its own
        for _ in range(600):
            found.add("val", loader, {"a": torch.tensor(3.0)}, outputs)
        results = cast("Evaluation", found[loader]).results("val", alone)["a"]
        assert (results["loss"].item(), results["mae"].item()) == (3, 3)
    assert found.to(torch.float64)[0].results("val", alone) == {}  # type: ignore[operator]


def two_loaders(network: TransferModule) -> list[DataLoader[Any]]:
    images = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        right = network.eval()(images).argmax(1)
    return [DataLoader(TensorDataset(images, t), 4) for t in (right, (right + 1) % 3)]


@pytest.mark.parametrize(("verb", "split"), [("validate", "val"), ("test", "test")])
def test_each_loader_has_metrics_of_its_own(tmp_path: Path, verb: str, split: str) -> None:
    network = TransferModule(Tiny(), Classification("a", 3))
    loaders = two_loaders(network)
    runner = trainer(tmp_path)
    getattr(runner, verb)(network, loaders)
    found = {k: v.item() for k, v in runner.callback_metrics.items()}
    assert found[f"{split}/acc/dataloader_idx_0"] == 1
    assert found[f"{split}/acc/dataloader_idx_1"] == 0
    assert all("/dataloader_idx_" in name for name in found)
    assert network.samples[split] == {"a/dataloader_idx_0": 8, "a/dataloader_idx_1": 8}
    getattr(runner, verb)(network, loaders[:1])  # and the only one has the plain name
    assert runner.callback_metrics[f"{split}/acc"] == 1
    assert network.samples[split] == {"a": 8}


class Interrupts(Callback):
    """Stops an evaluation after its second batch, once."""

    on = True

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **named: Any
    ) -> None:
        if self.on and args[2] == 1:
            self.on = False
            raise RuntimeError("interrupted")

    on_test_batch_end = on_validation_batch_end


@pytest.mark.parametrize("verb", ["validate", "test", "fit"])
def test_an_interrupted_evaluation_leaves_no_samples_to_the_next(verb: str, tmp_path: Path) -> None:
    network = TransferModule(Tiny(), Classification("a", 3))
    (first, second), split = two_loaders(network), "test" if verb == "test" else "val"
    wrong = [DataLoader(second.dataset, 2), second]
    runner = trainer(tmp_path, callbacks=[Interrupts()], num_sanity_val_steps=0)
    given: list[Any] = [wrong] if verb != "fit" else [first, wrong]
    with pytest.raises(RuntimeError, match="interrupted"):
        getattr(runner, verb)(network, *given)
    runner = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    getattr(runner, verb)(network, *given[:-1], first)
    assert network.samples[split] == {"a": 8}
    if verb != "fit":
        assert runner.callback_metrics[f"{split}/acc"] == 1


class Sized(LightningDataModule):
    batch_size = 2

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            TensorDataset(torch.randn(16, 3, 8, 8), torch.arange(16) % 3), self.batch_size
        )


class Full(TransferModule):
    """Has no memory for a second batch of more than four."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        found = super().validation_step(batch, batch_idx, dataloader_idx)
        if len(batch[0]) > 4 and batch_idx == 1:
            raise RuntimeError("CUDA out of memory.")
        return found


def test_the_search_for_a_batch_size_leaves_no_samples(tmp_path: Path) -> None:
    data, network, runner = Sized(), Full(Tiny(), Classification("a", 3)), trainer(tmp_path)
    tuner = Tuner(runner)
    tuner.scale_batch_size(network, datamodule=data, method="validate", max_trials=3)
    assert data.batch_size == 4
    runner.validate(network, data, verbose=False)
    assert network.samples["val"] == {"a": 16}


def test_a_plain_name_cannot_be_followed_where_loaders_are_told_apart(tmp_path: Path) -> None:
    network = TransferModule(Tiny(), Classification("a", 3))
    loaders = two_loaders(network)
    for monitor, said in (
        ("val/acc", "val/acc/dataloader_idx_0, val/acc/dataloader_idx_1"),
        ("val/acc/dataloader_idx_1", None),
    ):
        follows = EarlyStopping(monitor, mode="max")
        runner = trainer(tmp_path, max_epochs=1, callbacks=[follows])
        if said is None:
            runner.fit(network, loaders[0], loaders)
            assert follows.best_score is not None
        else:
            with pytest.raises(ValueError, match=rf"EarlyStopping monitors `val/acc`.*{said}"):
                runner.fit(network, loaders[0], loaders)


def test_figures_do_not_mix_loaders(tmp_path: Path) -> None:
    network = TransferModule(Tiny(), Classification("a", 3))
    shown: dict[str, Any] = {}
    runner = trainer(
        tmp_path,
        callbacks=[Dashboard(graph=False)],
        logger=TensorBoardLogger(tmp_path),
    )
    with mock.patch("tl.tasks.class_pictures.confusion_figure") as draw:
        draw.side_effect = lambda counts, _, title: shown.update({title: counts}) or Figure()
        runner.validate(network, two_loaders(network))
    first, second = shown.values()
    assert ["dataloader_idx_0" in title for title in shown] == [True, False]
    assert (first.trace(), second.trace(), second.sum()) == (8, 0, 8)


@pytest.mark.parametrize("loaders", [1, 2])
def test_training_validates_after_an_evaluation_in_inference_mode(
    loaders: int, tmp_path: Path
) -> None:
    network = TransferModule(Tiny(), Classification("a", 3))
    train, *_ = own = two_loaders(network)[:loaders]
    for _ in range(2):
        trainer(tmp_path).validate(network, own, verbose=False)
        trainer(tmp_path, max_epochs=1).fit(network, train, own)
