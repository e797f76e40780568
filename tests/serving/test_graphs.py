from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tl
from tests.data.dense.written import maps, write_files
from tests.images import class_folders
from tests.serving.test_exporting import saved
from tests.small import Tiny, multitask_module, two_sources
from tests.text import CONFIG, read
from tl.backbones import TextBackbone
from tl.backbones.resnet_cifar import ResNetCifar
from tl.checkpoints.files import read_checkpoint
from tl.data import FolderDataModule, GeneratedDataModule, MultiTaskDataModule
from tl.serving.exporting import export
from tl.serving.graphs import Graphs
from tl.serving.program import ExportError
from tl.tasks import Depth, Segmentation


def test_sources_with_different_inputs_need_a_choice(tmp_path: Path) -> None:
    data = two_sources()
    path = saved(tmp_path, multitask_module(data), data)
    model = tl.load(path, backbone=Tiny())
    parts = read_checkpoint(path)["tl"]["data"]
    other = {**parts, "ten": {"shapes": {"train": {"": [5]}}, "statistics": {}}}
    with pytest.raises(ValueError, match=r"different inputs.*hundred reads pixels.*`--source`"):
        Graphs(model, other)
    one = Graphs(model, other, source="hundred")
    inputs, answers = one.batch(2)
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == (2, 32, 32, 3)
    assert {model.module.tasks[name].source for name in answers} == {"hundred"}
    torch.testing.assert_close(one.batch(2)[0], inputs)
    with pytest.raises(ExportError, match="does not describe its inputs"):
        Graphs(model, {}).pt2()


def sizes(root: Path) -> MultiTaskDataModule:
    """Images of two sizes."""
    sources = {
        name: FolderDataModule(root=str(class_folders(root / name)), size=size)
        for name, size in (("a", 8), ("b", 12))
    }
    return MultiTaskDataModule(sources=sources, batch_size=6)


def rooms(root: Path) -> MultiTaskDataModule:
    """Maps of two sizes."""
    sources = {
        name: maps(
            write_files(root / name, size=size),
            tasks=(
                Segmentation(f"{name}_kinds", 6, target="segmentation"),
                Depth(f"{name}_depth", target="depth"),
            ),
        )
        for name, size in (("a", (16, 16)), ("b", (16, 24)))
    }
    return MultiTaskDataModule(sources=sources, batch_size=4)


def shared(_: Path) -> MultiTaskDataModule:
    """Two sources, the second of which has the first one's head."""
    sources = {
        name: GeneratedDataModule(train_size=60, test_size=20, draw_seed=seed)
        for seed, name in enumerate("ab")
    }
    return MultiTaskDataModule(sources=sources, shares={"b": "a"}, batch_size=20)


def texts(_: Path) -> MultiTaskDataModule:
    """Texts of two lengths."""
    sources = {name: read(max_length=length) for name, length in (("a", 16), ("b", 24))}
    return MultiTaskDataModule(sources=sources, batch_size=16)


def answered(folder: Path, given: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """What ``model.pt2`` and ``model.onnx`` answer, by task."""
    import onnxruntime  # noqa: PLC0415 - an extra

    program = torch.export.load(folder / "model.pt2").module()
    inputs: Any = given if "input_ids" in given else given["pixels"]
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {name: part.numpy() for name, part in given.items()})
    return [program(inputs), dict(zip(names, map(torch.as_tensor, found), strict=True))]


def shallow() -> ResNetCifar:
    """A residual network of one block per stage."""
    return ResNetCifar(8)


def transformer() -> TextBackbone:
    """A tiny one."""
    return TextBackbone(config=CONFIG)


@pytest.mark.parametrize(
    ("made", "net", "statistics"),
    [
        (sizes, Tiny, "per_source"),
        (two_sources, Tiny, "joint"),
        (shared, Tiny, "per_source"),
        (rooms, shallow, "per_source"),
        (texts, transformer, "joint"),
    ],
)
def test_a_chosen_source_is_answered_as_by_the_run(
    made: Any, net: Any, statistics: Any, tmp_path: Path
) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    data = made() if made is two_sources else made(tmp_path)
    path = saved(tmp_path, multitask_module(data, net, batch_norm=statistics), data)
    live = tl.load(path, backbone=net())
    for source in data.sources:
        done = export(path, tmp_path / f"out_{source}", backbone=net(), onnx=True, source=source)
        assert not done.problems
        assert json.loads((done.folder / "config.json").read_text())["source"] == source
        samples: Any
        if made is texts:
            samples = ["one text", "a text that is much longer than the other one " * 9]
            given = dict(live.transform(samples, source))
            given.setdefault("token_type_ids", torch.zeros_like(given["input_ids"]))
        else:
            [part] = json.loads((done.folder / "config.json").read_text())["inputs"]
            pixels = torch.randint(0, 256, (2, *part["shape"]), dtype=torch.uint8)
            samples, given = [*pixels.numpy()], {"pixels": pixels}
        wanted = live.predict(samples, source=source)
        assert {live.module.tasks[task].source for task in wanted[0]} == {source}
        for found in answered(done.folder, given):
            assert [*found] == [*wanted[0]]
            for task, values in found.items():
                expected = torch.stack([each[task].value for each in wanted])
                torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)
        again = tl.load(done.folder, backbone=net())
        for task, answer in again.predict(samples, source=source)[0].items():
            torch.testing.assert_close(answer.value, wanted[0][task].value)


def test_texts_of_other_lengths_need_a_choice_and_keep_their_own(tmp_path: Path) -> None:
    data = texts(tmp_path)
    path = saved(tmp_path, multitask_module(data, transformer), data)  # type: ignore[arg-type]
    model = tl.load(path, backbone=transformer())
    parts = read_checkpoint(path)["tl"]["data"]
    with pytest.raises(ValueError, match="b reads texts of up to 24 tokens; choose one"):
        Graphs(model, parts)
    export(path, tmp_path / "out", backbone=transformer(), source="b")
    tokenizer = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert tokenizer["truncation"]["max_length"] == 24


def test_a_source_that_no_task_reads_is_refused(tmp_path: Path) -> None:
    data = two_sources()
    path = saved(tmp_path, multitask_module(data), data)
    model = tl.load(path, backbone=Tiny())
    parts = read_checkpoint(path)["tl"]["data"]
    with pytest.raises(ValueError, match="No task of the model reads the source 'idle'"):
        Graphs(model, {**parts, "idle": parts["ten"]}, source="idle")
