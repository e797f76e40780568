from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import begun, checkpoint, images, network, start, step
from tl.transfer.penalties import Distillation
from tl.transfer.penalties.distillation import soft_divergence

LABELS = torch.zeros(6, dtype=torch.long)


def test_the_divergence_by_hand() -> None:
    # at T = 2 the teacher's probabilities are 3/4 and 1/4, the student's 1/2 each
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(soft_divergence(student, teacher, 2.0)) == pytest.approx(wanted)
    pair = torch.cat([teacher, teacher])
    assert float(soft_divergence(torch.zeros(2, 2), pair, 2.0)) == pytest.approx(wanted)  # a mean
    assert float(soft_divergence(teacher + 5, teacher, 2.0)) == pytest.approx(0, abs=1e-6)


def test_it_is_the_cross_entropy_less_the_teachers_entropy() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    wanted = (-(p * q.log()).sum(1) + (p * p.log()).sum(1)).mean()
    torch.testing.assert_close(soft_divergence(student, teacher, 3.0), wanted)


def test_temperature_squared_keeps_the_gradient() -> None:
    """For high T it is ``(z - v) / C`` of centred logits (Hinton et al., 2015, equation 4)."""
    torch.manual_seed(0)
    student = torch.randn(1, 5, dtype=torch.float64)
    teacher = torch.randn(1, 5, dtype=torch.float64)
    student = (student - student.mean()).requires_grad_()
    teacher = teacher - teacher.mean()
    for temperature in (100.0, 1000.0):
        term = temperature**2 * soft_divergence(student, teacher, temperature)
        [found] = torch.autograd.grad(term, student)
        torch.testing.assert_close(
            found, (student.detach() - teacher) / 5, rtol=0.05, atol=0.1 / temperature
        )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_term_is_the_divergence_times_temperature_squared(
    temperature: float, tmp_path: Path
) -> None:
    teacher, heads = network(seed=1)
    path = checkpoint(tmp_path / "teacher.ckpt", teacher, heads)
    student, new = network(seed=2)
    penalty = Distillation(teacher=path, temperature=temperature, weight=0.5)
    begun(penalty, student, new, path)
    given = step(student, new, images(), LABELS)
    answers = heads["task"](teacher(images())), given.logits["task"]
    p, q = ((logits / temperature).softmax(1) for logits in answers)
    wanted = 0.5 * temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(penalty(given), wanted)


def test_a_teacher_of_another_architecture(tmp_path: Path) -> None:
    class Wide(nn.Module):
        num_features = 9

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 9)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.layer(pixels.mean((2, 3)))
            return features

    teacher, heads = Wide(), nn.ModuleDict({"other_name": nn.Linear(9, 5)})
    path = checkpoint(tmp_path / "teacher.ckpt", teacher, heads)
    student, new = network()
    penalty = begun(Distillation(teacher=path, backbone=Wide()), student, new, path)
    assert float(penalty(step(student, new, images(), LABELS))) > 0
    with pytest.raises(ValueError, match="choose the backbone"):
        begun(Distillation(teacher=path), student, new, path)


def test_the_teachers_head_of_several_is_that_of_the_task(tmp_path: Path) -> None:
    teacher, _ = network()
    heads = nn.ModuleDict({"other": nn.Linear(4, 5), "task": nn.Linear(4, 5)})
    path = checkpoint(tmp_path / "teacher.ckpt", teacher, heads)
    student, new = network(seed=1)
    penalty = begun(Distillation(), student, new, path)
    assert isinstance(penalty, Distillation)
    assert penalty.network is not None
    assert penalty.network.head.linear is not None
    assert torch.equal(penalty.network.head.linear.weight, heads["task"].get_parameter("weight"))


def test_a_batch_without_images_of_the_task_is_worth_nothing(tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "teacher.ckpt", backbone, heads)
    penalty = begun(Distillation(), backbone, heads, path)
    given = step(backbone, heads, images(), LABELS)
    assert float(penalty(type(given)(**{**vars(given), "logits": {}}))) == 0


def test_a_teacher_with_other_classes_is_refused(tmp_path: Path) -> None:
    teacher, heads = network(classes=7)
    path = checkpoint(tmp_path / "teacher.ckpt", teacher, heads)
    student, new = network()
    message = r"has 7 classes, the task 'task' 5; a teacher must have the same classes.*use LwF"
    with pytest.raises(ValueError, match=message):
        begun(Distillation(), student, new, path)


def test_a_teacher_of_as_many_other_classes_is_refused(tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "teacher.ckpt", backbone, heads, {"task": list("abcde")})
    penalty = Distillation()
    penalty.attach(backbone, heads)
    penalty.prepare(start(backbone, heads, path, class_names={"task": tuple("abcde")}))
    with pytest.raises(
        ValueError, match=r"knows a, b, c, \.\.\., the task 'task' is v, w, x, \.\.\."
    ):
        penalty.prepare(start(backbone, heads, path, class_names={"task": tuple("vwxyz")}))


def test_a_teacher_of_other_groups_of_the_same_names_is_refused(tmp_path: Path) -> None:
    backbone, heads = network(classes=2)
    path = Path(checkpoint(tmp_path / "teacher.ckpt", backbone, heads, {"task": ["a", "b"]}))
    content = torch.load(path, weights_only=True)
    part = {"class_names": {"coarse": ["a", "b"]}, "groups": {"ant": "a", "bee": "b"}}
    content["tl"]["data"] = {"task": part}
    torch.save(content, path)
    penalty = Distillation()
    penalty.attach(backbone, heads)
    for groups in ({}, part["groups"]):
        penalty.prepare(start(backbone, heads, str(path), groups={"task": groups}))
    other = {"task": {"ant": "a", "bee": "a"}}
    with pytest.raises(
        ValueError, match=r"groups 1 class differently \(bee b there, a in the data"
    ):
        penalty.prepare(start(backbone, heads, str(path), groups=other))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`temperature` must be positive, got 0"):
        Distillation(temperature=0)
    with pytest.raises(ValueError, match="`weight` must be 0 or more, got -1"):
        Distillation(weight=-1)
