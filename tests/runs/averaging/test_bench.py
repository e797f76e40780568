"""An average is measured as its run would be, on the same data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.runs.averaging.dense import Rooms
from tests.runs.averaging.runs import average, configuration, read, weights
from tests.small import Tiny, multitask_module, tiny_data, trainer, two_sources
from tests.small import module as tiny_module
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.runs.averaging.bench import Bench
from tl.tasks import NTXent

BOTH = ("classes", "metres")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def plain_batches(data: Any) -> Iterator[Any]:
    """The training batches of an epoch, not augmented."""
    data.prepare_data()
    data.setup("fit")
    for batch, *_ in data.train_dataloader():
        yield data.on_after_batch_transfer(batch, 0)


def ready_to_estimate(net: nn.Module) -> None:
    """Let batch norm take the mean over equal batches from now on, with dropout off."""
    net.eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()


def same_statistics(found: dict[str, Tensor], net: nn.Module, part: str = "") -> None:
    wanted = {n: v for n, v in net.state_dict().items() if n.endswith(STATISTICS)}
    assert any(name.startswith("heads.") for name in wanted)
    for name, value in wanted.items():
        if name.startswith(part):
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_greedy_soup_is_not_worse_on_validation_images(made: list[Path], tmp_path: Path) -> None:
    # an ingredient that has lost its head is left out
    spoilt = read(made[0])
    spoilt["state_dict"]["heads.generated10.weight"].fill_(0)
    spoilt["state_dict"]["heads.generated10.bias"].copy_(torch.arange(10) * 100)
    bad = tmp_path / "bad.ckpt"
    torch.save(spoilt, bad)
    average([bad, *made], tmp_path / "c.ckpt", greedy=True)
    record = read(tmp_path / "c.ckpt")["tl"]["provenance"]
    assert record["method"] == "greedy soup"
    alone = [part["val/acc"] for part in record["ingredients"]]
    assert record["val/acc"] >= max(alone)
    data = tiny_data()
    net = tiny_module(data)
    path = str(tmp_path / "c.ckpt")
    [metrics] = trainer(tmp_path).validate(net, data, ckpt_path=path, verbose=False)
    assert metrics["val/acc"] == pytest.approx(record["val/acc"])
    # each alone is measured as the soups are: with statistics estimated anew
    assert record["statistics"] is not None
    for part, checkpoint in zip(record["ingredients"], [bad, *made], strict=True):
        twice = tmp_path / f"twice-{part['sha256']}.ckpt"
        own = [made[0].parent.parent / "config.yaml"]
        average([checkpoint, checkpoint], twice, configurations=own)
        [metrics] = trainer(tmp_path).validate(
            tiny_module(data), data, ckpt_path=str(twice), verbose=False
        )
        assert metrics["val/acc"] == pytest.approx(part["val/acc"])


def test_several_sources_are_averaged_too(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        data = two_sources()
        net = multitask_module(data, batch_norm="per_source_statistics")
        nn.init.normal_(net.backbone.conv.weight)  # type: ignore[union-attr, arg-type]
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
        run.fit(net, data)
        paths.append(tmp_path / f"{seed}.ckpt")
        run.save_checkpoint(paths[-1])
    sources = {
        "ten": {
            "class_path": "tl.data.GeneratedDataModule",
            "init_args": {"train_size": 100, "test_size": 20},
        },
        "hundred": {
            "class_path": "tl.data.GeneratedDataModule",
            "init_args": {"classes": 100, "train_size": 200, "test_size": 100, "targets": "both"},
        },
    }
    model = {"backbone": {"class_path": "tests.small.Tiny"}, "batch_norm": "per_source_statistics"}
    content = {
        "model": {"class_path": "tl.modules.MultiTaskModule", "init_args": model},
        "data": {
            "class_path": "tl.data.MultiTaskDataModule",
            "init_args": {"sources": sources, "batch_size": 30},
        },
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(content))
    average(paths, tmp_path / "c.ckpt", greedy=True, configurations=[config])
    average(paths, tmp_path / "u.ckpt", configurations=[config])
    state = weights(tmp_path / "u.ckpt")
    assert not torch.equal(
        state["backbone.norm.running_mean_ten"], state["backbone.norm.running_mean_hundred"]
    )


def test_other_data_than_the_runs_are_refused(made: list[Path], tmp_path: Path) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(yaml.safe_dump(configuration(train_size=130)))
    with pytest.raises(ValueError, match="which of them it held out cannot be determined"):
        average(made, tmp_path / "c.ckpt", configurations=[config])


@pytest.mark.parametrize("decoder", ["FeaturePyramid", "DeepLab"])
def test_statistics_of_decoders_are_those_of_their_own_sources(
    tmp_path: Path, decoder: str
) -> None:
    rooms = Rooms(tmp_path, f"tl.tasks.decoders.{decoder}")
    paths = [rooms.saved(str(seed), *BOTH, seed=seed) for seed in (0, 1)]
    out = tmp_path / "c.ckpt"
    said = average(paths, out, configurations=[rooms.configuration(*BOTH)])
    assert "re-estimated" in said
    net: Any = rooms.module(*BOTH)
    net.load_state_dict(weights(out))
    ready_to_estimate(net)
    with torch.no_grad():
        for batch in plain_batches(rooms.data(*BOTH)):
            images = [batch[source][0] for source in BOTH]
            maps = net.backbone.maps(torch.cat(images))
            parts = zip(*(torch.split(each, len(images[0])) for each in maps), strict=True)
            for source, own in zip(BOTH, parts, strict=True):
                net.heads[source](own, images[0].shape[2:])
    same_statistics(weights(out), net)


def test_a_soup_of_decoders_scores_as_its_record_says(rooms: Rooms, tmp_path: Path) -> None:
    paths = [rooms.saved(f"soup{seed}", "classes", seed=seed) for seed in (0, 1)]
    config, out = rooms.configuration("classes"), tmp_path / "c.ckpt"
    average(paths, out, greedy=True, configurations=[config])
    [metrics] = trainer(tmp_path).validate(
        rooms.module("classes"), rooms.data("classes"), ckpt_path=str(out), verbose=False
    )
    record = read(out)["tl"]["provenance"]
    assert metrics["val/classes/miou"] == pytest.approx(record["val/miou"])
    # each alone is measured with statistics of its decoder estimated anew
    for part, path in zip(record["ingredients"], paths, strict=True):
        twice = tmp_path / f"twice-{path.name}"
        average([path, path], twice, configurations=[config])
        [metrics] = trainer(tmp_path).validate(
            rooms.module("classes"), rooms.data("classes"), ckpt_path=str(twice), verbose=False
        )
        assert metrics["val/classes/miou"] == pytest.approx(part["val/miou"])
        key = "heads.classes.blocks.0.1.running_mean"
        assert not torch.allclose(weights(twice)[key], weights(path)[key])


def test_backbones_alone_leave_the_statistics_of_heads(rooms: Rooms, tmp_path: Path) -> None:
    paths = [rooms.saved(f"alone{seed}", "classes", seed=seed) for seed in (0, 1)]
    out, config = tmp_path / "c.ckpt", rooms.configuration("classes")
    average(paths, out, backbone_only=True, configurations=[config])
    found, last = weights(out), weights(paths[1])
    assert all(torch.equal(found[n], last[n]) for n in last if n.startswith("heads."))
    net: Any = rooms.module("classes")
    net.load_state_dict(found)
    ready_to_estimate(net)
    with torch.no_grad():
        for batch in plain_batches(rooms.data("classes")):
            net.backbone(batch["classes"][0])
    same_statistics(found, net, "backbone.")


def test_what_is_not_estimated_is_not_said_to_be(made: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "c.ckpt"
    said = average(made[:2], out, greedy=True, average_statistics=True)
    assert "re-estimated" not in said
    assert read(out)["tl"]["provenance"]["statistics"] is None


VIEWS = NTXent(hidden=6, size=4)


def test_two_views_are_estimated_on_plain_images_again_and_again(tmp_path: Path) -> None:
    task = {"class_path": "tl.tasks.NTXent", "init_args": {"hidden": 6, "size": 4}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(learns=task)))
    bench = Bench(None, [config], "cpu", estimate=True)
    data = tiny_data(learns=VIEWS)
    net: Any = tiny_module(data)
    start = {n: v.clone() for n, v in net.state_dict().items() if n.startswith(("back", "head"))}
    ready_to_estimate(net)
    data.setup("fit")
    with torch.no_grad():
        for batch in data.train_dataloader():
            net.heads["generated10"](net.backbone(data.transform(batch, None)[0]))
    first = bench.with_statistics(start)
    same_statistics(first, net)
    loss = bench.measure(first)
    again = bench.with_statistics(start)
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert bench.measure(again) == loss


def test_two_views_beside_another_source_are_plain_images_too(tmp_path: Path) -> None:
    given: dict[str, Any] = {"train_size": 40, "test_size": 10, "val_size": 0.5}
    task = {"class_path": "tl.tasks.NTXent", "init_args": {"hidden": 6, "size": 4}}
    module = "tl.data.GeneratedDataModule"
    sources = {
        "views": {"class_path": module, "init_args": {**given, "learns": task}},
        "ten": {"class_path": module, "init_args": given},
    }
    content = {
        "model": {
            "class_path": "tl.modules.MultiTaskModule",
            "init_args": {"backbone": {"class_path": "tests.small.Tiny"}},
        },
        "data": {
            "class_path": "tl.data.MultiTaskDataModule",
            "init_args": {"sources": sources, "batch_size": 10},
        },
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    data = MultiTaskDataModule(
        sources={
            "views": GeneratedDataModule(**given, learns=VIEWS),
            "ten": GeneratedDataModule(**given),
        },
        batch_size=10,
    )
    net: Any = MultiTaskModule(Tiny(), data.tasks)
    start = {n: v.clone() for n, v in net.state_dict().items() if n.startswith(("back", "head"))}
    bench = Bench(None, [config], "cpu", estimate=True)
    bench.measure(start)  # from now on the data have a Trainer
    found = bench.with_statistics(start)
    ready_to_estimate(net)
    with torch.no_grad():
        for batch in plain_batches(data):
            features = net.backbone(torch.cat([batch[source][0] for source in ("views", "ten")]))
            net.heads["views"](features[: len(batch["views"][0])])
    same_statistics(found, net)
    assert bench.data.trainer is bench.trainer
