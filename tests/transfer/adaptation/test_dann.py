from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.small import multitask_module, trainer
from tests.transfer.adaptation.domains import domains, features, step
from tl.transfer.adaptation.dann import DANN, ramp, reverse_gradient


class Four(nn.Module):
    num_features = 4


def dann(**options: float) -> DANN:
    torch.manual_seed(0)
    made = DANN(**{"hidden": 8, **options})  # type: ignore[arg-type]
    made.attach(Four(), nn.ModuleDict())
    return made.double()


def test_the_reversed_gradient_is_that_of_finite_differences() -> None:
    given = features(1).detach().double()
    weights = torch.linspace(-1, 2, 4).double()

    def loss(values: Tensor) -> Tensor:
        return (values @ weights).tanh().square().sum()

    leaf = given.clone().requires_grad_()
    torch.autograd.backward(loss(reverse_gradient(leaf, 0.3)))
    assert leaf.grad is not None
    for row in range(2):
        for column in range(4):
            moved = [given.clone(), given.clone()]
            for each, by in zip(moved, (1e-6, -1e-6), strict=True):
                each[row, column] += by
            slope = (loss(moved[0]) - loss(moved[1])) / 2e-6
            assert float(leaf.grad[row, column]) == pytest.approx(-0.3 * float(slope), abs=1e-6)


def test_features_rise_and_the_discriminator_falls() -> None:
    """Of the same loss, whose gradients are checked by finite differences."""
    made = dann()
    found = {name: features(seed).detach().double() for name, seed in (("clean", 0), ("odd", 1))}

    def loss(clean: Tensor) -> Tensor:
        pair = ((clean, 1.0), (found["odd"], 0.0))
        answers = [(made.discriminator(x).flatten(), y) for x, y in pair]
        return torch.stack(
            [
                functional.binary_cross_entropy_with_logits(a, torch.full_like(a, y))
                for a, y in answers
            ]
        ).mean()

    leaf = found["clean"].clone().requires_grad_()
    value = made(step({"clean": leaf, "odd": found["odd"]}, progress=0.25))
    assert float(value.detach()) == pytest.approx(float(loss(leaf).detach()))
    torch.autograd.backward(value)
    assert leaf.grad is not None
    with torch.no_grad():
        moved = [found["clean"].clone(), found["clean"].clone()]
        moved[0][0, 0] += 1e-6
        moved[1][0, 0] -= 1e-6
        slope = float(loss(moved[0]) - loss(moved[1])) / 2e-6
        assert float(leaf.grad[0, 0]) == pytest.approx(-ramp(0.25) * slope, rel=1e-3)
        bias = made.discriminator[-1].get_parameter("bias")
        gradient, before = bias.grad, bias.clone()
        assert gradient is not None
        ends = []
        for by in (1e-6, -1e-6):
            bias.copy_(before + by)
            ends.append(float(loss(found["clean"])))
        assert float(gradient) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3)


def test_the_ramp() -> None:
    assert ramp(0.0) == 0
    assert ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert 0.9999 < ramp(1.0) < 1


def test_the_domain_accuracy_is_balanced_over_the_sides() -> None:
    made = dann()
    nn.init.zeros_(made.discriminator[-1].get_parameter("weight"))
    nn.init.ones_(made.discriminator[-1].get_parameter("bias"))  # always says: labelled
    made(step({"clean": features(0, 9).double(), "odd": features(1, 3).double()}))
    assert float(made.watched()["domain_accuracy"]) == 0.5
    assert dann().watched() == {}


def test_a_run_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="ramp of DANN needs the length of the run"):
        dann()(step({"clean": features(0).double(), "odd": features(1).double()}, progress=None))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`hidden` must be 1 or more, got 0"):
        DANN(hidden=0)
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`steepness` must be above 0 and .*, got {wrong}"):
            DANN(steepness=wrong)


def test_the_discriminator_trains_and_the_ramp_follows_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a resume: it is a function of the step."""
    seen: list[float] = []

    def told(progress: float, steepness: float) -> float:
        seen.append(progress)
        return ramp(progress, steepness)

    monkeypatch.setattr("tl.transfer.adaptation.dann.ramp", told)
    data = domains()
    net = multitask_module(data, penalties=DANN(hidden=8))
    run = trainer(tmp_path, max_epochs=2, enable_checkpointing=False)
    [penalty] = net.penalties
    before = copy.deepcopy(penalty.state_dict())
    run.fit(net, data)
    steps = run.global_step
    assert seen == pytest.approx([step / steps for step in range(steps)])
    after = penalty.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    names = [str(group["name"]) for group in run.optimizers[0].param_groups]
    assert {"discriminator", "discriminator_no_decay"} <= {*names}
    assert "transfer/dann_domain_accuracy" in net.penalty_values()
    run.save_checkpoint(tmp_path / "end.ckpt")
    again = trainer(tmp_path, max_epochs=3, enable_checkpointing=False)
    seen.clear()
    fresh = multitask_module(domains(), penalties=DANN(hidden=8))
    again.fit(fresh, domains(), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    assert seen == pytest.approx([step / (1.5 * steps) for step in range(steps, steps * 3 // 2)])
