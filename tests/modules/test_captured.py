"""Replayed steps compute what usual steps do, and run as usual where they would not."""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchjd.aggregation import UPGrad
from torchjd.scalarization import FAMO, UW

from tests.recorders import Reexecution
from tests.small import Staged, Tiny, module, tiny_data, trainer
from tl import Classification, MultiTaskModule, TransferModule
from tl.balancing import GradNorm
from tl.callbacks.interrupt import SaveOnSignal
from tl.data.images.augment import Augment
from tl.modules import WarmupCosine, captured
from tl.modules.captured import FIRST_STEPS, CapturedStep
from tl.modules.cuda_graphs import Found
from tl.modules.finite import FiniteGuard
from tl.signals import StoppedBySignal
from tl.transfer import LPFT
from tl.transfer.penalties.base import Penalty, Step

Losses = Callable[[bool], tuple[LightningModule, Trainer]]


def use(stand_in: Reexecution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "CudaGraphs", lambda _: stand_in)
    monkeypatch.setattr(captured, "DEVICES", ("cuda", "cpu"))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Reexecution:
    stand_in = Reexecution()
    use(stand_in, monkeypatch)
    return stand_in


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged about graphs."""
    lines: list[str] = []
    monkeypatch.setattr(captured, "rank_zero_info", lines.append)
    return lines


def bits(state: Mapping[str, Any]) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in state.items() if isinstance(v, Tensor)}


def sgd(groups: Any) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-3)


def fused(groups: Any) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, fused=True)


def assert_same(fit: Losses) -> None:
    """Compare a run without graphs and one with them: weights, statistics and metrics."""
    (plain, expected), (replays, found) = fit(False), fit(True)
    assert bits(plain.state_dict()) == bits(replays.state_dict())
    assert bits(expected.callback_metrics) == bits(found.callback_metrics)


# Three tasks on two sources, without a data module

TASKS = [
    Classification("ten", 10, source="a"),
    Classification("fine", 7, source="b", target="fine"),
    Classification("coarse", 3, source="b", target="coarse"),
]


def batches(count: int = 8, size: int = 6) -> DataLoader[Any]:
    drawn = torch.Generator().manual_seed(0)

    def labels(classes: int, rows: int) -> Tensor:
        return torch.randint(-1, classes, (rows,), generator=drawn)

    def batch(rows: int) -> dict[str, Any]:
        images = [torch.randn(rows, 3, 8, 8, generator=drawn) for _ in range(2)]
        both = {"fine": labels(7, rows), "coarse": labels(3, rows)}
        return {"a": (images[0], labels(10, rows)), "b": (images[1], both)}

    found = [batch(size) for _ in range(count - 1)] + [batch(size - 2)]
    return DataLoader(found, batch_size=None)  # type: ignore[arg-type]


def three_tasks(folder: Path, options: Mapping[str, Any], **settings: Any) -> Losses:
    def fit(replays: bool) -> tuple[LightningModule, Trainer]:
        torch.manual_seed(0)
        given: dict[str, Any] = {"optimizer": sgd, "scheduler": WarmupCosine, **options}
        ours = MultiTaskModule(Tiny(), TASKS, cuda_graph=replays, **copy.deepcopy(given))
        run = trainer(folder, **settings)
        run.fit(ours, batches())
        return ours, run

    return fit


TWO = {"accumulate_grad_batches": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "sum": ({}, {}, 2),
    "per_source": ({"batch_norm": "per_source"}, {}, 2),
    "statistics": ({"batch_norm": "per_source_statistics"}, {}, 2),
    "bf16": ({}, {"precision": "bf16-mixed"}, 2),
    "bf16_passes": ({"batch_norm": "per_source"}, {"precision": "bf16-mixed", **TWO}, 2),
    "accumulation": ({}, {**TWO, "max_epochs": 3}, 2),
    "clipping": ({"label_smoothing": 0.1}, {"gradient_clip_val": 0.1}, 2),
    "weighting": ({"balancer": UW}, {}, 2),
    "second_look": ({"balancer": FAMO}, {}, 2),
    "norms": ({"balancer": GradNorm}, TWO, 5),
    "aggregation": ({"balancer": UPGrad()}, {}, 5),
    "rescaled": ({"balancer": UPGrad(), "rescale": "sum"}, {**TWO, "gradient_clip_val": 0.1}, 5),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_replayed_steps_give_the_same_bits(name: str, tmp_path: Path, graphs: Reexecution) -> None:
    options, settings, recorded = CASES[name]
    assert_same(three_tasks(tmp_path, options, **settings))
    assert graphs.recorded == recorded  # the forward pass, and each backward pass
    # the last batch of each epoch is smaller, and a step is recorded from its first batch on
    start = 4 if "accumulate_grad_batches" in settings else FIRST_STEPS
    steps = settings.get("max_epochs", 2) * 7 - start
    each = {2: 2, 5: 5 if name == "norms" else 4}[recorded]
    assert graphs.replayed == each * steps


@pytest.mark.filterwarnings("ignore")
def test_gradients_that_are_zeroed_rather_than_dropped_are_not_added_twice(
    tmp_path: Path, graphs: Reexecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MultiTaskModule,
        "optimizer_zero_grad",
        lambda *given: given[-1].zero_grad(set_to_none=False),
    )
    assert_same(three_tasks(tmp_path, {}))
    assert graphs.replayed


class Exact(Tiny):
    """Ends in a product of float32, whatever the precision of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        with torch.autocast(features.device.type, enabled=False):
            mixed: Tensor = self.mix(features.float())
        return mixed


