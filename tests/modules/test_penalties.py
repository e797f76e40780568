"""Penalties in whole runs, generated over all of them: resume, accumulation, precision, tasks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.scalarization import Mean

from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tests.transfer.penalties.steps import PENALTIES, penalty_of
from tl import TransferModule
from tl.backbones import ResNet20
from tl.balancing import StaticWeights
from tl.cli import main
from tl.transfer import LinearProbe, load_weights
from tl.transfer.penalties import BSS, DELTA, EWC, L2SP, CoTuning, Distillation, LwF, Penalty

over_all = pytest.mark.parametrize("kind", PENALTIES, ids=lambda kind: kind.__name__)
HEAD = "heads.generated10.weight"


class Steep(Penalty):
    """A term with a known gradient: ten times the first weight of the backbone."""

    name = "steep"

    def forward(self, step: Any) -> Tensor:
        value: Tensor = 10 * next(step.backbone.parameters()).flatten()[0]
        return value


class HeadDecay(Penalty):
    """``0.15 * ||v||^2`` of the heads."""

    name = "decay"

    def forward(self, step: Any) -> Tensor:
        terms = [p.square().sum() for p in step.heads.parameters()]
        return 0.15 * torch.stack(terms).sum()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a source of the same ten classes."""
    folder = tmp_path_factory.mktemp("source")
    data = tiny_data(seed=7)
    run = trainer(folder, max_epochs=1)
    run.fit(module(data), data)
    run.save_checkpoint(folder / "source.ckpt")
    return folder / "source.ckpt"


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)


def differences(one: LightningModule, other: LightningModule) -> list[str]:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    return [
        key
        for key, value in mine.items()
        if not (
            torch.equal(value, theirs[key]) if isinstance(value, Tensor) else value == theirs[key]
        )
    ]


def terms(run: Trainer) -> dict[str, Tensor]:
    """The terms' last values by name."""
    return {
        k.removeprefix("transfer/"): v
        for k, v in run.callback_metrics.items()
        if k.startswith("transfer/") and "bn_drift" not in k and "trainable" not in k
    }


# Resume and checkpoints


@over_all
def test_two_and_two_epochs_equal_four_without_the_source(
    kind: type[Penalty], source: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "source.ckpt"
    shutil.copy(source, copied)

    def fit(epochs: int, ckpt: Path | None = None) -> tuple[TransferModule, Trainer]:
        data = tiny_data()
        ours = module(data, init_from=str(copied), penalties=penalty_of(kind), optimizer=sgd)
        run = trainer(tmp_path, max_epochs=epochs)
        run.fit(ours, data, ckpt_path=ckpt, weights_only=True)
        return ours, run

    straight, _ = fit(4)
    half, run = fit(2)
    path = tmp_path / "half.ckpt"
    run.save_checkpoint(path)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    torch.load(path, weights_only=True)
    copied.unlink()  # what is needed of it stands in the run's own checkpoint
    torch.manual_seed(99)
    resumed, _ = fit(4, path)
    assert differences(straight, resumed) == []
    assert differences(straight, half) != []


def test_training_on_from_a_loaded_model_keeps_the_start(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, init_from=str(source), penalties=[L2SP(), LwF()])
    run = trainer(tmp_path)
    run.fit(ours, data)
    run.save_checkpoint(tmp_path / "one.ckpt")
    again = TransferModule.load_from_checkpoint(
        tmp_path / "one.ckpt", backbone=Tiny(), penalties=[L2SP(), LwF()], weights_only=True
    )
    kept = {k: v.clone() for k, v in again.state_dict().items() if k.startswith("penalties")}
    trainer(tmp_path, limit_train_batches=0).fit(again, data)
    for key, value in kept.items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_a_run_with_penalties_is_a_source_again(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, init_from=str(source), penalties=[L2SP(), LwF(), CoTuning()])
    run = trainer(tmp_path, max_epochs=1)
    run.fit(ours, data)
    run.save_checkpoint(tmp_path / "middle.ckpt")
    backbone = Tiny()
    report = load_weights(backbone, tmp_path / "middle.ckpt")
    assert report.fraction == 1
    for name, value in ours.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)
    last = module(data, init_from=str(tmp_path / "middle.ckpt"), penalties=[L2SP(), LwF()])
    trainer(tmp_path, max_epochs=1).fit(last, data)


# The sum, the optimiser, the logs


