"""Runs of backbones with a stream per task: MTAN and cross-stitch networks."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torchjd.aggregation import MGDA, Mean, PCGrad, Sum, UPGrad

from tests.small import trainer, two_sources
from tl import MultiTaskModule, SyntheticScenesDataModule, TransferModule
from tl.backbones import MTAN, CrossStitch
from tl.backbones.resnet_cifar import ResNetCifar
from tl.backbones.streams import StreamsBackbone, beside_heads
from tl.balancing import GradNorm, Uncertainty
from tl.callbacks.compute import flops_per_image
from tl.cli import main
from tl.tasks import Classification, Depth, Task
from tl.transfer import GradualUnfreezing, LinearProbe, Strategy, read_checkpoint
from tl.transfer.penalties import L2SP

KINDS: list[type[StreamsBackbone]] = [MTAN, CrossStitch]
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)


def rooms(tasks: Any = ("segmentation", "depth", "normals", "objects")) -> Any:
    return SyntheticScenesDataModule(
        tasks=tasks, train_size=20, test_size=6, size=16, batch_size=4, val_size=0.2
    )


def module(kind: type[StreamsBackbone], data: Any = None, **given: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    tasks = (data or rooms()).tasks
    return MultiTaskModule(kind(ResNetCifar(14)), tasks, **{"optimizer": SGD, **given})


def named(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "balancer", [None, Uncertainty, PCGrad, UPGrad, partial(GradNorm, lr=0.01), MGDA]
)
def test_it_trains_and_predicts(kind: type[StreamsBackbone], balancer: Any, tmp_path: Path) -> None:
    """Heads on maps and on vectors, with losses and with gradients balanced."""
    data = rooms()
    ours = module(kind, data, balancer=balancer and balancer())
    before = named(ours)
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=2)
    run.fit(ours, data)
    still = [n for n, p in named(ours).items() if torch.equal(p, before[n]) and p.numel() > 1]
    # biases before a batch norm have no effect; GradNorm trains no balancer's weight by the run
    assert not [n for n in still if not n.startswith("balancer") and not n.endswith(".bias")]
    assert all(p.isfinite().all() for p in ours.parameters())
    assert {"val/segmentation/miou", "val/depth/loss", "val/objects/loss"} <= set(
        run.callback_metrics
    )
    answers: Any = run.predict(ours, data)
    assert answers[0]["depth"][0].shape[-2:] == (16, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_aggregated_by_their_sum_gradients_are_those_of_the_summed_loss(
    kind: type[StreamsBackbone], tmp_path: Path
) -> None:
    """Shared parameters by the balancer, attention and heads beside it: none twice, none left."""
    runs = []
    for balancer in (None, Sum()):
        data = rooms()
        ours = module(kind, data, balancer=balancer)
        # one step: a second one magnifies what rounding has left
        trainer(tmp_path, max_epochs=1, max_steps=1).fit(ours, data)
        runs.append(named(ours))
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


class Watched(Mean):
    """The mean of the gradients, with a note of their shape."""

    seen: tuple[int, ...] = ()

    def forward(self, matrix: Any) -> Tensor:
        self.seen = tuple(matrix.shape)
        return super().forward(matrix)


@pytest.mark.parametrize("kind", KINDS)
def test_only_shared_parameters_are_aggregated(kind: type[StreamsBackbone], tmp_path: Path) -> None:
    data = rooms()
    watch = Watched()
    ours = module(kind, data, balancer=watch)
    trainer(tmp_path, max_epochs=1, max_steps=1).fit(ours, data)
    backbone: Any = ours.backbone
    shared = backbone.backbone if kind is MTAN else backbone
    assert watch.seen == (4, sum(p.numel() for p in shared.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_names_no_task(kind: type[StreamsBackbone], tmp_path: Path) -> None:
    """Tasks come from the data; the checkpoint is enough to test."""
    network = {"class_path": "tl.backbones.ResNet20"}
    backbone = {"class_path": f"tl.backbones.{kind.__name__}", "init_args": {"backbone": network}}
    config = {
        "data": {
            "class_path": "tl.data.SyntheticScenesDataModule",
            "init_args": {"train_size": 12, "test_size": 4, "size": 16, "batch_size": 4},
        },
        "model": {
            "class_path": "tl.modules.MultiTaskModule",
            "init_args": {"backbone": backbone},
        },
        "trainer": {"max_epochs": 1, "limit_train_batches": 2, "accelerator": "cpu"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    common = [f"--config={tmp_path / 'run.yaml'}", f"--log_dir={tmp_path}", "--name=streams"]
    main(["fit", *common, "--trainer.log_every_n_steps=1", "--dashboard.graph=false"])
    folder = tmp_path / "streams" / "version_0"
    losses = json.loads((folder / "results.json").read_text())["metrics"]
    assert {"val/segmentation/miou", "val/normals/loss", "val/objects/loss"} <= losses.keys()
    state = read_checkpoint(folder / "checkpoints" / "best.ckpt")["state_dict"]
    part = "attention" if kind is MTAN else "network"
    tasks = {name.split(".")[2] for name in state if name.startswith(f"backbone.{part}.")}
    assert tasks == {"segmentation", "depth", "normals", "objects"}
    main(["test", *common])
    assert "test/depth/loss" in json.loads((folder / "results.json").read_text())["metrics"]


def test_one_pass_serves_all_tasks() -> None:
    ours = module(MTAN)
    backbone: Any = ours.backbone
    calls: list[int] = []
    backbone.backbone.conv1.register_forward_hook(lambda *_: calls.append(1))
    ours.eval()
    assert len(ours(torch.randn(2, 3, 16, 16))) == 4
    assert calls == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumed_in_mid_epoch_equals_one_that_went_through(
    kind: type[StreamsBackbone], tmp_path: Path
) -> None:
    balancer = {MTAN: UPGrad, CrossStitch: Uncertainty}[kind]
    whole, first, second = (module(kind, balancer=balancer()) for _ in range(3))
    trainer(tmp_path, max_epochs=-1, max_steps=6).fit(whole, rooms())
    stopped = trainer(tmp_path, max_epochs=-1, max_steps=3)
    stopped.fit(first, rooms())
    stopped.save_checkpoint(tmp_path / "a.ckpt")
    resumed = trainer(tmp_path, max_epochs=-1, max_steps=6)
    resumed.fit(second, rooms(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        if isinstance(a, Tensor):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_it_computes_the_same(kind: type[StreamsBackbone]) -> None:
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        ours = module(kind, rooms(("depth", "objects")))
        if compiled:
            backbone: Any = ours.backbone
            ours.reader.compiled = torch.compile(backbone.streams, backend="eager")
        answers = ours(images)
        sum(answer.square().mean() for answer in answers.values()).backward()
        found.append([*answers.values(), *(p.grad for p in ours.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_the_reader_compiles_the_streams() -> None:
    ours = module(MTAN)
    ours.reader.compile(ours.backbone, None)
    assert ours.reader.compiled is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_norm", ["joint", "per_source", "per_source_statistics"])
@pytest.mark.parametrize("balancer", [None, PCGrad])
def test_sources_train_the_streams_of_their_tasks(
    kind: type[StreamsBackbone], batch_norm: Any, balancer: Any, tmp_path: Path
) -> None:
    data = two_sources(batch_size=10)
    ours = module(kind, data, batch_norm=batch_norm, balancer=balancer and balancer())
    before = named(ours)
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=1)
    run.fit(ours, data)
    after = named(ours)
    moved = {n for n in after if not torch.equal(after[n], before[n])}
    assert {n for n in after if not n.endswith("bias") and not n.startswith("balancer")} <= moved
    ours.eval()
    answers = ours(torch.randn(1, 3, 32, 32), "ten")
    assert set(answers) == {task.name for task in data.tasks if task.source == "ten"}


def test_in_passes_of_their_own_sources_leave_other_tasks_attention_alone() -> None:
    data = two_sources()
    ours = module(MTAN, data, batch_norm="per_source").train()
    backbone: Any = ours.backbone
    name = next(task.name for task in data.tasks if task.source == "hundred")
    state = copy.deepcopy(backbone.attention[name].state_dict())
    features = ours.features({"ten": torch.randn(4, 3, 32, 32)})["ten"]
    assert features.streams is not None
    assert list(features.streams) == [task.name for task in data.tasks if task.source == "ten"]
    for key, value in backbone.attention[name].state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("strategy", [LinearProbe(), GradualUnfreezing(), LinearProbe("frozen")])
def test_attention_trains_with_the_heads(strategy: Strategy, tmp_path: Path) -> None:
    ours = module(MTAN, strategy=strategy)
    before = {k: v.clone() for k, v in ours.state_dict().items() if isinstance(v, Tensor)}
    trainer(tmp_path, max_epochs=1, max_steps=2).fit(ours, rooms())
    for name, value in ours.state_dict().items():
        if name.startswith("backbone.backbone."):
            assert torch.equal(value, before[name]), name
        elif name.endswith("running_mean"):
            assert not torch.equal(value, before[name]), name
    names = [n for n, _ in ours.backbone.named_parameters() if n.endswith("0.weight")]
    new = [n for n in names if n.startswith(("attention", "refine"))]
    assert new
    assert not any(
        torch.equal(ours.state_dict()[f"backbone.{n}"], before[f"backbone.{n}"]) for n in new
    )


def test_a_probe_of_cross_stitch_keeps_networks_and_units(tmp_path: Path) -> None:
    ours = module(CrossStitch, strategy=LinearProbe())
    before = named(ours.backbone)
    trainer(tmp_path, max_epochs=1, max_steps=2).fit(ours, rooms())
    assert all(torch.equal(p, before[n]) for n, p in named(ours.backbone).items())


@pytest.mark.parametrize("strategy", [None, GradualUnfreezing(factor=2.0)])
def test_units_learn_at_their_own_rate(strategy: Strategy | None, tmp_path: Path) -> None:
    data = rooms()
    backbone = CrossStitch(ResNetCifar(14), lr_scale=10.0)
    ours = MultiTaskModule(backbone, data.tasks, optimizer=SGD, strategy=strategy)
    run = trainer(tmp_path, max_epochs=5, max_steps=1)
    run.fit(ours, data)
    rates = {group["name"]: group["lr"] for group in run.optimizers[0].param_groups}
    assert rates["head"] == 0.01
    below = 1.0 if strategy is None else 0.5
    assert rates["stitch_no_decay"] == pytest.approx(0.01 * below * 10)
    assert rates["layer3"] == pytest.approx(0.01 * below**2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_network_starts_it(kind: type[StreamsBackbone], tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = ResNetCifar(14).eval()
    torch.save(source.state_dict(), tmp_path / "source.pt")
    data = rooms()
    ours = module(kind, data, init_from=str(tmp_path / "source.pt"), penalties=L2SP())
    backbone: Any = ours.backbone
    for network in backbone.networks():
        for key, value in network.state_dict().items():
            assert torch.equal(value, source.state_dict()[key])
    report = ours.transfer_report
    assert report is not None
    assert len(report.loaded) == len(source.state_dict()) * len(backbone.networks())
    new = {"attention", "refine"} if kind is MTAN else {"units"}
    assert {name.split(".")[0] for name in report.reinitialised} == new
    trainer(tmp_path, max_epochs=1, max_steps=1).fit(ours, data)
    assert float(ours.penalty_values()["transfer/l2_sp"]) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_with_the_same_tasks_starts_all_of_it(
    kind: type[StreamsBackbone], tmp_path: Path
) -> None:
    data = rooms()
    first = module(kind, data)
    run = trainer(tmp_path, max_epochs=1, max_steps=2)
    run.fit(first, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    second = module(kind, data, init_from=str(tmp_path / "a.ckpt"))
    assert second.transfer_report is not None
    assert not second.transfer_report.reinitialised
    for key, value in first.backbone.state_dict().items():
        assert torch.equal(second.backbone.state_dict()[key], value)
    if kind is MTAN:  # and a single network starts from its shared one
        tasks: list[Task] = [Depth("depth", target="depth")]
        alone = TransferModule(ResNetCifar(14), tasks[0], init_from=str(tmp_path / "a.ckpt"))
        backbone: Any = first.backbone
        for key, value in backbone.backbone.state_dict().items():
            assert torch.equal(alone.backbone.state_dict()[key], value)
    loaded = kind.__name__
    again = MultiTaskModule.load_from_checkpoint(
        tmp_path / "a.ckpt", backbone=kind(ResNetCifar(14))
    )
    images = torch.randn(2, 3, 16, 16)
    a, b = first.eval()(images), again.eval()(images)
    assert all(torch.equal(a[task], b[task]) for task in a), loaded


def test_tasks_that_share_a_head_share_its_stream() -> None:
    tasks = [
        Classification("day", 3, source="day"),
        Classification("night", 3, source="night", shares="day", trains=False),
        Classification("kinds", 6, source="day"),
    ]
    ours = MultiTaskModule(MTAN(ResNetCifar(14)), tasks, batch_norm="per_source").eval()
    assert ours.backbone.tasks == ("day", "kinds")
    images = torch.randn(2, 3, 16, 16)
    found = ours(images)
    assert torch.equal(found["day"], found["night"])
    assert not torch.equal(found["day"], found["kinds"][:, :3])
    only = ours(images, "night")
    assert torch.equal(only["night"], found["night"])


def test_one_task_alone_trains(tmp_path: Path) -> None:
    data = rooms(("depth",))
    ours = TransferModule(MTAN(ResNetCifar(14)), data.tasks[0], optimizer=SGD)
    trainer(tmp_path, max_epochs=1, max_steps=1).fit(ours, data)
    assert ours(torch.randn(2, 3, 16, 16)).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_the_arithmetic_of_all_streams_is_counted(kind: type[StreamsBackbone]) -> None:
    data = rooms()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    images, targets = data.on_after_batch_transfer(batch, 0)
    alone = flops_per_image(MultiTaskModule(ResNetCifar(14), data.tasks), (images, targets))
    found = flops_per_image(module(kind, data), (images, targets))
    [objects] = [task for task in data.tasks if task.name == "objects"]
    network = flops_per_image(MultiTaskModule(ResNetCifar(14), [objects]), (images, targets))
    low, high = (0.2, 2.0) if kind is MTAN else (2.9, 3.2)  # networks more, of four tasks
    assert low * network < found - alone < high * network


def test_penalties_see_the_shared_network() -> None:
    ours = module(MTAN, penalties=[L2SP()])
    backbone: Any = ours.backbone
    names = {name.replace("/", ".") for name, _ in ours.penalties[0].weights.named_buffers()}  # type: ignore[union-attr]
    assert names == dict(backbone.backbone.named_parameters()).keys()
    assert beside_heads(ours.backbone)
