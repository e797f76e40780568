"""Arrays in memory that are images move, and the targets on their pixels with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from tests.small import trainer
from tl.data import (
    Augment,
    DataError,
    GeneratedDataModule,
    SyntheticScenesDataModule,
    TensorDataModule,
)
from tl.data.images.resident import ImageDataset, ResidentDataset
from tl.data.images.tensor_augmentation import TensorAugmentation
from tl.tasks import Classification, Depth, Normals, Regression, Task

HEIGHT, WIDTH, COUNT = 6, 8, 40
KIND = Classification("kind", 2, target="kind")
FAR = Depth("far", target="far")


def coordinates(count: int = COUNT) -> Tensor:
    """Images ``(N, 5, H, W)``: line, column, image and two that are the same everywhere."""
    lines = torch.arange(1.0, HEIGHT + 1)[:, None].expand(HEIGHT, WIDTH)
    columns = torch.arange(1.0, WIDTH + 1).expand(HEIGHT, WIDTH)
    same = torch.ones(HEIGHT, WIDTH)
    return torch.stack([torch.stack([lines, columns, same * n, same, same]) for n in range(count)])


def kinds(count: int = COUNT) -> Tensor:
    return torch.arange(count) % 2


class Seen(LightningModule):
    """Keeps the batches."""

    def __init__(self, *tasks: Task) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[Any] = []
        self.validated: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trained.append(batch)
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fitted(folder: Path, data: Any, *tasks: Task, epochs: int = 1) -> Seen:
    seen = Seen(*tasks)
    trainer(folder, max_epochs=epochs).fit(seen, data)
    return seen


def source(augment: Augment | None, tasks: list[Task], **options: Any) -> TensorDataModule:
    inputs = options.pop("inputs", coordinates())
    targets = {"kind": kinds(), "far": coordinates()[:, 1], "more": coordinates()}
    return TensorDataModule(inputs, targets, tasks, batch_size=9, augment=augment, **options)


@pytest.mark.parametrize("augment", [Augment(2), Augment(0), Augment(3, flip=False)])
def test_targets_on_pixels_move_with_their_images(augment: Augment, tmp_path: Path) -> None:
    seen = fitted(tmp_path, source(augment, [KIND, FAR]))
    moved = False
    for images, targets in seen.trained:
        assert torch.equal(images[:, 1], targets["far"])
        assert torch.equal(images[:, 2, 0, 0].long() % 2, targets["kind"])
        moved |= not torch.equal(images[:, 1], coordinates(len(images))[:, 1])
    assert moved
    for images, targets in seen.validated:
        assert torch.equal(images[:, 1], coordinates(len(images))[:, 1])
        assert torch.equal(images[:, 1], targets["far"])


def test_a_task_of_the_model_alone_moves_its_targets_too(tmp_path: Path) -> None:
    seen = fitted(tmp_path, source(Augment(2), [KIND]), FAR)
    assert all(torch.equal(images[:, 1], targets["far"]) for images, targets in seen.trained)
    still = fitted(tmp_path, source(Augment(2), [KIND]))  # what nothing reads may stay
    assert not all(torch.equal(images[:, 1], targets["far"]) for images, targets in still.trained)


class Lines(GeneratedDataModule):
    """Synthetic images whose red channel is a target that no task of the source names."""

    def load(self, split: Literal["train", "val", "test"]) -> ResidentDataset:
        data = super().load(split)
        data.all_targets["far"] = data.images[..., 0].float() + 1
        return data

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        return {**super().target_classes(), "far": ("near", "far")}

    def _checked(self, split: Any) -> ImageDataset:
        return self.load(split)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_task_of_the_model_alone_moves_the_targets_of_image_sources(
    share: float, tmp_path: Path
) -> None:
    data = Lines(train_size=40, test_size=10, batch_size=9, resident_share=share)
    seen = fitted(tmp_path, data, FAR)
    assert data.statistics is not None
    mean, std = (value[0] for value in data.statistics)
    for images, targets in seen.trained:
        torch.testing.assert_close(images[:, 0] * std + mean + 1, targets["far"])


def test_normals_are_turned_by_a_flip(tmp_path: Path) -> None:
    normals = torch.zeros(COUNT, 3, HEIGHT, WIDTH)
    normals[:, 0] = 1
    targets = {"normals": normals}
    task = Normals("normals", target="normals")
    data = TensorDataModule(
        coordinates(), targets, [task], batch_size=9, augment=Augment(padding=0)
    )
    for images, found in fitted(tmp_path, data).trained:
        mirrored = images[:, 1, 0, 0] == WIDTH
        assert torch.equal(found["normals"][:, 0, 0, 0] < 0, mirrored)


def test_synthetic_scenes_move_as_a_whole(tmp_path: Path) -> None:
    data = SyntheticScenesDataModule(
        train_size=12, test_size=2, size=8, batch_size=5, augment=Augment(padding=0)
    )
    mirrored = 0
    images, targets = zip(*fitted(tmp_path, data).trained, strict=True)
    still = data.splits["train"]
    plain, truth = data.standardise(still[torch.arange(len(still))])
    for image, depth in zip(
        torch.cat(images), torch.cat([each["depth"] for each in targets]), strict=True
    ):
        flips = [(image == other).all() for other in (*plain, *plain.flip(-1))]  # type: ignore[union-attr]
        row = int(torch.stack(flips).nonzero()[0])
        known = torch.cat([truth["depth"], truth["depth"].flip(-1)])[row]
        assert torch.equal(depth, known)
        mirrored += row >= len(still)
    assert 0 < mirrored < len(torch.cat(images))


def test_several_images_of_a_sample_move_alike_and_other_inputs_stay(tmp_path: Path) -> None:
    numbers = torch.rand(COUNT, 7, generator=torch.Generator().manual_seed(0))
    inputs = {"a": coordinates(), "b": coordinates()[:, 1:2], "c": numbers}
    for images, _ in fitted(tmp_path, source(Augment(2), [KIND], inputs=inputs)).trained:
        assert torch.equal(images["a"][:, 1:2], images["b"])
        assert torch.equal(images["c"], numbers[images["a"][:, 2, 0, 0].long()])


def test_bytes_are_cut_out_in_their_mean_colour_and_numbers_too(tmp_path: Path) -> None:
    augment = Augment(padding=0, flip=False, cutout=2 * WIDTH)
    generator = torch.Generator().manual_seed(0)
    shape = (COUNT, 2, HEIGHT, WIDTH)
    bright = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    for inputs in (bright, bright / 255):
        data = source(augment, [KIND], inputs=inputs)
        images = torch.cat([images for images, _ in fitted(tmp_path, data).trained])
        rows = data.splits["train"].rows
        mean = inputs[rows].double().mean((0, 2, 3)).float() * (inputs.dtype != torch.uint8)
        torch.testing.assert_close(images[:, :, HEIGHT // 2, WIDTH // 2], mean.expand(36, 2))


def test_augmentation_is_a_function_of_seed_epoch_and_step(tmp_path: Path) -> None:
    def run(epochs: int = 1, **options: Any) -> list[Tensor]:
        seen = fitted(tmp_path, source(Augment(2), [KIND], **options), epochs=epochs)
        return [images for images, _ in seen.trained]

    twice = run(2)
    assert all(map(torch.equal, run(2), twice))
    assert not torch.equal(twice[0], twice[len(twice) // 2])
    settings: Any = (Augment(2), 0, coordinates(), kinds(), [], {"": torch.zeros(5)})
    one, other = TensorAugmentation(*settings), TensorAugmentation(*settings)
    images, labels = coordinates(9), kinds(9)
    one(images, labels, 0, 3, 0)
    found = one(images, labels, 1, 300, 0)[0]
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(other(images, labels, 1, 300, 0)[0]))
    assert not torch.equal(
        torch.as_tensor(found), torch.as_tensor(other(images, labels, 1, 301, 0)[0])
    )


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (lambda: coordinates()[:, 0], {}, r"needs images \(N, C, H, W\), the inputs are \(40, 6, "),
        (
            lambda: {"a": coordinates(), "b": coordinates()[..., :5]},
            {},
            "must have one size; found 6x5, 6x8",
        ),
        (coordinates, {"augment": Augment(6)}, "smaller than the images, got 6 for 6x8"),
        (
            lambda: coordinates()[..., :7],
            {"tasks": [FAR]},
            r"must be \(N, 6, 7\) or \(N, C, 6, 7\), got \(40, 6, 8\)",
        ),
    ],
)
def test_what_cannot_move_is_refused_before_training(
    inputs: Callable[[], Any], options: Any, said: str
) -> None:
    data = source(**{"augment": Augment(), "tasks": [KIND], **options}, inputs=inputs())
    with pytest.raises(DataError, match=said) as error:
        data.setup("fit")
    assert "\n" not in str(error.value)


def test_other_values_of_the_option_are_refused() -> None:
    with pytest.raises(TypeError, match="`augment` must be an Augment or null, got True"):
        TensorDataModule(
            torch.zeros(4, 2),
            torch.zeros(4),
            [Regression("r")],
            augment=True,  # type: ignore[arg-type]
        )
