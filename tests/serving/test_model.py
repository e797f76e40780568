from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small import Staged, module, multitask_module, tiny_data, two_sources
from tl.serving.model import Model
from tl.serving.readers import Reader, TensorReader, reader_of


def model(readers: dict[str | None, Reader]) -> Model:
    network = module(tiny_data())
    [name] = network.tasks
    return Model(network, readers, {name: list("abcdefghij")}, Path("a"), {}, torch.device("cpu"))


def test_a_source_is_chosen_where_they_read_differently() -> None:
    def read(mean: float) -> Reader:
        given = {"mean": [mean] * 3, "std": [1.0] * 3, "image_size": 8, "class_names": {"a": ["x"]}}
        more = {"name": "a", "kind": "real", "fingerprint": "f", "val_size": 0.1, "seed": 0}
        return reader_of({**given, **more, "label_fraction": 1.0})

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
