from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.modules.test_kinds import Signal, samples
from tests.small import Staged, module, multitask_module, tiny_data, trainer
from tests.transfer.adaptation.domains import domains
from tl import Classification, Regression, TransferModule
from tl.callbacks import AdaBN, RunResults, Tent
from tl.callbacks.test_time import TestTimeAdaptation
from tl.data import TensorDataModule
from tl.data.shifts import Shift
from tl.runs.shifted_tests import scores_under_shifts
from tl.transfer.adaptation import CORAL

BOTH = [AdaBN, Tent]


def weights(net: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in net.state_dict().items()
            if not name.startswith("evaluations")}  # fmt: skip


def reached(net: Any, data: Any, folder: Path, *callbacks: Any) -> dict[str, float]:
    [metrics] = trainer(folder, callbacks=[*callbacks]).test(net, datamodule=data, verbose=False)
    return dict(metrics)


@pytest.mark.parametrize("kind", BOTH)
def test_the_model_is_as_before_and_each_test_starts_anew(
    kind: type[TestTimeAdaptation], tmp_path: Path
) -> None:
    data = tiny_data(test_size=100, eval_batch_size=25)
    net = module(data, Staged)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    plain, before = reached(net, data, tmp_path), weights(net)
    adapting = kind()
    first = reached(net, data, tmp_path, adapting)
    assert first["test/loss"] != plain["test/loss"]
    after = weights(net)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert reached(net, data, tmp_path, adapting) == first
    assert reached(net, data, tmp_path) == plain


def test_adabn_answers_with_statistics_of_the_whole_test_set(tmp_path: Path) -> None:
    data = tiny_data(test_size=100, eval_batch_size=100)
    net = module(data)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    found = reached(net, data, tmp_path, AdaBN())
    images, labels = data.transform(data.splits["test"][torch.arange(100)], None)
    net.train()  # one batch holds all: its statistics are the test set's, but for 1 / (n - 1)
    with torch.no_grad():
        logits = net(images)
    accuracy = float((logits.argmax(1) == labels).float().mean())
    assert found["test/acc"] == pytest.approx(accuracy, abs=0.011)


def test_batches_of_a_test_come_in_a_random_order(tmp_path: Path) -> None:
    """Sorted by class, each batch would hold one."""
    data = tiny_data(test_size=40, eval_batch_size=10)
    net = module(data)
    seen: list[torch.Tensor] = []
    real = net.test_step
    net.test_step = lambda batch, *more: seen.append(batch[1]) or real(batch, *more)  # type: ignore[method-assign, func-returns-value]
    reached(net, data, tmp_path, Tent())
    given = torch.cat(seen)
    assert sorted(given.tolist()) == sorted(data.splits["test"].targets["fine"].tolist())
    seen.clear()
    reached(net, data, tmp_path)
    assert torch.equal(torch.cat(seen), data.splits["test"].targets["fine"])
    assert not torch.equal(given, torch.cat(seen))


