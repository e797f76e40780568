"""Tasks of every kind, alone and together: they learn, resume, predict, and say what is wrong."""

from __future__ import annotations

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional
from torchjd.aggregation import PCGrad, UPGrad

from tests.small import trainer
from tl import Classification, MultiTaskModule, Regression, Task, TransferModule
from tl.balancing import Uncertainty
from tl.batch import on_each
from tl.callbacks import PredictionWriter
from tl.checkpoints.files import read_checkpoint
from tl.data import TensorDataModule
from tl.data.errors import DataError

KINDS: dict[str, list[Task]] = {
    "classification": [Classification("a", 3, target="a"), Classification("b", 2, target="b")],
    "regression": [Regression("c", target="c"), Regression("d", 2, "huber", target="d")],
    "multi-label": [
        Classification("e", 4, target="e", multi_label=True),
        Classification("f", 3, target="f", multi_label=True, pos_weight=[1, 2, 3]),
    ],
}
KINDS["mixed"] = [KINDS["classification"][0], KINDS["regression"][1], KINDS["multi-label"][0]]
BALANCERS = {"sum": None, "uncertainty": Uncertainty, "pcgrad": PCGrad, "upgrad": UPGrad}


class Signal(nn.Module):
    """Two channels of any length to eight features."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, 8)``."""
        features: Tensor = self.norm(self.conv(inputs)).relu().mean(2)
        return features


class Pair(Signal):
    """The same signal, from a dict of its two channels."""

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Return features ``(N, 8)``."""
        return super().forward(torch.stack([inputs["left"], inputs["right"]], 1))


def samples(count: int = 64) -> tuple[Tensor, dict[str, Tensor]]:
    """Signals whose two levels say all targets; every ninth number is missing."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.rand(count, 2, generator=generator)
    noise = torch.randn(count, 2, 12, generator=generator)
    x, y = levels.unbind(1)
    both = levels.clone()
    both[::9, 1] = torch.nan
    label = torch.stack([x > 0.5, y > 0.5, x > y, x + y > 1], 1).long()
    missing = label[:, :3].clone()
    missing[::9, 0] = -1
    targets = {
        "a": (3 * x).long(),
        "b": (y > 0.5).long(),
        "c": 2 * x - y,
        "d": both,
        "e": label,
        "f": missing,
    }
    return levels[..., None] + 0.02 * noise, targets


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.05)


def read(tasks: list[Task], count: int = 64, **options: Any) -> TensorDataModule:
    inputs, targets = samples(count)
    return TensorDataModule(inputs, targets, tasks=tasks, **{"batch_size": 8, **options})


def build(
    tasks: list[Task], balancer: Any = None, net: type[nn.Module] = Signal
) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(net(), tasks, balancer=balancer, optimizer=adam)


@pytest.mark.parametrize(
    ("kind", "balancer", "precision"),
    itertools.product(KINDS, BALANCERS, ["32-true", "bf16-mixed"]),
)
def test_every_kind_learns_under_every_balancer(
    kind: str, balancer: str, precision: str, tmp_path: Path
) -> None:
    data = read(KINDS[kind], batch_size=4, val_size=0.25)
    made = BALANCERS[balancer]
    module = build(KINDS[kind], None if made is None else made())
    run = trainer(tmp_path, precision=precision)
    run.validate(module, data, verbose=False)
    before = {k: float(v) for k, v in run.callback_metrics.items() if k.endswith("/loss")}
    run.fit(module, data)
    found = {k: float(v) for k, v in run.callback_metrics.items()}
    assert all(map(math.isfinite, found.values())), found
    for task in KINDS[kind]:
        name = f"val/{task.name}/loss"
        assert found[name] < before[name]
        assert f"val/{task.name}/{task.score}" in found
        assert f"train/{task.name}/loss" in found


@pytest.mark.parametrize("balancer", BALANCERS)
def test_mixed_kinds_resume_in_mid_epoch_bit_for_bit(balancer: str, tmp_path: Path) -> None:
    tasks, made = KINDS["mixed"], BALANCERS[balancer]

    def fit(ckpt: Path | None = None) -> Any:
        keep = ModelCheckpoint(
            tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1, enable_version_counter=False
        )
        run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep])
        run.fit(build(tasks, None if made is None else made()), read(tasks), ckpt_path=ckpt)
        return run

    wanted = fit()
    assert wanted.global_step == 2 * 7
    for step in (3, 10):
        found = fit(tmp_path / f"step={step}.ckpt")
        assert found.global_step == wanted.global_step
        states = [one.lightning_module.state_dict() for one in (found, wanted)]
        assert states[0].keys() == states[1].keys()
        tensors = {name: value for name, value in states[1].items() if torch.is_tensor(value)}
        assert all(torch.equal(states[0][name], value) for name, value in tensors.items())
        assert found.callback_metrics.keys() == wanted.callback_metrics.keys()
        for name, value in wanted.callback_metrics.items():
            assert torch.equal(found.callback_metrics[name], value), name