@pytest.mark.filterwarnings("ignore")
def test_parts_in_float32_have_their_gradients_in_float32(
    tmp_path: Path, graphs: Reexecution
) -> None:
    def fit(replays: bool) -> tuple[LightningModule, Trainer]:
        torch.manual_seed(0)
        ours = MultiTaskModule(Exact(), TASKS, cuda_graph=replays, optimizer=sgd)
        run = trainer(tmp_path, precision="bf16-mixed")
        run.fit(ours, batches())
        return ours, run

    assert_same(fit)
    assert graphs.replayed


# A data module with augmentation: resuming, signals, steps that are not finite


@pytest.mark.filterwarnings("ignore")
def test_a_stage_that_thaws_is_recorded_again(tmp_path: Path, graphs: Reexecution) -> None:
    def fit(replays: bool) -> tuple[LightningModule, Trainer]:
        data = tiny_data(batch_size=10)
        strategy = LPFT(probe_epochs=1)
        ours = module(data, Staged, optimizer=sgd, strategy=strategy, cuda_graph=replays)
        run = trainer(tmp_path)
        run.fit(ours, data)
        return ours, run

    assert_same(fit)
    assert graphs.recorded == 4


class SendSignal(Callback):
    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_a_signal_stops_in_mid_epoch_resumes_to_the_same_bits(
    tmp_path: Path, graphs: Reexecution
) -> None:
    def fit(*callbacks: Callback, replays: bool = True, **given: Any) -> LightningModule:
        data = tiny_data()
        ours = module(data, optimizer=sgd, scheduler=WarmupCosine, cuda_graph=replays)
        trainer(tmp_path, max_epochs=3, callbacks=[*callbacks]).fit(ours, data, **given)
        return ours

    whole = fit(replays=False)
    with pytest.raises(StoppedBySignal) as stopped:
        fit(SaveOnSignal(), SendSignal())
    replayed = graphs.replayed
    assert replayed > 4
    again = fit(ckpt_path=stopped.value.checkpoint, weights_only=True)
    assert graphs.replayed > replayed
    assert bits(whole.state_dict()) == bits(again.state_dict())


class Spoil(Callback):
    """Put NaN into the images of a replayed step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 6:
            batch[0][0] = torch.nan


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_that_is_not_finite_is_skipped_when_it_is_replayed(
    on_device: bool, tmp_path: Path, graphs: Reexecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: on_device))
    seen: list[int] = []

    def fit(replays: bool) -> tuple[LightningModule, Trainer]:
        data = tiny_data(augment=Augment(padding=0, flip=False))
        ours = module(data, optimizer=fused, on_nonfinite="skip", cuda_graph=replays)
        run = trainer(tmp_path, callbacks=[Spoil()], log_every_n_steps=5)
        run.fit(ours, data)
        seen.append(ours.guard.skipped)
        return ours, run

    assert_same(fit)
    assert seen == [1, 1]
    assert graphs.replayed > 8


# Where steps run as usual


class Dropout(Tiny):
    """Its random numbers come from the host on a CPU."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(images), training=self.training)


