from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from tl.optim import optimizers
from tl.optim.optimizers import fused, keep_kernel


def stepped(optimizer: torch.optim.Optimizer, net: nn.Module) -> list[torch.Tensor]:
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.AdamW, {"lr": 0.01, "betas": (0.8, 0.9)}),
    ],
)
def test_a_fused_optimizer_takes_the_same_steps_with_the_same_groups(
    kind: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "DEVICES", ("cpu",))
    found = []
    for faster in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        groups = [
            {"name": "weights", "params": [net.weight]},
            {"name": "norms", "params": [net.bias], "weight_decay": 0.0, "lr": 0.05},
        ]
        optimizer = kind(groups, **settings)
        if faster:
            optimizer = fused(optimizer)
            assert optimizer.defaults["fused"]
            assert [group["name"] for group in optimizer.param_groups] == ["weights", "norms"]
            assert optimizer.param_groups[1]["lr"] == 0.05
            assert optimizer.param_groups[1]["weight_decay"] == 0.0
        found.append(stepped(optimizer, net))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_choices_are_respected_and_optimizers_without_a_kernel_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(optimizers, "DEVICES", ("cpu",))
    net = nn.Linear(3, 2)
    for optimizer in (
        torch.optim.SGD(net.parameters(), foreach=True),
        torch.optim.SGD(net.parameters(), fused=False),
        torch.optim.AdamW(net.parameters(), differentiable=True),
        torch.optim.Adagrad(net.parameters()),
        torch.optim.RMSprop(net.parameters()),
        torch.optim.SGD(nn.Linear(3, 2, device="meta").parameters()),
    ):
        assert fused(optimizer) is optimizer


def test_an_optimizer_that_has_begun_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "DEVICES", ("cpu",))
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    stepped(optimizer, net)
    assert fused(optimizer) is optimizer


def test_on_the_cpu_optimizers_stay() -> None:
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters())
    assert fused(optimizer) is optimizer


def test_gradients_may_be_clipped_before_a_fused_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "DEVICES", ("cpu",))
    net = nn.Linear(3, 2)
    optimizer = fused(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    net(torch.full((2, 3), 100.0)).square().sum().backward()
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)  # Lightning would refuse
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    torch.testing.assert_close(torch.cat([g.flatten() for g in grads]).norm(), torch.tensor(1.0))


@pytest.mark.parametrize(("here", "there"), [(None, True), (True, None)])
def test_a_state_from_another_device_does_not_choose_the_kernel(
    here: bool | None, there: bool | None
) -> None:
    def made(fused: bool | None) -> torch.optim.Optimizer:
        net = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=fused)
        keep_kernel(optimizer)
        stepped(optimizer, net)
        return optimizer

    optimizer, other = made(here), made(there)
    other.param_groups[0]["lr"] = 0.05
    optimizer.load_state_dict(other.state_dict())
    [group] = optimizer.param_groups
    assert (group["fused"], group["lr"]) == (here, 0.05)
    assert other.param_groups[0]["fused"] == there
    more = torch.optim.AdamW([{"params": [p]} for p in nn.Linear(3, 2).parameters()])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(more.state_dict())
