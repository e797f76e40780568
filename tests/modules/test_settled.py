from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from torch import Tensor

from tests.small import Staged, Tiny, module, tiny_data, trainer
from tl import MultiTaskModule, Regression, Task, TransferModule
from tl.modules import WarmupCosine
from tl.modules.settled import ARGUMENTS
from tl.tasks import Classification
from tl.transfer import LPFT, LinearProbe, SurgicalFineTuning
from tl.transfer.penalties import L2SP

sgd = partial(torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize("name", ["training", "type", "items", "eval"])
def test_a_task_with_a_name_of_torch_is_told_what_to_rename(name: str) -> None:
    said = (
        rf"A task cannot be called '{name}', a reserved name of torch; rename it, or the folder or"
    )
    with pytest.raises(ValueError, match=said):
        TransferModule(Tiny(), Classification(name, 2))
    with pytest.raises(ValueError, match=r"rename its source\.$"):
        MultiTaskModule(
            Tiny(),
            [Classification(name, 2, source=name), Classification("other", 2, source="other")],
        )


@pytest.mark.parametrize("name", ["init_from", "init_heads", "reinit", "tasks", "batch_norm"])
def test_what_the_constructor_builds_from_is_refused_later(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`{name}` cannot change after .* a new TransferModule\.$"
    ):
        setattr(module(tiny_data()), name, "other")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("label_smoothing", 1.0, "below 1, got 1.0"),
        ("lr", 0.0, "`lr` must be positive"),
        ("learning_rate", -1.0, "`lr` must be positive"),
        ("strategy", "probe", "must be a strategy"),
        ("strategy", SurgicalFineTuning(["layer9"]), "'layer9', which the backbone lacks"),
        ("on_nonfinite", "pass", "must be 'stop' or 'skip'"),
        ("max_skips", -1, "`max_skips` must be 0 or more"),
        ("penalties", L2SP(), "cannot change after construction"),
    ],
)
def test_a_later_value_is_checked(name: str, value: Any, said: str) -> None:
    built = module(tiny_data(), Staged)
    with pytest.raises(ValueError, match=said):
        setattr(built, name, value)
    assert not built.label_smoothing
    assert built.strategy is None


def test_a_later_value_counts(tmp_path: Path) -> None:
    assert {"optimizer", "scheduler", "strategy"} < ARGUMENTS
    data, built = tiny_data(), module(tiny_data(), optimizer=sgd)
    built.optimizer = partial(torch.optim.SGD, lr=0.3)
    built.scheduler = partial(WarmupCosine, warmup=0.0, final=1.0)
    built.on_nonfinite, built.max_skips, built.label_smoothing = "skip", 3, 0.1
    run = trainer(tmp_path, max_epochs=1)
    run.fit(built, data)
    assert isinstance(run.lr_scheduler_configs[0].scheduler, WarmupCosine)
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.3)
    assert (built.guard.action, built.guard.max_skips) == ("skip", 3)
    assert built.hparams["label_smoothing"] == 0.1


def test_what_a_strategy_froze_trains_without_it(tmp_path: Path) -> None:
    data, built = tiny_data(), module(tiny_data(), optimizer=sgd, strategy=LinearProbe())
    trainer(tmp_path, max_epochs=1).fit(built, data)
    start = built.backbone.get_parameter("conv.weight").detach().clone()
    built.strategy = None
    trainer(tmp_path, max_epochs=1).fit(built, data)
    assert not torch.equal(start, built.backbone.get_parameter("conv.weight"))


def test_a_rate_that_a_callback_finds_is_that_of_schedule_and_strategy(tmp_path: Path) -> None:
    data = tiny_data()
    built = module(data, optimizer=sgd, scheduler=partial(WarmupCosine, final=1.0))
    built.strategy = LPFT(1, backbone_lr=0.5)
    finder = LearningRateFinder(min_lr=1e-3, num_training_steps=30)
    run = trainer(tmp_path, max_epochs=4, callbacks=[finder])
    run.fit(built, data)
    assert built.lr is not None
    rates = {group["name"]: group["lr"] for group in run.optimizers[0].param_groups}
    assert rates["head"] == pytest.approx(built.lr)
    assert rates["backbone"] == pytest.approx(0.5 * built.lr)


def test_a_batch_size_is_not_searched_from_none(tmp_path: Path) -> None:
    data = tiny_data(batch_size=None)
    with pytest.raises(ValueError, match=r"such as `data\.batch_size = 32`"):
        trainer(tmp_path, callbacks=[BatchSizeFinder()]).fit(module(data), data)


class Headless(Regression):
    def head(self, num_features: Any) -> Any:
        return lambda features: features


class Undecided(Regression):
    score: ClassVar[str] = "deviance"


class Inverted(Regression):
    score: ClassVar[str] = "r2"


class Nowhere(Regression):
    reads: ClassVar[Any] = "pixels"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Headless("a"), "The `head` of task 'a' is a function; expected a torch.nn.Module"),
        (Undecided("a"), r"names the score 'deviance', which its `scores\(\)` lacks; .*mae, rmse"),
        (Inverted("a"), "score 'r2' is better at its maximum; set `higher_is_better` to True"),
        (Nowhere("a"), "'a' must read one of vector, maps, tokens, got 'pixels'"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(task: Task, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TransferModule(Tiny(), task)


def test_a_loss_that_is_not_a_scalar_is_refused() -> None:
    class Unsummed(Regression):
        def loss(self, output: Tensor, target: Tensor) -> Tensor:
            return (output - target) ** 2

    built = TransferModule(Tiny(), Unsummed("a"))
    with pytest.raises(ValueError, match=r"loss of task 'a' is a tensor of shape \(2, 1\); exp"):
        built.task_losses((torch.rand(2, 3, 8, 8), torch.rand(2)))