class Depth(Tiny):
    """Leaves a layer out at random, by Python's numbers."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (random.random() < 0.5)  # noqa: S311 - the layer's own


def run_one(
    folder: Path,
    net: type[nn.Module] = Tiny,
    kind: type[TransferModule] = TransferModule,
    *,
    replays: bool = True,
    **options: Any,
) -> TransferModule:
    torch.manual_seed(0)
    task = Classification("a", 3)
    ours = kind(net(), task, cuda_graph=replays, optimizer=sgd, **options)
    fit_one(folder, ours)
    return ours


def fit_one(
    folder: Path, ours: LightningModule, sizes: tuple[int, ...] = (4,) * 6, **settings: Any
) -> None:
    drawn = torch.Generator().manual_seed(0)
    found = [
        (torch.randn(n, 3, 8, 8, generator=drawn), torch.randint(3, (n,), generator=drawn))
        for n in sizes
    ]
    loader: Any = DataLoader(found, batch_size=None)  # type: ignore[arg-type]
    trainer(folder, max_epochs=1, **settings).fit(ours, loader)


def lines(*reasons: str) -> list[str]:
    return [f"tl: `cuda_graph`: {reason} without a graph." for reason in reasons]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", [Dropout, Depth])
def test_random_numbers_of_the_host_are_not_repeated(
    net: type[Tiny], tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = run_one(tmp_path, net)
    drawn = "it draws random numbers on the host, which a replay would repeat"
    assert said == lines(f"the step cannot be recorded: {drawn}; steps run")
    assert graphs.replayed == 0
    assert bits(run_one(tmp_path, net, replays=False).state_dict()) == bits(ours.state_dict())


class Norm(Penalty):
    name = "norm"

    def forward(self, step: Step) -> Tensor:
        return next(step.backbone.parameters()).square().sum()


class Own(TransferModule):
    def features(self, images: Any) -> Any:
        return super().features(images)


class Fewer(TransferModule):
    def total_loss(self, losses: Any) -> Any:
        return super().total_loss(losses)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        (TransferModule, {"penalties": Norm()}, "penalties may compute something else"),
        (TransferModule, {"compile": "max-autotune"}, "has graphs of its own; use `compile=true`"),
        (Own, {}, "Own has its own `features`, which may compute something else"),
        (Fewer, {}, "Fewer has its own `total_loss`, which may compute something else"),
    ],
)
def test_what_may_differ_from_step_to_step_runs_as_usual(
    kind: type[TransferModule],
    options: dict[str, Any],
    why: str,
    tmp_path: Path,
    graphs: Reexecution,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: None)
    run_one(tmp_path, Tiny, kind, **options)
    [line] = said
    assert why in line
    assert line.endswith("; steps run without a graph.")
    assert graphs.recorded == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"precision": "64-true"}, "the precision must be one of 32-true, bf16-mixed, got 64-true"),
        ({"detect_anomaly": True}, "`detect_anomaly` looks at each operation"),
    ],
)
def test_settings_of_the_trainer_that_need_usual_steps(
    settings: dict[str, Any], why: str, tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = TransferModule(Tiny(), Classification("a", 3), cuda_graph=True)
    fit_one(tmp_path, ours, **settings)
    assert graphs.recorded == 0
    assert said == lines(f"{why}; steps run")


@pytest.mark.filterwarnings("ignore")
def test_several_devices_run_as_usual(
    tmp_path: Path, graphs: Reexecution, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "SingleDeviceStrategy", DDPStrategy)  # any other, in one process
    run_one(tmp_path)
    assert graphs.recorded == 0
    assert said == lines(
        "graphs are for one device, and the strategy is SingleDeviceStrategy; steps run"
    )


class Converts(TransferModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return tuple(batch.values())


@pytest.mark.filterwarnings("ignore")
def test_targets_that_are_checked_in_the_step_need_usual_steps(
    tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = Converts(Tiny(), Classification("a", 3), cuda_graph=True)
    batch = {"image": torch.zeros(4, 3, 8, 8), "label": torch.tensor([0, 1, 2, 0])}
    loader: Any = DataLoader([batch] * 5, batch_size=None)  # type: ignore[arg-type]
    trainer(tmp_path, max_epochs=1).fit(ours, loader)
    assert graphs.recorded == 0
    why = "the targets are checked in the step, which waits for them"
    assert said == lines(f"{why}: such steps run")


@pytest.mark.filterwarnings("ignore")
def test_without_a_gpu_one_line_says_so(tmp_path: Path, said: list[str]) -> None:
    run_one(tmp_path)
    assert said == lines("CUDA graphs need a GPU, and this run trains on the cpu; steps run")


class Records(Tiny):
    """Has a hook that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.hook = self.conv.register_forward_hook(self.count)

    def count(self, *_: object) -> None:
        self.calls += 1


