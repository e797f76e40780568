from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Tiny, trainer
from tl import Classification, MultiTaskModule, TransferModule
from tl.modules.batch import by_source, labels_of, source_of, to_predict


def test_batches_are_sorted_by_source() -> None:
    part = (torch.zeros(1, 3, 2, 2), torch.zeros(1))
    assert set(by_source(part)) == {None}
    assert set(by_source({"a": part, "b": None})) == {"a"}


def test_a_task_finds_its_part_and_its_labels() -> None:
    part = (torch.zeros(1, 3, 2, 2), torch.zeros(1))
    assert source_of(Classification("a", 2, source="x"), {None: part}) is None
    assert source_of(Classification("a", 2), {"x": part}) == "x"
    assert source_of(Classification("a", 2, source="y"), {"x": part}) == "y"
    both = {"fine": torch.tensor([3]), "coarse": torch.tensor([1])}
    assert labels_of(Classification("a", 5, target="coarse"), both).item() == 1
    with pytest.raises(ValueError, match="'a' reads the target 'other'"):
        labels_of(Classification("a", 5, target="other"), both)


IMAGES, LABELS = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((IMAGES, LABELS, LABELS), r"a tuple of 3 \(a tensor of shape \(2, 3, 8, 8\), a tensor"),
        ([IMAGES], r"a list of 1 \(a tensor of shape \(2, 3, 8, 8\)\); expected \(inputs, targets"),
        (IMAGES, r"The batch is a tensor of shape \(2, 3, 8, 8\); expected"),
        ({"image": IMAGES, "label": LABELS}, r"a dict of 'image': a tensor .*, 'label': a tensor"),
        ({"x": (IMAGES, LABELS, LABELS)}, r"a dict of 'x': a tuple of 3 .* by source: x, y\.$"),
        (("a.png", LABELS), r"a tuple of 2 \(a str, a tensor of shape \(2,\)\); expected"),
        ((LABELS, IMAGES), r"a tuple of 2 \(a tensor of shape \(2,\), a tensor of shape \(2, 3"),
        (None, "The batch is a NoneType; expected"),
    ],
)
def test_a_batch_of_another_form_is_named(batch: Any, said: str) -> None:
    tasks = (Classification("a", 2, source="x"), Classification("b", 2, source="y"))
    with pytest.raises(ValueError, match=said):
        by_source(batch, tasks)
    module = MultiTaskModule(Tiny(), tasks)
    with pytest.raises(ValueError, match=said):
        module.task_losses(batch)


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_images_alone_are_refused_but_to_predict(tmp_path: Path, verb: str) -> None:
    module, images = TransferModule(Tiny(), Classification("a", 2)), torch.rand(5, 3, 8, 8)
    for data in (images, TensorDataset(images)):
        loader: Any = DataLoader(data, batch_size=2)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"The batch is .*; expected \(inputs, targets\)"):
            getattr(trainer(tmp_path), verb)(module, loader)
        found: Any = trainer(tmp_path).predict(module, loader)
        probabilities = torch.cat([batch["a"][0] for batch in found])
        module.eval()
        torch.testing.assert_close(probabilities, module(images).softmax(1))
        assert [batch["a"][1].tolist() for batch in found] == [[0, 1], [0, 1], [0]]


def test_batches_to_predict_are_sorted_by_source() -> None:
    assert set(to_predict({"x": IMAGES, "y": None})) == {"x"}
    assert to_predict((IMAGES, LABELS))[None][1] is LABELS
    with pytest.raises(
        ValueError, match=r"a tuple of 3 .*; expected inputs .* or \(inputs, indices"
    ):
        to_predict((IMAGES, LABELS, LABELS))


def test_a_batch_may_be_sorted_after_the_transfer(tmp_path: Path) -> None:
    class Mine(TransferModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch["image"], batch["label"]

    rows = [{"image": image, "label": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    loader: Any = DataLoader(rows, batch_size=2)  # type: ignore[arg-type]
    [found] = trainer(tmp_path).test(Mine(Tiny(), Classification("a", 2)), loader, verbose=False)
    assert "test/acc" in found
