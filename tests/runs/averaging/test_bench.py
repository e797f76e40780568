"""An average is measured as its run would be, on the same data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from tests.runs.averaging.runs import average, configuration, read, weights
from tests.small import module as tiny_module
from tests.small import multitask_module, tiny_data, trainer, two_sources


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
