from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from tl.tasks import Normals, as_task

NAN = float("nan")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = functional.normalize(torch.randn(3, 3, 5, 7, generator=generator), dim=1)
    output = 3 * (target + 0.3 * torch.randn(3, 3, 5, 7, generator=generator))
    target[0, 0, :2] = NAN  # one missing part is enough
    target[1] = NAN
    return output, target


def test_scores_are_over_all_pixels_of_the_split() -> None:
    task, (output, target) = Normals("a"), batch()
    found, known = [], ~target.isnan().any(1)
    for p, t in zip(output.movedim(1, 3)[known], target.movedim(1, 3)[known], strict=True):
        found.append(math.degrees(math.acos(float(p.double() @ t.double() / p.double().norm()))))
    angle = torch.tensor(found)
    wanted = {
        "mean": angle.mean(),
        "median": angle.median(),
        "under_11": (angle < 11.25).float().mean(),
        "under_22": (angle < 22.5).float().mean(),
        "under_30": (angle < 30).float().mean(),
    }
    for name, score in task.scores().items():
        for rows in (slice(0, 1), slice(1, None)):
            task.observe(score, output[rows], target[rows])
        torch.testing.assert_close(score.compute(), wanted[name], atol=1e-3, rtol=1e-4)
    assert task.present(target) == len(angle)
    mean = task.tally(output, target)[0] / task.present(target)
    torch.testing.assert_close(mean.float(), wanted["mean"], rtol=1e-4, atol=0)


def test_small_angles_keep_their_digits() -> None:
    task = Normals("a")
    tilt = math.radians(0.01)  # its cosine is 1 in single precision
    output = torch.tensor([math.sin(tilt), 0, math.cos(tilt)]).view(1, 3, 1, 1)
    target = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    for name in ("mean", "median"):
        score = task.scores()[name]
        task.observe(score, output, target)
        assert float(score.compute()) == pytest.approx(0.01, rel=1e-3)


def test_loss_is_one_minus_the_cosine_of_known_pixels() -> None:
    task, (output, target) = Normals("a"), batch()
    output.requires_grad_()
    known = ~target.isnan().any(1)
    cosine = (functional.normalize(output, dim=1) * target).sum(1)[known]
    torch.testing.assert_close(task.loss(output, target), 1 - cosine.mean())
    found = task.loss(output, torch.full_like(target, NAN))
    found.backward()  # type: ignore[no-untyped-call]
    assert found == 0
    assert output.grad is not None
    assert output.grad.eq(0).all()
    assert task.scores()["median"].compute().isnan()


def test_a_mirror_turns_the_component_along_its_axis() -> None:
    target = batch()[1][2:]
    for dim, part in ((-1, 0), (-2, 1)):
        found = Normals("a").flipped(target, dim)
        signs = torch.ones(3)
        signs[part] = -1
        torch.testing.assert_close(found, target * signs.view(3, 1, 1))
        assert Normals("a").flipped(found, dim).equal(target)


def test_vectors_of_another_length_are_named() -> None:
    target = batch()[1]
    assert Normals("a").settle(target.double()).dtype is torch.float32
    target[2, :, 1, 1] = 0
    with pytest.raises(ValueError, match="another length than 1 for sample 2 of the batch, at row"):
        Normals("a").settle(target)
    with pytest.raises(ValueError, match=r"of shape \(2, 4, 4\)"):
        Normals("a").settle(torch.zeros(2, 4, 4))


def test_answers_are_unit_vectors_and_a_checkpoint_keeps_the_task() -> None:
    task = Normals("a", width=8)
    answer = task.answer(batch()[0])
    torch.testing.assert_close(answer.norm(dim=1), torch.ones(3, 5, 7))
    assert as_task(task.record()) == task
    flat = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    assert task.cells(flat, None) == [{"mean_normal": "0.0000; 0.0000; 1.0000"}]