def test_predictions_of_mixed_kinds_share_a_file(tmp_path: Path) -> None:
    tasks = KINDS["mixed"]
    data = read(tasks, test_inputs=samples(10)[0])
    run = trainer(tmp_path, callbacks=[PredictionWriter()])
    run.predict(build(tasks), data)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "task", "class", "class_name", "probability", "top5", "value"]
    assert [row["image"] for row in rows] == [str(i) for i in range(10) for _ in range(3)]
    by_task = {task.name: [row for row in rows if row["task"] == task.name] for task in tasks}
    assert all(row["class"] in "012" and not row["value"] for row in by_task["a"])
    assert all(len(row["value"].split("; ")) == 2 and not row["class"] for row in by_task["d"])
    assert all(len(row["top5"].split("; ")) == 4 for row in by_task["e"])
    trainer(tmp_path, callbacks=[PredictionWriter("own.csv")]).predict(
        TransferModule(Signal(), Regression("c")), read([Regression("c", target="c")])
    )
    with (tmp_path / "own.csv").open() as file:
        assert file.readline().strip() == "image,task,value"


@dataclass(frozen=True, init=False)  # its constructor is that of a regression
class Count(Regression):
    """How often something happens: the head gives the logarithm of a Poisson rate."""

    kind: ClassVar[str] = "test_count"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean negative log-likelihood, up to a constant."""
        known = ~target.isnan()
        terms = functional.poisson_nll_loss(output, target.nan_to_num(), reduction="none")
        return (terms * known).sum() / known.sum().clamp(min=1)


def counts() -> TensorDataModule:
    inputs, targets = samples()
    rate = (2 * targets["c"]).exp().round()
    rate[::9] = torch.nan
    return TensorDataModule(inputs, rate, tasks=[Count("count")], batch_size=8)


def test_a_task_of_ones_own_is_a_loss(tmp_path: Path) -> None:
    module = TransferModule(Signal(), Count("count"), optimizer=adam)
    keep = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep])
    data = counts()
    run.validate(module, data, verbose=False)
    before = float(run.callback_metrics["val/loss"])
    run.fit(module, data)
    assert float(run.callback_metrics["val/loss"]) < before
    path = tmp_path / "last.ckpt"
    assert read_checkpoint(path)["tl"]["tasks"][0]["kind"] == "test_count"
    loaded = TransferModule.load_from_checkpoint(path, backbone=Signal())
    assert loaded.task == Count("count")
    assert isinstance(loaded.task, Count)
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_kind_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
    run.fit(TransferModule(Signal(), Count("count")), counts())
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content["tl"]["tasks"][0]["kind"] = "shadow"
    if "task" in content.get("hyper_parameters", {}):
        content["hyper_parameters"]["task"]["kind"] = "shadow"
    torch.save(content, tmp_path / "shadow.ckpt")
    said = "Task 'count' is of the kind 'shadow', which this version of tl does not know"
    with pytest.raises(ValueError, match=said):
        TransferModule.load_from_checkpoint(tmp_path / "shadow.ckpt", backbone=Signal())
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path).validate(
            TransferModule(Signal(), Count("count")), counts(), str(tmp_path / "shadow.ckpt")
        )


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    inputs, targets = samples()
    keep = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
    three = Classification("t", 3)
    data = TensorDataModule(inputs, targets["a"], tasks=[three])
    run.fit(TransferModule(Signal(), three), data)
    path = str(tmp_path / "last.ckpt")
    others: list[Task] = [
        Regression("t", 3),
        Classification("t", 3, multi_label=True),
        Regression("u", 3),
    ]
    for other in others:
        with pytest.raises(ValueError, match=f"3 classes.*{other.answers}|the tasks u;"):
            TransferModule(Signal(), other, init_from=path, init_heads=True)
        own = TensorDataModule(inputs, torch.zeros(64, 3), tasks=[other])
        with pytest.raises(ValueError, match=rf"\(3 classes\).*\({other.answers}\)"):
            trainer(tmp_path).test(TransferModule(Signal(), other), own, path, verbose=False)
    assert TransferModule(Signal(), Regression("t", 3), init_from=path).transfer_report is not None
    taken = TransferModule(Signal(), three, init_from=path, init_heads=True)
    assert torch.equal(
        taken.heads["t"].get_parameter("weight"),
        run.lightning_module.heads["t"].weight,  # type: ignore[union-attr, index]
    )


def loaders(inputs: Any, targets: Any, batch: int = 8) -> Any:
    """What a data module of somebody else's gives."""

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 16

        def __getitem__(self, i: int) -> Any:
            rows = torch.tensor([i])
            both = (on_each(lambda part: part[rows][0], each) for each in (inputs, targets))
            return tuple(both)

    return torch.utils.data.DataLoader(Rows(), batch_size=batch)


