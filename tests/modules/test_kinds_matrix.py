"""Every kind of task with every balancer, batch norm, way of combining loaders, and input."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import CombinedLoader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tests.balancing.conftest import micro_batches
from tests.modules.test_kinds import KINDS, Count, Pair, Signal, adam, build, loaders, read, samples
from tests.processes import ROOT, run_two_processes
from tests.small import trainer
from tl import MultiTaskModule, Task
from tl.balancing import BalancerSpec, DynamicTaskPrioritization
from tl.batch import on_each
from tl.callbacks import Dashboard, PredictionWriter
from tl.data import TensorDataModule
from tl.transfer import FullFineTuning

OVERLAYS = sorted((ROOT / "configs" / "balancing").glob("*.yaml"))


def balancer_of(overlay: Path) -> Any:
    given = yaml.safe_load(overlay.read_text())["model"]["init_args"]["balancer"]
    arguments = given.setdefault("init_args", {}) if isinstance(given, dict) else {}
    if arguments.get("weights"):  # the shipped ones are for two tasks, by name
        names = [task.name for task in KINDS["mixed"]]
        by_name = isinstance(arguments["weights"], dict)
        arguments["weights"] = dict.fromkeys(names, 1.0) if by_name else [1 / 3] * 3
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--balancer", type=BalancerSpec)
    return parser.instantiate_classes(parser.parse_object({"balancer": given})).balancer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_mixed_kinds_train_under_every_overlay(overlay: Path, tmp_path: Path) -> None:
    balancer = balancer_of(overlay)
    module = build(KINDS["mixed"], balancer)
    before = {k: p.detach().clone() for k, p in module.named_parameters()}
    size = micro_batches(overlay.stem)
    settings = {"limit_train_batches": 3, "accumulate_grad_batches": size}
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=0, **settings)
    if isinstance(balancer, DynamicTaskPrioritization):
        with pytest.raises(ValueError, match="by their accuracy, which d does not have"):
            run.fit(module, read(KINDS["mixed"]))
        return
    run.fit(module, read(KINDS["mixed"]))
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all(), name
        if name.startswith("heads"):
            assert not torch.equal(parameter, before[name]), name


class Theirs(LightningDataModule):
    """Two sources of somebody else's, of 16 and 8 samples, without any attribute of ours."""

    def __init__(self, mode: Any, net: str = "signal") -> None:
        super().__init__()
        self.mode, self.net = mode, net

    def sources(self) -> dict[str, Any]:
        targets = on_each(lambda part: part[:16], samples(53)[1])
        inputs = on_each(lambda part: part[:16], given(self.net))
        reverse = on_each(lambda part: part.flip(0), inputs)
        return {"one": loaders(inputs, targets), "two": loaders(reverse, targets, 16)}

    def train_dataloader(self) -> Any:
        return CombinedLoader(self.sources(), self.mode)

    def val_dataloader(self) -> Any:
        return CombinedLoader(self.sources(), "max_size")


@pytest.mark.parametrize(
    ("kind", "norm", "mode"),
    [
        *product(
            ["classification", "regression", "multi-label"],
            ["joint", "per_source", "per_source_statistics"],
            ["min_size", "max_size_cycle", "max_size"],
        )
    ],
)
def test_every_kind_reads_loaders_that_lightning_combines(
    kind: str, norm: Any, mode: str, tmp_path: Path
) -> None:
    first, second = KINDS[kind]
    tasks = [first.read_from("one"), second.read_from("two")]
    torch.manual_seed(0)
    module = MultiTaskModule(Signal(), tasks, batch_norm=norm, optimizer=adam)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, Theirs(mode))
    assert run.global_step == (1 if mode == "min_size" else 2)
    found = {name: float(value) for name, value in run.callback_metrics.items()}
    for task in tasks:
        assert {f"val/{task.name}/{task.score}", f"train/{task.name}/loss"} <= found.keys()
    assert module.samples["val"] == {first.name: 16, second.name: 16}
    if norm != "per_source_statistics":  # `sequential` gives batches that do not name a source
        [one] = trainer(tmp_path).validate(module, [*Theirs(mode).sources().values()])[:1]
        assert f"val/{first.name}/loss/dataloader_idx_0" in one


@pytest.mark.parametrize("norm", ["joint", "per_source", "per_source_statistics"])
def test_dicts_of_inputs_go_through_every_batch_norm(norm: Any, tmp_path: Path) -> None:
    tasks = [KINDS["classification"][0].read_from("one"), KINDS["regression"][1].read_from("two")]
    weights = []
    for net in ("dict", "signal"):
        torch.manual_seed(0)
        module = MultiTaskModule(NETS[net](), tasks, batch_norm=norm, optimizer=adam)
        trainer(tmp_path, max_epochs=1).fit(module, Theirs("max_size_cycle", net))
        weights.append(module.state_dict())
    tensors = {name: value for name, value in weights[0].items() if torch.is_tensor(value)}
    assert all(torch.equal(weights[1][name], value) for name, value in tensors.items())


