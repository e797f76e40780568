"""Heads on maps and on vectors of one network, under all that a run may be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchjd.aggregation import PCGrad, UPGrad

from tests.modules.test_maps import TASKS, Marking
from tests.processes import run_two_processes
from tests.small import trainer
from tl import MultiTaskModule, Regression, Task
from tl.backbones import LoraBackbone, TimmBackbone
from tl.backbones.resnet_cifar import ResNetCifar
from tl.balancing import Uncertainty
from tl.data import TensorDataModule
from tl.transfer import FullFineTuning
from tl.transfer.penalties import L2SP


def library() -> nn.Module:
    """A network whose vectors take a layer more than its maps."""
    pytest.importorskip("timm")
    return TimmBackbone("mobilenetv3_small_050", weights=None)


NETS: dict[str, Callable[[], nn.Module]] = {"ours": partial(ResNetCifar, 8), "library": library}
BALANCERS: dict[str, Any] = {
    "sum": None,
    "uncertainty": Uncertainty,
    "pcgrad": PCGrad,
    "upgrad": UPGrad,
}


def images(count: int, channels: int = 3) -> Tensor:
    """Noise with one of the first three channels brighter all over."""
    noise = torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    brighter = torch.eye(3)[torch.arange(count) % 3]
    noise[:, :3] += brighter[:, :, None, None]
    return noise


def data(tasks: list[Task] = TASKS, channels: int = 3) -> TensorDataModule:
    x = images(32, channels)
    targets = {"marks": x[:, :3].argmax(1), "mean": x.mean((1, 2, 3))}
    return TensorDataModule(x, targets, tasks, batch_size=4)


def build(net: str | nn.Module, tasks: list[Task] = TASKS, **settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    backbone = NETS[net]() if isinstance(net, str) else net
    sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.1)
    return MultiTaskModule(backbone, tasks, optimizer=sgd, **settings)


def moved(run: MultiTaskModule, before: dict[str, Tensor]) -> set[str]:
    return {name for name, p in run.named_parameters() if not torch.equal(p, before[name])}


def weights(run: MultiTaskModule) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in run.named_parameters()}


@pytest.mark.parametrize(("net", "balancer"), [*itertools.product(NETS, BALANCERS)])
def test_they_learn_together_under_balancers(net: str, balancer: str, tmp_path: Path) -> None:
    made = BALANCERS[balancer]
    run, x = build(net, balancer=made and made()), images(32)
    before = weights(run)

    def losses() -> dict[str, float]:
        """Of the batch as training sees it: a short run leaves running statistics far behind."""
        batch = (x, {"marks": x.argmax(1), "mean": x.mean((1, 2, 3))})
        with torch.no_grad():
            return {name: float(loss) for name, loss in run.train().task_losses(batch)[0].items()}

    class Epochs(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            found.append(losses()["marks"])

    start, found = losses()["marks"], list[float]()
    trainer(tmp_path, limit_val_batches=0, max_epochs=6, callbacks=[Epochs()]).fit(run, data())
    assert moved(run, before) == set(before)
    assert min(found) < 0.8 * start  # where four images a batch end hinges on rounding


def test_what_only_vectors_need_stays_where_all_heads_read_maps(tmp_path: Path) -> None:
    run = build("library", TASKS[:1])
    before = weights(run)
    trainer(tmp_path, limit_train_batches=2).fit(run, data(TASKS[:1]))
    assert set(before) - moved(run, before) == {
        "backbone.model.conv_head.weight",
        "backbone.model.conv_head.bias",
    }


# Batch norm over several sources


class Rows(Dataset[Any]):
    """One source of somebody else's."""

    def __init__(self, offset: float) -> None:
        self.images = images(8) * 2 + offset

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = self.images[index]
        return image, {"marks": image.argmax(0), "mean": image.mean()}


SOURCES = {"one": Rows(0.0), "two": Rows(3.0)}
BY_SOURCE: list[Task] = [
    Marking("marks", 3, source="one", target="marks"),
    Marking("more", 3, source="two", target="marks"),
    Regression("mean", source="two", target="mean"),
]
BATCH_NORMS = ("joint", "per_source", "per_source_statistics")


@pytest.mark.parametrize(("net", "kind"), [*itertools.product(NETS, BATCH_NORMS)])
def test_every_way_of_batch_norm(net: str, kind: Any, tmp_path: Path) -> None:
    run = build(net, BY_SOURCE, batch_norm=kind)
    loaders = {name: DataLoader(rows, batch_size=4) for name, rows in SOURCES.items()}
    batch: Any = {name: next(iter(loader)) for name, loader in loaders.items()}
    run.train()
    with torch.no_grad():  # the heads read what the network gives for the right images
        found = run.features({name: part[0] for name, part in batch.items()})
    state = {key: value.clone() for key, value in run.state_dict().items()}
    run.load_state_dict(state)
    parts = {name: part[0] for name, part in batch.items()}
    whole = torch.cat(list(parts.values()))
    if kind != "per_source_statistics":
        seen = [whole] if kind == "joint" else list(parts.values())
        with torch.no_grad():
            passes = [run.backbone.maps(each) for each in seen]  # type: ignore[operator]
        for stage in range(len(passes[0])):
            wanted = torch.cat([maps[stage] for maps in passes])
            got = torch.cat([each.maps[stage] for each in found.values()])  # type: ignore[index]
            torch.testing.assert_close(got, wanted)
    before = weights(run)
    fit = trainer(tmp_path, limit_val_batches=0)
    fit.fit(run, loaders)
    assert moved(run, before) == set(before)
    if kind == "per_source_statistics":
        means = {
            source: torch.cat(
                [b for n, b in run.named_buffers() if n.endswith(f"running_mean_{source}")]
            )
            for source in SOURCES
        }
        assert not torch.allclose(means["one"], means["two"])