@pytest.mark.filterwarnings("ignore")
def test_hooks_are_called_in_each_step(
    tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = run_one(tmp_path, Records)
    assert ours.backbone.calls == 6
    assert graphs.recorded == 0
    assert said == lines("modules have hooks, which a graph would leave out: such steps run")
    ours.backbone.hook.remove()  # type: ignore[operator, union-attr]
    fit_one(tmp_path, ours)
    assert graphs.replayed


class HooksWeight(Tiny):
    """Has a hook on a gradient, as recipes for clipping do."""

    def __init__(self) -> None:
        super().__init__()
        weight: Any = self.conv.weight
        self.hook = weight.register_hook(lambda gradient: 2 * gradient)


@pytest.mark.filterwarnings("ignore")
def test_hooks_on_gradients_are_called_once(
    tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = run_one(tmp_path, HooksWeight)
    assert graphs.recorded == 0
    assert said == lines("parameters have hooks, which a graph would repeat: such steps run")
    assert bits(run_one(tmp_path, HooksWeight, replays=False).state_dict()) == bits(
        ours.state_dict()
    )
    ours.backbone.hook.remove()  # type: ignore[operator, union-attr]
    fit_one(tmp_path, ours)
    assert graphs.replayed


@pytest.mark.filterwarnings("ignore")
def test_batches_of_another_form_run_as_usual_and_one_line_says_so(
    tmp_path: Path, graphs: Reexecution, said: list[str]
) -> None:
    ours = TransferModule(Tiny(), Classification("a", 3), cuda_graph=True)
    fit_one(tmp_path, ours, (4, 4, 6, 4, 4, 6, 5, 4, 6, 6, 6))
    assert graphs.recorded == 2
    assert graphs.replayed == 2 * 2  # the fourth and fifth of 4 images
    assert "from step 4," in said[0]
    assert said[1:] == lines("some batches have another form than the recorded one: such steps run")


@pytest.mark.filterwarnings("ignore")
def test_forms_that_never_repeat_end_the_search(
    tmp_path: Path, graphs: Reexecution, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "_MOST_FORMS", 4)
    ours = TransferModule(Tiny(), Classification("a", 3), cuda_graph=True)
    fit_one(tmp_path, ours, (4, 5, 6, 7, 8, 9))
    assert graphs.recorded == 0
    assert said == lines("batches have more than 4 forms; steps run")


class OutOfMemory(Reexecution):
    def record(self, work: Callable[[], Found]) -> tuple[Found, Callable[[], object]]:
        super().record(work)
        if self.recorded == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")
        return work(), work


@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_does_not_fit_into_memory_leaves_the_run_as_it_is(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(OutOfMemory(), monkeypatch)
    ours = run_one(tmp_path)
    memory = "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert said == lines(f"the step cannot be recorded: {memory}; steps run")
    # running statistics, too
    assert bits(run_one(tmp_path, replays=False).state_dict()) == bits(ours.state_dict())


class Replaces(Callback):
    """Put a weight at another address before a late step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 5:
            weight = pl_module.backbone.conv.weight
            weight.data = weight.data * 2


class Forgets(Callback):
    """Put new running statistics in the place of the old ones, as averaging weights does."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 5:
            norm = pl_module.backbone.norm
            norm.running_mean = torch.zeros_like(norm.running_mean)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("moves", [Replaces, Forgets])
def test_tensors_at_other_addresses_are_recorded_again(
    moves: type[Callback], tmp_path: Path, graphs: Reexecution
) -> None:
    assert_same(three_tasks(tmp_path, {}, callbacks=[moves()]))
    assert graphs.recorded == 4


def test_the_switch_is_of_the_constructor_and_graphs_stay_out_of_copies() -> None:
    ours = TransferModule(Tiny(), Classification("a", 3), cuda_graph=True)
    assert ours.hparams["cuda_graph"] is True
    assert TransferModule(Tiny(), Classification("a", 3)).captured is None
    with pytest.raises(ValueError, match="`cuda_graph` cannot change after construction"):
        ours.cuda_graph = False
    with pytest.raises(ValueError, match="`cuda_graph` must be true or false, got 'yes'"):
        TransferModule(Tiny(), Classification("a", 3), cuda_graph="yes")
    assert isinstance(ours.captured, CapturedStep)
    ours.captured._said.add("something")
    assert not copy.deepcopy(ours).captured._said  # type: ignore[union-attr]
    assert not pickle.loads(pickle.dumps(ours.captured))._said  # noqa: S301 - our own