class Flat(nn.Module):
    """Images of any number of channels, as their mean levels."""

    num_features = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, 8)``."""
        features: Tensor = self.conv(inputs).relu().mean((2, 3))
        return features


def one_channel() -> Flat:
    return Flat(1)


def thirteen_channels() -> Flat:
    return Flat(13)


def given(net: str) -> Any:
    """Inputs for a network."""
    signals, _ = samples(53)
    if net == "signal":
        return signals
    if net == "dict":
        return dict(zip(("left", "right"), signals.unbind(1), strict=True))
    return signals[:, :1, None, :].expand(-1, 13 if net == "13" else 1, 4, -1).contiguous()


NETS: dict[str, Any] = {
    "dict": Pair, "1": one_channel, "13": thirteen_channels, "signal": Signal
}  # fmt: skip
SINGLE: dict[str, Task] = {kind: KINDS[kind][0] for kind in KINDS if kind != "mixed"}
SINGLE["own"] = Count("count", target="b")  # 0 and 1 are counts too
CASES = [*product(SINGLE, NETS)]


def data_of(tasks: list[Task], net: str, **options: Any) -> TensorDataModule:
    inputs, (_, targets) = given(net), samples(53)
    given_options = {"batch_size": 8, "val_size": 0.3, **options}
    return TensorDataModule(
        inputs, targets, tasks, test_inputs=inputs, test_targets=targets, **given_options
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "net"), CASES)
def test_every_kind_reads_every_input(kind: str, net: str, tmp_path: Path) -> None:
    task = SINGLE[kind]

    def fit(ckpt: str | None = None) -> Any:
        logger = TensorBoardLogger(tmp_path, "run" if ckpt is None else "resumed")
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
        shows = [Dashboard(1, mistakes=2, graph=False)] if ckpt is None else []
        run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep, *shows], logger=logger)
        run.fit(build([task], net=NETS[net]), data_of([task], net), ckpt_path=ckpt)
        return run

    whole = fit()
    assert whole.global_step == 8
    resumed = fit(str(tmp_path / "step=6.ckpt"))  # the second epoch's second step
    for name, value in whole.lightning_module.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(resumed.lightning_module.state_dict()[name], value), name
    metrics = (whole.callback_metrics, resumed.callback_metrics)
    assert all(torch.equal(metrics[1][name], value) for name, value in metrics[0].items())
    shown = EventAccumulator(str(tmp_path / "run" / "version_0"))
    shown.Reload()
    wanted = {"classification": "confusion", "regression": "scatter", "multi-label": "labels"}
    wanted["own"] = "scatter"
    images = {tag.split("/")[1] for tag in shown.Tags()["images"]}
    assert wanted[kind] in images
    assert ("mistakes" in images) == (net != "dict")  # what is neither image nor signal
    writer = trainer(tmp_path, callbacks=[PredictionWriter(str(tmp_path / "predictions.csv"))])
    writer.predict(whole.lightning_module, data_of([task], net))
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 54


# Two processes


def ran(net: str, devices: int, folder: Path) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Score all kinds, also one with missing numbers, and train those without.

    Each process then takes the mean over its own share; frozen batch norm sees no batch.
    """
    options: dict[str, Any] = {
        "devices": devices,
        "strategy": "ddp" if devices > 1 else "auto",
        "max_epochs": 1,
    }
    some = [*SINGLE.values(), KINDS["mixed"][1]]
    run = trainer(folder, **options)
    data = data_of(some, net, batch_size=8 // devices)
    found: dict[str, float] = {}
    for verb in ("validate", "test"):
        getattr(run, verb)(build(some, net=NETS[net]), data, verbose=False)
        found |= {name: float(value) for name, value in run.callback_metrics.items()}
    torch.manual_seed(0)
    module = MultiTaskModule(
        NETS[net](),
        [*SINGLE.values()],
        strategy=FullFineTuning(bn="frozen"),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )
    data = data_of([*SINGLE.values()], net, batch_size=8 // devices)
    trainer(folder, **options, limit_val_batches=0).fit(module, data)
    return found, {name: p.detach() for name, p in module.named_parameters()}


SCRIPT = """
import os, sys, warnings
from pathlib import Path
import torch
from tests.modules.test_kinds_matrix import NETS, ran
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
found = {net: ran(net, 2, Path(sys.argv[1])) for net in NETS}
torch.save(found, f"{sys.argv[1]}/rank{os.environ['LOCAL_RANK']}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Scores and weights by network in each of two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(folder)], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("net", NETS)
def test_two_processes_score_and_train_every_kind_as_one_does(
    net: str, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    scores, weights = ran(net, 1, tmp_path)
    (first, ours), (_, theirs) = (rank[net] for rank in ranks)
    assert {"val/d/r2", "test/e/map", "test/count/mae"} <= set(scores)
    assert first == pytest.approx(scores, rel=1e-5)
    torch.manual_seed(0)
    before = dict(MultiTaskModule(NETS[net](), [*SINGLE.values()]).named_parameters())
    for name, value in weights.items():
        assert torch.equal(ours[name], theirs[name]), name
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
        assert "norm" in name or not torch.equal(value, before[name]), name