@pytest.mark.parametrize(
    ("task", "target", "said"),
    [
        (Classification("a", 3), torch.rand(16), "is a classification, and sample 0 of the batch"),
        (Classification("a", 3), torch.zeros(16, 2), r"are of shape \(8, 2\); expected class ind"),
        (Classification("a", 3), {"b": torch.zeros(16)}, "reads the target None, the data have b"),
        (
            Regression("a", target="c"),
            {"b": torch.zeros(16)},
            "reads the target 'c', the data have b",
        ),
        (Regression("a", 2), torch.zeros(16), r"are of shape \(8,\); expected numbers of shape"),
        (Regression("a"), torch.full((16,), torch.inf), "is infinite for sample 0 of the batch"),
        (
            Classification("a", 2, multi_label=True),
            torch.full((16, 2), 0.5),
            "has several labels per sample, and label 0 of sample 0 of the batch is 0.5",
        ),
    ],
)
def test_targets_that_are_not_the_task_s_stop_the_run_before_its_first_step(
    task: Task, target: Any, said: str, tmp_path: Path
) -> None:
    inputs, _ = samples(16)
    run, module = trainer(tmp_path), TransferModule(Signal(), task)
    with pytest.raises(ValueError, match=said) as found:
        run.fit(module, loaders(inputs, target))
    assert "\n" not in str(found.value)
    assert run.global_step == 0


def test_a_source_that_has_not_what_a_task_reads_is_one_line(tmp_path: Path) -> None:
    inputs, targets = samples(16)
    both = {"one": loaders(inputs, targets), "two": loaders(inputs, {"a": targets["a"]})}
    tasks = [
        Regression("c", source="one", target="c"),
        Regression("d", 2, source="two", target="d"),
    ]
    module = build([*tasks])
    with pytest.raises(ValueError, match="Task 'd' reads the target 'd', the data have a"):
        trainer(tmp_path).fit(module, both)
    nowhere = build([Regression("c", source="three", target="c")])
    with pytest.raises(ValueError, match="tasks read three, the batch holds one, two"):
        trainer(tmp_path).fit(nowhere, both)


def test_parts_of_an_input_with_different_lengths_are_one_line(tmp_path: Path) -> None:
    inputs, targets = samples(16)
    left, right = inputs.unbind(1)
    data = TensorDataModule({"left": left, "right": right[:9]}, targets, tasks=KINDS["mixed"])
    with pytest.raises(DataError, match="one number of samples, got left 16, right 9"):
        trainer(tmp_path).fit(build(KINDS["mixed"], net=Pair), data)

    def collated(rows: list[Any]) -> Any:
        found, target = torch.utils.data.default_collate(rows)
        return {**found, "right": found["right"][:3]}, target

    loader = loaders({"left": left, "right": right}, targets["c"])
    loader.collate_fn = collated
    with pytest.raises(ValueError, match="one number of samples, got left 8, right 3"):
        trainer(tmp_path).fit(TransferModule(Pair(), Regression("c")), loader)


def test_targets_of_another_length_than_their_inputs_are_one_line(tmp_path: Path) -> None:
    inputs, targets = samples(16)

    def collated(rows: list[Any]) -> Any:
        found, target = torch.utils.data.default_collate(rows)
        return found, target[:5]

    loader = loaders(inputs, targets["c"])
    loader.collate_fn = collated
    with pytest.raises(ValueError, match="Task 'c' has 5 targets for the 8 samples of the batch"):
        trainer(tmp_path).fit(TransferModule(Signal(), Regression("c")), loader)
