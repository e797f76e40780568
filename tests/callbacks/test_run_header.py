from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl.backbones import ResNet20
from tl.callbacks import RunHeader
from tl.callbacks.compute import forward_flops
from tl.callbacks.run_header import data_line, model_line, part_table, shape_of, short
from tl.modules import MultiTaskModule
from tl.tasks import Classification, Depth


def test_data_and_model_have_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = two_sources()
    trainer(tmp_path, callbacks=[RunHeader()], max_epochs=1).fit(multitask_module(data), data)
    first, second, *table = capsys.readouterr().out.splitlines()
    assert first.startswith("tl: data: ten (synthetic), 90 train, 10 val, 10 classes, 32x32 pixels")
    assert "100 fine classes, 20 coarse classes" in first
    assert second.startswith("tl: model: Tiny for ten (10 classes), hundred_fine (100 classes), h")
    assert "parameters, all train" in second
    assert "FLOPs forward for 3x32x32" in second
    assert [line.split()[0] for line in table] == ["part", "backbone", "head", "head", "head"]
    assert "penalties" not in "".join(table), "what has no parameters is left out"


def test_the_operations_are_those_of_the_network() -> None:
    data = tiny_data()
    net = module(data)
    # a 3x3 convolution of stride 4 from 3 to 8 channels on 32x32 pixels: 8x8 places
    found = forward_flops(net, torch.zeros(5, 3, 32, 32), None)
    assert found["backbone"] == 2 * 8 * 8 * 8 * 3 * 9
    rows = [line.split() for line in part_table(net, found)]
    assert rows[1] == ["backbone", "Tiny", "240", "240", "27.6", "k"]
    assert rows[2][-2:] == ["90", "160"], "2 x 8 features x 10 classes"


def test_the_operations_of_decoders_count() -> None:
    tasks = [Depth("far", source="rooms"), Classification("ten", 10, source="rooms")]
    net = MultiTaskModule(ResNet20(), tasks)
    images = torch.zeros(2, 3, 64, 64)
    found = forward_flops(net, images, "rooms")
    lateral = 64 * 64 * 16 * 32 + 32 * 32 * 32 * 32 + 16 * 16 * 64 * 32
    assert found["head far"] == 2 * (lateral + 64 * 64 * (2 * 32 * 32 * 9 + 32))
    assert found["head ten"] == 2 * 64 * 10
    line = model_line(net, images, found, "rooms")
    assert f"{short(sum(found.values()))}FLOPs forward for 3x64x64" in line
    assert "head far" not in forward_flops(net, images, "photos"), "another source's"
    assert "head far" in forward_flops(net, images, None), "a batch without sources"
    only = MultiTaskModule(ResNet20(), [Depth("far")])
    assert forward_flops(only, images, "rooms")["head far"] == found["head far"]


def test_a_shared_head_counts_for_each_source_that_uses_it() -> None:
    there = Depth("far", source="rooms")
    net = MultiTaskModule(ResNet20(), [there, Depth("near", source="photos", shares="far")])
    images = torch.zeros(2, 3, 32, 32)
    by_owner, by_borrower = (forward_flops(net, images, name) for name in ("rooms", "photos"))
    assert by_owner == by_borrower
    lines = {model_line(net, images, by_owner, name) for name in ("rooms", "photos", None)}
    assert len(lines) == 1


def test_only_texts_have_tokens() -> None:
    assert shape_of({"input_ids": torch.zeros(2, 7, dtype=torch.int64)}) == "7 tokens"
    assert shape_of(torch.zeros(2, 7, dtype=torch.int64)) == "7"


def test_frozen_parts_are_told() -> None:
    net = module(tiny_data())
    net.backbone.requires_grad_(requires_grad=False)
    rows = [line.split() for line in part_table(net, {})]
    assert rows[1] == ["backbone", "Tiny", "240", "0", "-"]


def test_data_without_classes_are_described_too() -> None:
    found = {
        "name": "tensors",
        "kind": "real",
        "fingerprint": "x",
        "samples": {"val": 3, "test": 2, "train": 1200},
    }
    assert data_line(found) == "tensors, 1,200 train, 3 val, 2 test."


@pytest.mark.parametrize(
    ("described", "line"),
    [
        ({"rows": 64, "image_size": "small"}, "data."),
        ({"name": "plants", "images": 64, "class_names": 3}, "plants."),
        ({"samples": {"train": "all", "val": 2}, "image_size": [3]}, "data, 2 val."),
        ({"name": "t", "class_names": {"kind": ["a", "b"], "age": []}}, "t, 2 kind classes."),
        ({}, "."),
    ],
)
def test_a_data_module_of_ones_own_may_use_the_words_otherwise(
    described: dict[str, object], line: str
) -> None:
    assert data_line(described) == line


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1000, "1 k"), (269_722, "270 k"), (11.2e6, "11.2 M")]
)
def test_numbers_have_three_digits(number: float, text: str) -> None:
    assert short(number) == text