def test_arrays_sorted_by_class_are_mixed(tmp_path: Path) -> None:
    """Each batch would hold one class, and its statistics would take the class away."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(8)
    images = (labels[:, None, None, None] * 60 + torch.randint(0, 8, (32, 3, 32, 32))).byte()
    data = TensorDataModule(images, labels, tasks=[Classification("a", 4)], batch_size=8,
                            test_inputs=images, test_targets=labels)  # fmt: skip
    net = TransferModule(Staged(), Classification("a", 4))
    seen: list[torch.Tensor] = []
    real = net.test_step
    net.test_step = lambda batch, *more: seen.append(batch[1]) or real(batch, *more)  # type: ignore[method-assign, func-returns-value]
    reached(net, data, tmp_path, AdaBN())
    assert torch.equal(torch.cat(seen).sort().values, labels)
    assert all(len({*part.tolist()}) > 1 for part in seen)


def test_the_order_of_other_data_modules_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(LightningDataModule):
        def test_dataloader(self) -> DataLoader[Any]:
            data = TensorDataset(torch.randn(16, 3, 32, 32), torch.arange(16) % 4)
            return DataLoader(data, batch_size=8)

    net = module(tiny_data(), Staged)
    with caplog.at_level("INFO"):
        reached(net, Own(), tmp_path, Tent())
    assert "tl: Tent: test samples come in the order of Own, not in a random one" in caplog.text


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("batch_norm", ["joint", "per_source_statistics"])
def test_each_source_has_a_copy_of_its_own(
    kind: type[TestTimeAdaptation], batch_norm: Any, tmp_path: Path
) -> None:
    data = domains()
    net = multitask_module(data, penalties=CORAL(), batch_norm=batch_norm)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    together = reached(net, data, tmp_path, kind())
    alone = domains()
    alone.sources["odd"].shift = Shift("contrast", 5)
    changed = reached(net, alone, tmp_path, kind())
    assert changed["test/clean/loss"] == together["test/clean/loss"]
    assert changed["test/odd/loss"] != together["test/odd/loss"]


def test_state_is_reset_for_each_shift(tmp_path: Path) -> None:
    data = tiny_data(test_size=60, eval_batch_size=20)
    net = module(data, Staged)
    trainer(tmp_path, max_epochs=1).fit(net, data)
    data.setup("test")
    quiet = trainer(tmp_path, callbacks=[Tent(lr=0.1)])
    [both] = scores_under_shifts(net, data, quiet, ["contrast", "fog"], [5])
    [alone] = scores_under_shifts(net, data, quiet, ["fog"], [5])
    assert both.values["fog"] == alone.values["fog"]


def test_results_name_the_adaptation(tmp_path: Path) -> None:
    data = tiny_data()
    net = module(data)
    logger = CSVLogger(tmp_path)
    run = trainer(tmp_path, logger=logger, callbacks=[RunResults(), Tent(lr=0.01)])
    run.test(net, datamodule=data, verbose=False)
    [path] = tmp_path.rglob("results.json")
    evaluated = json.loads(path.read_text())["evaluated"]["test"]
    assert evaluated["adaptation"] == [{"name": "Tent", "lr": 0.01}]


class Plain(nn.Flatten):
    """A backbone without batch norm."""

    num_features = 8


def test_what_cannot_adapt_is_refused_in_a_line(tmp_path: Path) -> None:
    data = tiny_data()
    net = module(data)
    with pytest.raises(ValueError, match="Give one of AdaBN and Tent"):
        reached(net, data, tmp_path, AdaBN(), Tent())
    assert "features" not in vars(net)
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`lr` must be above 0 and finite, got {wrong}"):
            Tent(lr=wrong)
    inputs, targets = samples()
    level = TensorDataModule(inputs, targets["c"], tasks=[Regression("c")], batch_size=8,
                             test_inputs=inputs, test_targets=targets["c"])  # fmt: skip
    with pytest.raises(ValueError, match="Tent lowers the entropy of a classification"):
        reached(TransferModule(Signal(), Regression("c")), level, tmp_path, Tent())
    plain = TransferModule(Plain(), Classification("a", 3))
    with pytest.raises(ValueError, match="Tent adapts batch norm, and the backbone Plain has none"):
        Tent().begin(trainer(tmp_path), plain)  # before the first batch


@pytest.mark.parametrize("kind", BOTH)
def test_what_does_not_adapt_is_refused(kind: type[TestTimeAdaptation], tmp_path: Path) -> None:
    data = tiny_data(test_size=40)
    net = module(data, Staged)
    run = trainer(tmp_path, max_epochs=1, callbacks=[kind()])
    run.fit(net, data)  # whose validation is not a test
    with pytest.raises(ValueError, match=r"adapts in `test` only, and this is `validate`"):
        run.validate(net, datamodule=data, verbose=False)
    with pytest.raises(ValueError, match=r"adapts in `test` only, and this is `predict`"):
        run.predict(net, datamodule=data)
