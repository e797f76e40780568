from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from torch import nn
from torchjd.aggregation import PCGrad

from tests.modules.test_maps import Marking
from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tl import Classification, GeneratedDataModule, MultiTaskModule, TransferModule
from tl.backbones.resnet_cifar import ResNetCifar
from tl.callbacks import Dashboard
from tl.callbacks.dashboard import Network
from tl.data import SyntheticScenesDataModule, TensorDataModule
from tl.transfer import LinearProbe
from tl.transfer.penalties import BSS


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def run(folder: Path, ours: Any, data: Any, dashboard: Dashboard, **settings: Any) -> Any:
    logger = TensorBoardLogger(folder, "runs", default_hp_metric=False)
    made = trainer(folder, logger=logger, callbacks=[dashboard], **settings)
    made.fit(ours, data)
    return events(Path(logger.log_dir))


def test_a_multi_task_run_fills_every_tab(tmp_path: Path) -> None:
    data = two_sources()
    ours = multitask_module(data, batch_norm="per_source_statistics")
    found = run(tmp_path, ours, data, Dashboard(every_n_epochs=1, mistakes=4, images=8))
    tags = found.Tags()
    assert {f"train/augmented/{source}" for source in data.sources} <= set(tags["images"])
    for task in data.tasks:
        assert f"val/confusion/{task.name}" in tags["images"]
        assert f"val/mistakes/{task.name}" in tags["images"]
    assert len(found.Images("val/confusion/ten")) == 2  # each of two epochs
    assert tags["graph"]
    assert {"run/data/text_summary", "run/versions/text_summary"} <= set(tags["tensors"])
    text = found.Tensors("run/data/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| ten / kind | generated |" in text
    # the tasks stand side by side
    titles = charts(found)
    assert titles["val acc: all tasks"] == [
        rf"^val/{t.name}/acc(/dataloader_idx_\d+)?$" for t in data.tasks
    ]
    assert titles["ten acc: train and val"] == [
        *("^train/ten/acc$", r"^val/ten/acc(/dataloader_idx_\d+)?$")
    ]
    assert all(curves(found, tag) for tags in titles.values() for tag in tags)


def test_maps_of_pixels_are_shown_side_by_side(tmp_path: Path) -> None:
    data = SyntheticScenesDataModule(train_size=20, test_size=4, size=16, batch_size=6)
    torch.manual_seed(0)
    ours = MultiTaskModule(ResNetCifar(8), data.tasks)
    found = run(tmp_path, ours, data, Dashboard(every_n_epochs=2, graph=False), max_epochs=4)
    tags = found.Tags()["images"]
    for task in ("segmentation", "depth", "normals"):
        for what in ("maps", "mistakes"):
            tag = f"val/{what}/{task}"
            assert [event.step for event in found.Images(tag)] == [6, 12]
    assert {"val/iou/segmentation", "val/confusion/segmentation", "val/labels/objects"} <= {*tags}
    image = found.Images("val/maps/depth")[0]
    assert image.width > 4 * 64  # four columns


def charts(found: EventAccumulator) -> dict[str, list[str]]:
    """Patterns of the curves by chart."""
    [event] = found.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout()
    layout.ParseFromString(event.tensor_proto.string_val[0])
    return {chart.title: list(chart.multiline.tag) for c in layout.category for chart in c.chart}


def curves(found: EventAccumulator, pattern: str) -> set[str]:
    """Names of the curves that a pattern stands for, as TensorBoard finds them."""
    return {name for name in found.Tags()["scalars"] if re.match(pattern, name)}


def test_a_chart_shows_the_curves_of_each_loader(tmp_path: Path) -> None:
    class Twice(GeneratedDataModule):
        def val_dataloader(self) -> Any:
            return [super().val_dataloader()] * 2

    data = Twice(train_size=120, test_size=30, batch_size=20)
    found = run(tmp_path, module(data), data, Dashboard())
    train, val = charts(found)["acc: train and val"]
    assert curves(found, train) == {"train/acc"}
    assert curves(found, val) == {"val/acc/dataloader_idx_0", "val/acc/dataloader_idx_1"}


def test_hyperparameters_stand_beside_the_final_metrics(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, label_smoothing=0.1)
    found = run(tmp_path, ours, data, Dashboard())
    plugin = found.summary_metadata
    start = plugin_data_pb2.HParamsPluginData.FromString(
        plugin["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert start.hparams["backbone"].string_value == "Tiny"
    assert start.hparams["lr"].number_value == pytest.approx(0.1)
    assert start.hparams["label_smoothing"].number_value == pytest.approx(0.1)
    assert start.hparams["data/kind"].string_value == "generated"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(
        plugin["_hparams_/experiment"].plugin_data.content
    ).experiment
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert "val/acc" in metrics
    assert "hp_metric" not in found.Tags()["scalars"]
    assert metrics[:2] == ["val/acc", "test/acc"], "what is compared stands first"
    validated = {name for name in metrics if name.startswith("val/")}
    assert validated <= set(found.Tags()["scalars"])  # the values are the curves' own
    assert [event.step for event in found.Scalars("val/acc")] == [4, 9]


def test_the_method_is_among_the_hyperparameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    data = two_sources()
    ours = multitask_module(
        data,
        balancer=PCGrad(),
        batch_norm="per_source",
        penalties=BSS(),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    )
    found = run(tmp_path, ours, data, Dashboard(0, 0, 0, graph=False), max_epochs=1)
    start = plugin_data_pb2.HParamsPluginData.FromString(
        found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info.hparams
    assert start["balancer"].string_value == "PCGrad"
    assert start["penalties"].string_value == "BSS"
    assert start["scheduler"].string_value == "StepLR"
    assert start["seed"].number_value == 7
    assert start["strategy"].string_value == "none", "a run that has one has a column"


def test_pictures_come_every_n_epochs_and_at_the_end(tmp_path: Path) -> None:
    data = tiny_data()
    found = run(tmp_path, module(data), data, Dashboard(every_n_epochs=2), max_epochs=3)
    assert [event.step for event in found.Images("val/confusion/generated10")] == [10, 15]


def test_everything_can_be_turned_off(tmp_path: Path) -> None:
    data = tiny_data()
    found = run(tmp_path, module(data), data, Dashboard(0, 0, 0, graph=False))
    assert found.Tags()["images"] == []
    assert not found.Tags()["graph"]


def test_the_transfer_is_described(tmp_path: Path) -> None:
    torch.save(Tiny().state_dict(), tmp_path / "source.pt")
    data = tiny_data()
    found = run(tmp_path, module(data, init_from=str(tmp_path / "source.pt")), data, Dashboard())
    text = found.Tensors("run/transfer/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "source.pt: 100.0%" in text


def test_the_strategy_is_described(tmp_path: Path) -> None:
    data = tiny_data()
    found = run(tmp_path, module(data, strategy=LinearProbe()), data, Dashboard())
    text = found.Tensors("run/strategy/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "LinearProbe" in text
    assert "never" in text
    start = plugin_data_pb2.HParamsPluginData.FromString(
        found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    assert start.hparams["strategy"].string_value == "LinearProbe"


def test_the_run_is_the_same_with_and_without_a_dashboard(tmp_path: Path) -> None:
    ends = []
    for name, callbacks in (("with", [Dashboard(every_n_epochs=1)]), ("without", [])):
        data = tiny_data()
        ours = module(data)
        logger = TensorBoardLogger(tmp_path, name)
        trainer(tmp_path, logger=logger, callbacks=callbacks).fit(ours, data)
        ends.append(ours.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_network_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    class Odd(Tiny):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
                raise RuntimeError("no graph of this")
            return super().forward(images)

    data = tiny_data()
    ours = TransferModule(Odd(), data.tasks[0])
    with pytest.warns(UserWarning, match="shows no graph.*no graph of this"):
        run(tmp_path, ours, data, Dashboard())


def test_a_mistake_in_a_backbone_is_raised_by_its_step(tmp_path: Path) -> None:
    class Typo(Tiny):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).maen()  # type: ignore[attr-defined, no-any-return]

    data = tiny_data()
    ours = TransferModule(Typo(), data.tasks[0])
    with (
        pytest.warns(UserWarning, match=r"shows no graph.*maen"),
        pytest.raises(AttributeError, match="maen"),
    ):
        run(tmp_path, ours, data, Dashboard(), num_sanity_val_steps=0)


def test_other_loggers_and_none_are_fine(tmp_path: Path) -> None:
    data = tiny_data()
    trainer(tmp_path, callbacks=[Dashboard(every_n_epochs=1)]).fit(module(data), data)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="`mistakes` must be 0 or more, got -1"):
        Dashboard(mistakes=-1)


def test_texts_are_tables(tmp_path: Path) -> None:
    data = tiny_data()
    found = run(tmp_path, module(data), data, Dashboard())
    text = found.Tensors("run/versions/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| torch | {torch.__version__.split('+')[0]} |" in text.splitlines()


@pytest.mark.parametrize("backbone", [ResNetCifar(8), Tiny()], ids=["maps and vectors", "vectors"])
def test_the_graph_shows_what_every_head_reads(backbone: Any) -> None:
    tasks = [Classification("label", 4)]
    reads_maps = isinstance(backbone, ResNetCifar)
    if reads_maps:
        tasks.append(Marking("marks", 3))
    ours = MultiTaskModule(backbone, tasks)
    images = torch.randn(1, 3, 8, 8)
    parts = nn.ModuleDict({"backbone": ours.backbone, "heads": ours.heads})
    network = Network(parts, ours.tasks).eval()
    found = network(images)
    wanted = ours.eval()(images)
    assert [tuple(each.shape) for each in found] == [(1, 4), (1, 3, 8, 8)][: len(tasks)]
    for output, task in zip(found, tasks, strict=True):
        assert torch.equal(output, wanted[task.name])


def test_the_graph_of_a_run_has_heads_on_maps(tmp_path: Path) -> None:
    images = torch.rand(16, 3, 8, 8)
    tasks = [Marking("marks", 3, target="marks"), Classification("label", 2, target="label")]
    targets = {"marks": images.argmax(1), "label": torch.arange(16) % 2}
    data = TensorDataModule(images, targets, tasks, batch_size=4)
    ours = MultiTaskModule(ResNetCifar(8), tasks)
    found = run(tmp_path, ours, data, Dashboard(0, 0, 0), max_epochs=1)
    graph = str(found.Graph())
    for part in ("backbone/Sequential[layer3]", "heads/MapHead[marks]", "heads/Linear[label]"):
        assert all(word in graph for word in part.split("/")), part


def test_the_confusion_is_a_plain_image_between_epochs_and_a_figure_at_the_end(
    tmp_path: Path,
) -> None:
    data = tiny_data()
    found = run(tmp_path, module(data), data, Dashboard(every_n_epochs=1), max_epochs=2)
    first, last = found.Images("val/confusion/generated10")
    assert (first.width, first.height) == (400, 400)
    assert last.width != 400
    # a run that ends before its last epoch
    found = run(
        tmp_path, module(data), data, Dashboard(every_n_epochs=1), max_epochs=9, max_steps=5
    )
    shown = found.Images("val/confusion/generated10")
    assert [each.step for each in shown] == [5, 5]
    assert shown[0].width == 400 != shown[1].width
