from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.callbacks.test_gradient_diagnostics import TASKS, Tiny, fit, module
from tl import Classification, MultiTaskModule
from tl.callbacks import GradientDiagnostics, TaskAffinity
from tl.questions.grouping import best_grouping


def test_the_look_ahead_is_the_first_order_as_the_step_goes_to_zero() -> None:
    gaps = []
    for rate in (1.0, 0.1, 0.01):
        callback = TaskAffinity(every_n_steps=1, rate=rate)
        fit(module(), callback, count=1)
        assert callback.exact is not None
        assert callback.linear is not None
        gaps.append(float((callback.exact.mean() - callback.linear.mean()).abs().max()) / rate)
        assert callback.exact.mean()[0, 0] > 0  # a step for a task lowers its own loss
    assert gaps[2] < 0.05 * gaps[0]
    assert gaps[0] > gaps[1] > gaps[2]


def test_measuring_changes_nothing_of_the_run() -> None:
    watched, alone = module(), module()
    callbacks = (TaskAffinity(every_n_steps=1), GradientDiagnostics(every_n_steps=1))
    fit(watched, *callbacks, accumulate_grad_batches=2)
    fit(alone, accumulate_grad_batches=2)
    assert callbacks[0].exact is not None
    assert callbacks[0].exact.seen == 2
    for (name, one), other in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        if isinstance(one, Tensor):
            assert torch.equal(one, other), name


def three_tasks() -> tuple[MultiTaskModule, DataLoader[Any]]:
    """A task, its copy, and one whose labels are permuted, on the same images."""
    tasks = [Classification(name, 2, target=name) for name in ("one", "copy", "permuted")]
    torch.manual_seed(0)
    ours = MultiTaskModule(Tiny(), tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    for name in ("copy", "permuted"):
        ours.heads[name].load_state_dict(ours.heads["one"].state_dict())
    drawn = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(30):
        labels = torch.randint(2, (16,), generator=drawn)
        images = torch.randn(16, 3, 8, 8, generator=drawn) + labels[:, None, None, None]
        mixed = labels[torch.randperm(16, generator=drawn)]
        batches.append((images, {"one": labels, "copy": labels, "permuted": mixed}))
    return ours, DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def test_a_copy_is_the_task_itself_and_permuted_labels_are_left_alone() -> None:
    ours, batches = three_tasks()
    exact, first = TaskAffinity(every_n_steps=5), GradientDiagnostics(every_n_steps=1)
    trainer = fit_on(ours, batches, exact, first)
    assert exact.exact is not None
    for means in (exact.exact, first.affinities["backbone"]):
        found = means.mean()
        torch.testing.assert_close(found[0, 1], found[0, 0])
        torch.testing.assert_close(found[1, 0], found[0, 0])
        assert best_grouping(found, 2).groups == ((0, 1), (2,))
    assert trainer.global_step == 30
    assert first.cosines["top"].mean()[0, 1] == pytest.approx(1)
    assert first.affinities["stem"].seen == 30


def fit_on(ours: MultiTaskModule, batches: Any, *callbacks: Any) -> Any:
    from tests.small import trainer  # noqa: PLC0415 - only here

    run = trainer(None, max_epochs=1, callbacks=list(callbacks))  # type: ignore[arg-type]
    run.fit(ours, batches)
    return run


def test_a_task_that_a_batch_lacks_counts_neither_as_row_nor_as_column() -> None:
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = {"x": (images, torch.arange(6) % 4), "y": (images, torch.arange(6) % 3)}
    lacking = {"x": (images, torch.full((6,), -1)), "y": whole["y"]}
    exact, first = TaskAffinity(every_n_steps=1), GradientDiagnostics(every_n_steps=1)
    fit(module(), exact, first, batches=[whole, lacking])
    assert exact.exact is not None
    assert exact.linear is not None
    for means in (exact.exact, exact.linear, first.affinities["backbone"]):
        assert means.seen == 2
        assert means.count.sum(0).tolist() == [[1, 1], [1, 2]]


def test_a_resumed_run_goes_on() -> None:
    callback, resumed = TaskAffinity(every_n_steps=1), TaskAffinity(every_n_steps=1)
    assert resumed.state_dict()["exact"] is None
    fit(module(), callback, count=2)
    resumed.load_state_dict(callback.state_dict())
    assert resumed.state_dict() == callback.state_dict()


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="`every_n_steps` must be 1 or more, got 0"):
        TaskAffinity(every_n_steps=0)
    with pytest.raises(ValueError, match="`rate` must be above 0, got 0"):
        TaskAffinity(rate=0)
    with pytest.raises(ValueError, match="fewer than two"):
        fit(MultiTaskModule(Tiny(), TASKS[:1]), TaskAffinity())