# Adapters, compilation, channels


@pytest.mark.parametrize("net", NETS)
def test_adapters_train_under_heads_on_maps(net: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    run = build(LoraBackbone(NETS[net](), rank=2))
    before = weights(run)
    fit = trainer(tmp_path)
    fit.fit(run, data())
    found = moved(run, before)
    assert all("base_layer" not in name for name in found)
    assert {name for name in before if "lora_" in name} <= found
    assert {name for name in before if name.startswith("heads")} <= found


def small_library() -> nn.Module:
    """One that takes less time to trace."""
    pytest.importorskip("timm")
    return TimmBackbone("resnet10t", weights=None)


@pytest.mark.parametrize("net", [NETS["ours"], small_library], ids=["ours", "library"])
def test_a_compiled_run_equals_one_that_is_not(
    net: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    original, compiled = torch.compile, []

    def traced(model: Any, *, mode: object = None) -> Any:
        compiled.append(mode)
        return original(model, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    found = []
    for ask in (True, False):
        torch.manual_seed(0)
        run = build(net(), compile=ask)
        fit = trainer(tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=0)
        fit.fit(run, data())
        found.append(run.state_dict())
    assert compiled == [None]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name])


@pytest.mark.parametrize("net", ["ours", "library", "adapters"])
def test_other_channels_are_one_line_before_training(net: str, tmp_path: Path) -> None:
    path = "model.init_args.backbone.init_args"
    backbone = NETS["ours" if net == "ours" else "library"]()
    if net == "adapters":
        pytest.importorskip("peft")
        backbone, path = LoraBackbone(backbone), f"{path}.backbone.init_args"
    run, fit = build(backbone), trainer(tmp_path)
    with pytest.raises(
        ValueError, match=rf"^Found images of 13 .* expects 3; set {path}\.in_"
    ) as e:
        fit.fit(run, data(channels=13))
    assert "\n" not in str(e.value)
    assert fit.global_step == 0


def test_a_source_of_other_channels_is_one_line(tmp_path: Path) -> None:
    torch.save(ResNetCifar(8).state_dict(), tmp_path / "a.pt")
    said = (
        r"found 3 input channels in conv1\.weight .*expected 13 .*`in_channels` to 3, or .*"
        r"`reinit: \[conv1\]`"
    )
    options: dict[str, Any] = {"init_from": str(tmp_path / "a.pt")}
    with pytest.raises(ValueError, match=said):
        build(ResNetCifar(8, in_channels=13), **options)
    run = build(ResNetCifar(8, in_channels=13), **options, reinit=["conv1"])
    assert run.transfer_report is not None
    assert run.transfer_report.reinitialised == ("conv1.weight",)


# Two processes

CASES: dict[str, dict[str, Any]] = {
    "both": {},
    "maps": {"tasks": TASKS[:1]},
    "penalised": {"tasks": TASKS[:1], "penalties": True},
    "uncertainty": {"balancer": Uncertainty},
    "pcgrad": {"balancer": PCGrad},
    "upgrad": {"balancer": UPGrad},
    "upgrad on maps": {
        "tasks": [TASKS[0], Marking("more", 3, target="marks")],
        "balancer": UPGrad,
    },
}
RUNS = [
    *(("ours", case) for case in ("both", "maps", "uncertainty", "pcgrad", "upgrad")),
    *(("library", case) for case in ("both", "maps", "penalised", "upgrad", "upgrad on maps")),
]


def fitted(net: str, case: str, folder: Path, devices: int) -> dict[str, Tensor]:
    """Train in so many processes on the same batches; frozen batch norm sees no batch."""
    options = dict(CASES[case])
    tasks = options.pop("tasks", TASKS)
    balancer = options.pop("balancer", None)
    torch.manual_seed(0)
    backbone: Any = NETS[net]()
    if options.pop("penalties", False):
        backbone.pretrained = True  # the penalty asks for a start that is worth keeping
        options["penalties"] = L2SP(alpha=0.1)
    strategy = FullFineTuning(bn="frozen")
    run = build(backbone, tasks, balancer=balancer and balancer(), strategy=strategy, **options)
    source = data(tasks)
    source.batch_size = 8 // devices
    trainer(
        folder,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=0,
    ).fit(run, source)
    return weights(run)


SCRIPT = """
import os, sys, warnings
from pathlib import Path
import torch
from tests.modules.test_maps_runs import RUNS, fitted
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
found = {" ".join(one): fitted(*one, Path(sys.argv[1]), 2) for one in RUNS}
torch.save(found, f"{sys.argv[1]}/rank{os.environ['LOCAL_RANK']}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """Weights of every run in each of two processes."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(folder)], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(("net", "case"), RUNS)
def test_two_processes_train_as_one_does(net: str, case: str, ranks: Any, tmp_path: Path) -> None:
    first, second = (rank[f"{net} {case}"] for rank in ranks)
    for name, value in fitted(net, case, tmp_path, 1).items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5)
