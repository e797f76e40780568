from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tl.backbones import ResNet20
from tl.data.synthetic.rooms import SyntheticScenesDataModule
from tl.modules import MultiTaskModule
from tl.tasks import Depth


def rooms(**given: Any) -> SyntheticScenesDataModule:
    small = {"train_size": 20, "test_size": 6, "size": 16, "batch_size": 4}
    return SyntheticScenesDataModule(**{**small, **given})


def test_a_batch_has_four_answers_to_each_image() -> None:
    data = rooms()
    data.setup("fit")
    images, targets = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert images.shape == (4, 3, 16, 16)
    assert images.is_floating_point()
    assert list(targets) == ["segmentation", "depth", "normals", "objects"]
    assert [task.settle(targets[task.name]).shape[0] for task in data.tasks] == [4] * 4
    assert data.class_names["objects"] == ("sphere", "box", "cylinder")
    assert {key: len(part) for key, part in data.splits.items()} == {
        "train": 18,
        "val": 2,
        "test": 6,
    }


def test_the_record_says_that_they_are_drawn_and_of_what() -> None:
    one, other, night = rooms(), rooms(), rooms(look="night")
    for data in (one, other, night):
        data.setup("fit")
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint.startswith("generated:")
    assert one.fingerprint != night.fingerprint
    assert night.describe()["kind"] == "generated"
    assert night.describe()["scenes"]["look"] == "night"


def test_training_and_test_scenes_differ() -> None:
    data = rooms(test_size=20)
    data.setup("fit")
    train, test = (data.splits[split].targets for split in ("train", "test"))
    assert isinstance(train, dict)
    assert isinstance(test, dict)
    assert not train["depth"].equal(test["depth"])


def test_one_network_learns_all_four() -> None:
    torch.manual_seed(0)
    data = rooms()
    module = MultiTaskModule(tasks=data.tasks, backbone=ResNet20())
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    names = set(trainer.callback_metrics)
    wanted = {"segmentation/miou", "depth/abs", "depth/rel", "normals/median", "objects/loss"}
    assert {f"val/{name}" for name in wanted} <= names
    assert all(torch.isfinite(trainer.callback_metrics[f"val/{name}"]) for name in wanted)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": ("edges",)}, "one of segmentation, depth"),
        ({"tasks": (Depth("a"),)}, "`target` of task 'a'"),
        ({"train_size": 0}, "`train_size`"),
        ({"light": 3.0}, "`light`"),
    ],
)
def test_bad_options_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rooms(**given)


def test_options_set_later_draw_again_or_are_refused() -> None:
    data = rooms()
    data.setup("fit")
    before = data.fingerprint
    data.setup("fit")
    assert data.fingerprint == before
    data.draw_seed, data.size = 5, 8
    data.setup("fit")
    assert data.fingerprint != before
    assert next(iter(data.train_dataloader()))[0].shape[-2:] == (8, 8)
    with pytest.raises(AttributeError, match="`light` cannot change; make a new SyntheticScenes"):
        data.light = 0.1
