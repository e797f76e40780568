from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.small import Tiny, trainer
from tl import MultiTaskModule
from tl.data import CifarDataModule, CifarSuperclassesDataModule

OPTIONS = {"images": "generated", "generated_size": 300, "batch_size": 30}


def test_each_image_has_a_label_for_its_own_superclass() -> None:
    data = CifarSuperclassesDataModule(**OPTIONS)  # type: ignore[arg-type]
    both = CifarDataModule("cifar100", targets="both", **OPTIONS)  # type: ignore[arg-type]
    mine, known = data.load("train").targets, both.load("train").targets
    names = both.target_classes()
    assert len(data.tasks) == 20
    assert {task.answers for task in data.tasks} == {"5 classes"}
    labels = torch.stack([mine[name] for name in names["coarse"]])
    assert ((labels >= 0).sum(0) == 1).all()
    assert torch.equal((labels >= 0).int().argmax(0), known["coarse"])
    for row in range(0, 300, 29):
        group = names["coarse"][int(known["coarse"][row])]
        within = data.target_classes()[group][int(mine[group][row])]
        assert within == names["fine"][int(known["fine"][row])]


def test_some_superclasses_are_a_smaller_source() -> None:
    one = CifarSuperclassesDataModule(superclasses=("trees",), **OPTIONS)  # type: ignore[arg-type]
    one.setup("fit")
    assert one.task is not None
    assert one.task.answers == "5 classes"
    assert len(one.splits["train"]) + len(one.splits["val"]) == 15
    [labels] = one.splits["train"].targets.values()
    assert (labels >= 0).all()


def test_a_run_trains_all_of_them(tmp_path: Path) -> None:
    data = CifarSuperclassesDataModule(**OPTIONS)  # type: ignore[arg-type]
    run = trainer(tmp_path, max_epochs=1)
    run.fit(MultiTaskModule(Tiny(), data.tasks), data)
    assert 0 <= float(run.callback_metrics["val/acc"]) <= 1


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="CIFAR-100 has no superclass unicorns"):
        CifarSuperclassesDataModule(superclasses=("unicorns",))
    with pytest.raises(ValueError, match="names one twice"):
        CifarSuperclassesDataModule(superclasses=("trees", "trees"))
    with pytest.raises(ValueError, match="Superclasses are tasks of `name: cifar100`"):
        CifarSuperclassesDataModule("cifar10")