def test_terms_add_up(tmp_path: Path) -> None:
    data, found = tiny_data(), []
    for penalties in (None, Steep(), [Steep(), BSS(eta=1.0), Steep()]):
        ours = module(data, penalties=penalties, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
        sums: list[Tensor] = []
        ours.training_loss = kept(ours.training_loss, sums)  # type: ignore[method-assign]
        run = trainer(tmp_path, max_steps=1)
        run.fit(ours, data)
        found.append((ours, sums, terms(run)))
    (plain, none, _), (one, single, said), (_, several, named) = found
    assert none == []
    assert float(single[0]) == pytest.approx(float(said["steep"]))
    assert set(named) == {"steep", "bss", "steep_3"}
    assert float(several[0]) == pytest.approx(float(sum(named.values())))
    # the update is that of the plain run, and lr * 10 on one weight
    before, after = (m.backbone.get_parameter("conv.weight").flatten() for m in (plain, one))
    moved = after - before
    assert moved[0].item() == pytest.approx(-1, rel=1e-5)
    assert moved[1:].abs().max().item() == 0


def kept(method: Any, sums: list[Tensor]) -> Any:
    def wrapped(*given: Any) -> Tensor:
        *_, penalty = given
        sums.extend([] if penalty is None else [penalty.detach()])
        found: Tensor = method(*given)
        return found

    return wrapped


def test_decay_is_off_where_l2_sp_acts() -> None:
    data = tiny_data()

    def decays(penalties: Any) -> dict[str, float]:
        ours = module(data, penalties=penalties)
        groups = sgd(ours.parameter_groups()).param_groups
        return {g["name"]: g["weight_decay"] for g in groups if "no_decay" not in g["name"]}

    assert decays(None) == {"backbone": 0.01, "head": 0.01}
    assert decays(L2SP()) == {"backbone": 0, "head": 0}
    assert decays([BSS(), L2SP(beta=0)]) == {"backbone": 0, "head": 0.01}
    assert decays([L2SP(alpha=0), BSS()]) == {"backbone": 0.01, "head": 0}


def test_a_kept_head_trains_in_groups_of_its_own(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, init_from=str(source), penalties=[L2SP(), LwF()], optimizer=sgd)
    run = trainer(tmp_path)
    run.fit(ours, data)
    groups = {g["name"]: g for g in run.optimizers[0].param_groups}
    assert groups["source_head"]["weight_decay"] == 0.01
    assert groups["source_head_no_decay"]["weight_decay"] == 0
    lwf = ours.penalties[1]
    assert isinstance(lwf, LwF)
    assert lwf.network is not None
    state = torch.load(source, weights_only=True)["state_dict"]
    assert not torch.equal(lwf.get_parameter("head.linear.weight"), state[HEAD])
    for name, value in lwf.network.backbone.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"]), name


def test_lwf_begins_at_zero_under_frozen_batch_norm(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    probe = LinearProbe(bn="frozen")
    ours = module(data, init_from=str(source), penalties=LwF(), strategy=probe)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(ours, data)
    assert float(terms(run)["lwf"]) == pytest.approx(0, abs=1e-6)  # probed features stay


def test_tensorboard_shows_the_relation_of_classes(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, init_from=str(source), penalties=CoTuning())
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    trainer(tmp_path, max_steps=1, logger=logger).fit(ours, data)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert "transfer/class_relations" in events.Tags()["images"]
    assert "transfer/co_tuning" in events.Tags()["scalars"]
    penalty = ours.penalties[0]
    assert isinstance(penalty, CoTuning)
    assert penalty.relations.shape == (10, 10)
    axes = penalty.figures()["class_relations"].axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(data.class_names["generated10"])


# Accumulation, precision, several tasks, balancing


class Smooth(nn.Module):
    """A backbone whose batches can be cut: no batch norm."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).tanh().mean((2, 3))
        return features


def stream(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, 3, 32, 32, generator=generator),
            torch.randint(0, 10, (size,), generator=generator),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", [EWC, L2SP, LwF, Distillation], ids=lambda kind: kind.__name__)
def test_two_micro_batches_equal_one_batch(kind: type[Penalty], tmp_path: Path) -> None:
    """A term of the weights counts once per step, not once per micro-batch."""
    torch.manual_seed(1)
    whole = nn.ModuleDict({"backbone": Smooth(), "heads": nn.ModuleDict({"a": nn.Linear(4, 10)})})
    path = tmp_path / "smooth.ckpt"
    torch.save({"state_dict": whole.state_dict()}, path)
    joint, found = stream(3), []
    halves = [(x[i : i + 4], y[i : i + 4]) for x, y in joint for i in (0, 4)]
    for accumulate, batches in ((1, joint), (2, halves)):
        torch.manual_seed(0)
        ours = TransferModule(
            Smooth(),
            {"name": "a", "num_classes": 10},
            init_from=str(path),
            penalties=L2SP(3.0, 1.0) if kind is L2SP else penalty_of(kind, weight=3.0),
            optimizer=sgd,
        )
        run = trainer(tmp_path, accumulate_grad_batches=accumulate)
        run.fit(ours, torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        found.append(ours)
    for (name, p), q in zip(found[0].named_parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=name)


@over_all
def test_mixed_precision(kind: type[Penalty], source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, init_from=str(source), penalties=penalty_of(kind))
    run = trainer(tmp_path, precision="bf16-mixed", max_epochs=1, limit_train_batches=3)
    run.fit(ours, data)
    [value] = terms(run).values()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(bool(p.isfinite().all()) for p in ours.parameters())


@pytest.mark.parametrize("batch_norm", ["joint", "per_source_statistics"])
@over_all
def test_several_tasks(kind: type[Penalty], batch_norm: Any, source: Path, tmp_path: Path) -> None:
    data = two_sources()
    task = {"task": "ten"} if kind in (CoTuning, DELTA, Distillation) else {}
    ours = multitask_module(
        data, init_from=str(source), penalties=penalty_of(kind, **task), batch_norm=batch_norm
    )
    run = trainer(tmp_path, max_steps=2)
    run.fit(ours, data)
    [value] = terms(run).values()
    assert value.isfinite()
    assert float(value) > 0


BALANCERS: dict[str, Any] = {
    "sum": lambda: None,
    "mean": Mean,
    "static": lambda: StaticWeights({"ten": 3.0, "hundred_fine": 1.0, "hundred_coarse": 0.5}),
    "upgrad": UPGrad,
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_term_stands_beside_the_balanced_update(
    balancer: str, accumulate: int, tmp_path: Path
) -> None:
    """Balanced update and the term's own gradient, neither weighted nor aggregated."""

    def step(penalties: Any) -> tuple[Tensor, Tensor]:
        data = two_sources()
        ours = multitask_module(
            data,
            balancer=BALANCERS[balancer](),
            penalties=penalties,
            optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
        )
        parameters = [*ours.backbone.parameters(), *ours.heads.parameters()]
        begun = torch.cat([p.detach().flatten() for p in parameters])
        trainer(tmp_path, max_steps=1, accumulate_grad_batches=accumulate).fit(ours, data)
        return begun, torch.cat([p.detach().flatten() for p in parameters])

    (begun, plain), (_, penalised) = step(None), step([Steep(), HeadDecay()])
    size = sum(p.numel() for p in Tiny().parameters())
    wanted = torch.zeros_like(begun)
    wanted[0] = 10
    wanted[size:] = 0.3 * begun[size:]
    torch.testing.assert_close(plain - penalised, wanted, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("kind", [LwF, BSS, DELTA], ids=lambda kind: kind.__name__)
def test_terms_that_share_the_tasks_graph_go_with_aggregation(
    kind: type[Penalty], source: Path, tmp_path: Path
) -> None:
    data = two_sources()
    penalty = DELTA(task="ten") if kind is DELTA else kind()
    ours = multitask_module(
        data, init_from=str(source), penalties=penalty, balancer=UPGrad(), optimizer=sgd
    )
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(ours, data)
    if kind is LwF:
        learned = ours.get_parameter("penalties.0.head.linear.weight")
        state = torch.load(source, weights_only=True)["state_dict"]
        assert not torch.equal(learned, state[HEAD])


# Bad input


def refused(folder: Path, message: str, data: Any = None, **settings: Any) -> None:
    data = data or tiny_data()
    with pytest.raises(ValueError, match=message) as error:
        trainer(folder).fit(module(data, **settings), data)
    assert "\n" not in str(error.value)


def test_a_teacher_of_other_classes(source: Path, tmp_path: Path) -> None:
    refused(
        tmp_path,
        r"source\.ckpt has 10 classes, the task 'generated100' 100",
        data=tiny_data(classes=100, train_size=300, test_size=100),
        penalties=Distillation(teacher=str(source)),
    )


def test_a_penalty_without_source_weights(tmp_path: Path) -> None:
    refused(tmp_path, "L2SP needs the weights of a source, and this run has none", penalties=L2SP())


def test_a_checkpoint_without_a_head(tmp_path: Path) -> None:
    torch.save(Tiny().state_dict(), tmp_path / "bare.pt")
    refused(
        tmp_path, r"bare\.pt: has no head", init_from=str(tmp_path / "bare.pt"), penalties=LwF()
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("L2SP",), "tl: L2SP needs the weights of a source, and this run has none; "),
        (("LwF", "--model.init_args.init_from={source}"), "tl: {source}: has no head "),
        (("L2SP", "--model.init_args.penalties.init_args.alpha=-1"), "tl: `alpha` must be 0 "),
        (("L2SP", "--model.init_args.penalties.init_args.alfa=1"), "Did you mean 'alpha'?"),
    ],
)
def test_the_command_line_says_one_line(
    given: tuple[str, ...],
    line: str,
    tmp_path: Path,
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(repository)
    source = tmp_path / "bare.pt"
    torch.save(ResNet20().state_dict(), source)
    words = [word.format(source=source) for word in given]
    code = main(
        [
            *("fit", "--config", "configs/transfer_cifar100.yaml"),
            *("--config", "configs/overlays/quick.yaml", "--data.init_args.generated_size=200"),
            *("--trainer.accelerator=cpu", f"--log_dir={tmp_path}"),
            f"--model.init_args.penalties={words[0]}",
            *words[1:],
        ]
    )
    assert code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.format(source=source) in last
    assert last.startswith("tl: ")


def test_a_compiled_backbone_does_not_give_outputs_inside(source: Path, tmp_path: Path) -> None:
    message = "DELTA reads outputs of layers inside the backbone, .* set `compile: false`"
    refused(tmp_path, message, penalties=DELTA(), init_from=str(source), compile=True)


def test_what_is_no_penalty(tmp_path: Path) -> None:
    refused(tmp_path, r"`penalties` must be penalties of tl\.transfer", penalties=[nn.Linear(1, 1)])
