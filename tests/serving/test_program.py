from __future__ import annotations

import pytest
import torch

from tests.small import multitask_module, two_sources
from tl.modules.batch_norm import source_statistics
from tl.serving.program import Program, UnequalError, check_equal, exported, reason
from tl.serving.raw_inputs import RawInputs, raw_inputs


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
