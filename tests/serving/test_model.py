from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small import (
    Staged,
    Tiny,
    module,
    multitask_module,
    one_source,
    tiny_data,
    two_sources,
)
from tl import MultiTaskModule
from tl.serving.model import Model
from tl.serving.readers import Reader, TensorReader, reader_of
from tl.tasks import Classification


def model(readers: dict[str | None, Reader]) -> Model:
    network = module(tiny_data())
    [name] = network.tasks
    return Model(network, readers, {name: list("abcdefghij")}, Path("a"), {}, torch.device("cpu"))


def read(mean: float) -> Reader:
    given = {"mean": [mean] * 3, "std": [1.0] * 3, "image_size": 8, "class_names": {"a": ["x"]}}
    more = {"name": "a", "kind": "real", "fingerprint": "f", "val_size": 0.1, "seed": 0}
    return reader_of({**given, **more, "label_fraction": 1.0})


def test_a_source_is_chosen_where_they_read_differently() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    alike = model({"x": read(0.0), "y": read(0.0)})
    assert alike.transform(picture).shape == (1, 3, 8, 8)  # type: ignore[union-attr]
    different = model({"x": read(0.0), "y": read(1.0)})
    with pytest.raises(ValueError, match="reads the sources x, y, each in its own way; choose one"):
        different.transform(picture)
    with pytest.raises(ValueError, match="choose one by `source`, not 'z'"):
        different.transform(picture, "z")
    tensors = model({"x": read(0.0), "y": TensorReader({})})  # a path is no tensor
    with pytest.raises(ValueError, match="each in its own way; choose one"):
        tensors.predict(picture)
    assert torch.equal(different.transform(picture, "y"), torch.full((1, 3, 8, 8), -1.0))  # type: ignore[arg-type]


def test_statistics_per_source_are_those_of_the_source_asked_for() -> None:
    data = two_sources()
    network = multitask_module(data, Staged, batch_norm="per_source_statistics")
    for name, buffer in network.backbone.named_buffers():
        if name.endswith("running_mean_ten"):
            buffer.add_(1)
    known = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 32, "class_names": {"a": ["x"]}}
    more = {"name": "a", "kind": "real", "fingerprint": "f", "val_size": 0.1, "seed": 0}
    reader = reader_of({**known, **more, "label_fraction": 1.0})
    answers = Model(
        network, {"ten": reader, "hundred": reader}, {}, Path("a"), {}, torch.device("cpu")
    )
    picture = np.full((32, 32, 3), 1, np.uint8)
    assert [*answers.predict(picture)] == answers.tasks
    ten, hundred = (answers.embed(picture, source=name) for name in ("ten", "hundred"))
    assert not torch.allclose(ten, hundred)
    with pytest.raises(ValueError, match="choose one by `source`"):
        answers.embed(picture)


def test_the_only_source_may_be_named() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    one = model({"ten": read(0.0)})
    assert one.predict(picture, source="ten").top(2) == one.predict(picture).top(2)
    tasks = [Classification("fine", 3), Classification("coarse", 2)]
    readers: dict[str | None, Reader] = {"x": read(0.0)}
    network = MultiTaskModule(Tiny(), tasks)
    several = Model(network, readers, {}, Path("a"), {}, torch.device("cpu"))
    assert [*several.predict(picture, source="x")] == ["fine", "coarse"]
    network = multitask_module(one_source(), batch_norm="per_source_statistics")
    own = Model(network, {"ten": read(0.0)}, {}, Path("a"), {}, torch.device("cpu"))
    assert own.predict(picture).top(2) == own.predict(picture, source="ten").top(2)


def test_a_source_without_tasks_does_not_answer() -> None:
    network = MultiTaskModule(Tiny(), [Classification("fine", 3, source="x")])
    readers: dict[str | None, Reader] = {"x": read(0.0), "y": read(1.0)}
    answers = Model(network, readers, {}, Path("a"), {}, torch.device("cpu"))
    picture = np.zeros((8, 8, 3), np.uint8)
    assert [*answers.predict(picture)] == ["fine"]
    with pytest.raises(ValueError, match="No task of the model reads the source 'y'"):
        answers.predict(picture, source="y")


def test_tensors_of_several_shapes_belong_to_a_source() -> None:
    def shaped(*shapes: list[int]) -> Model:
        readers: dict[str | None, Reader] = {
            name: reader_of({"shapes": {"train": {"": shape}}})
            for name, shape in zip("xy", shapes, strict=True)
        }
        tasks = [Classification(name, 3, source=name) for name in "xy"]
        network = MultiTaskModule(Tiny(), tasks)
        return Model(network, readers, {}, Path("a"), {}, torch.device("cpu"))

    image = torch.zeros(3, 8, 8)
    assert [*shaped([3, 8, 8], [3, 8, 8]).predict(image)] == ["x", "y"]
    with pytest.raises(ValueError, match="reads the sources x, y, each in its own way; choose one"):
        shaped([3, 8, 8], [8, 8]).predict(image)
    assert [*shaped([3, 8, 8], [8, 8]).predict(image, source="x")] == ["x"]
