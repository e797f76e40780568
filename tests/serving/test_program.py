from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.small import multitask_module, two_sources
from tl.backbones import MTAN
from tl.backbones.resnet_cifar import ResNetCifar
from tl.modules.batch_norm import source_statistics
from tl.serving.program import Program, UnequalError, check_equal, exported, reason
from tl.serving.raw_inputs import RawInput, RawInputs, raw_inputs


def streams() -> MTAN:
    """A backbone with a stream per task."""
    return MTAN(ResNetCifar(14))


def test_each_task_reads_its_source_with_its_own_statistics() -> None:
    data = two_sources()
    data.prepare_data()
    data.setup("fit")
    network = multitask_module(data, batch_norm="per_source_statistics").eval()
    for number, (name, buffer) in enumerate(network.backbone.named_buffers()):
        if name.startswith("norm.running_mean_"):
            buffer.fill_(float(number))
    raws: dict[str | None, RawInputs] = {
        name: raw_inputs(part) for name, part in data.describe().items()
    }
    program = Program(network, raws)
    pixels = next(iter(raws.values())).example(3)
    assert isinstance(pixels, torch.Tensor)
    with torch.no_grad():
        answers = program(pixels)
        graph = exported(program, pixels, next(iter(raws.values()))).module()
        copies = graph(pixels[:1])
        for name, task in network.tasks.items():
            with source_statistics(network.backbone, str(task.source)):
                features = network.backbone(raws[str(task.source)].normaliser()(pixels))
            torch.testing.assert_close(answers[name], network.heads[name](features).softmax(1))
            torch.testing.assert_close(copies[name], answers[name][:1])
    assert [*answers] == [*network.tasks]


@pytest.mark.parametrize("statistics", ["joint", "per_source_statistics"])
def test_of_one_source_it_answers_that_ones_tasks_as_the_module_does(statistics: Any) -> None:
    data = two_sources()
    network = multitask_module(data, streams, batch_norm=statistics).eval()  # type: ignore[arg-type]
    raw = RawInputs(
        "images",
        (RawInput("pixels", "uint8", (32, 32, 3)),),
        {"pixels": (torch.full((3,), 120.0), torch.full((3,), 60.0))},
    )
    for number, buffer in enumerate(network.backbone.buffers()):
        buffer.fill_(1.0 + number % 3)
    names = [name for name, task in network.tasks.items() if task.source == "hundred"]
    program = Program(network, {"hundred": raw}, names)
    pixels: Any = raw.example(2)
    with torch.no_grad():
        answers = program(pixels)
        wanted = network(raw.normaliser()(pixels), "hundred")
    assert [*answers] == [*wanted] == ["hundred_fine", "hundred_coarse"]
    for name, logits in wanted.items():
        torch.testing.assert_close(answers[name], logits.softmax(1))
    assert [part.source for part in program.passes] == ["hundred"]  # no streams of others


def test_answers_that_differ_are_refused_by_name() -> None:
    one = {"a": torch.zeros(2, 3)}
    assert check_equal(one, {"a": torch.full((2, 3), 1e-6)}, "x") == pytest.approx(1e-6)
    with pytest.raises(UnequalError, match=r"x does not answer 'a' as .* differ by 1"):
        check_equal(one, {"a": torch.ones(2, 3)}, "x")
    with pytest.raises(UnequalError, match=r"with the shape \(2, 4\), the model with \(2, 3\)"):
        check_equal(one, {"a": torch.zeros(2, 4)}, "x")
    with pytest.raises(UnequalError, match="x answers b, the model a"):
        check_equal(one, {"b": torch.zeros(2, 3)}, "x")
    nan = {"a": torch.tensor([float("nan")])}
    assert check_equal(nan, {"a": torch.tensor([float("nan")])}, "x") == 0


def test_classes_of_pixels_may_differ_where_two_are_equally_likely() -> None:
    classes = torch.zeros(1, 50, 50, dtype=torch.int64)
    other = classes.clone()
    other[0, 0, :2] = 3
    assert check_equal({"a": classes}, {"a": classes.clone()}, "x") == 0
    assert check_equal({"a": classes}, {"a": other}, "x") == pytest.approx(2 / 2500)
    other[0, 0, :3] = 3
    with pytest.raises(UnequalError, match=r"x does not answer 'a' .* 0\.1% of the classes differ"):
        check_equal({"a": classes}, {"a": other}, "x")


def test_a_librarys_message_becomes_one_line() -> None:
    assert reason(ValueError("first\n\n  second\nthird")) == "first second"
    assert reason(KeyError()) == "KeyError"
    assert len(reason(ValueError("a" * 999))) < 300
