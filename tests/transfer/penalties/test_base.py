"""What all penalties have in common, generated over all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import (
    PENALTIES,
    begun,
    checkpoint,
    images,
    network,
    penalty_of,
    start,
    step,
)
from tl.transfer.penalties import BSS, DELTA, L2SP, CoTuning, LwF, Penalty
from tl.transfer.penalties.base import StartWeights, nothing, only_task

NOT_ZERO = {BSS, CoTuning}  # a batch's own spectrum, and a cross-entropy with soft targets
over_all = pytest.mark.parametrize("kind", PENALTIES, ids=lambda kind: kind.__name__)


def moved(backbone: nn.Module, heads: nn.ModuleDict) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in (*backbone.parameters(), *heads.parameters()):
            p.add_(0.3 * torch.randn(p.shape, generator=generator))


def labels() -> torch.Tensor:
    return torch.arange(6) % 5


def test_there_are_seven() -> None:
    names = {kind.__name__ for kind in PENALTIES}
    assert {"BSS", "CoTuning", "DELTA", "Distillation", "EWC", "L2SP", "LwF"} <= names


@over_all
def test_a_term_is_zero_at_the_start_and_not_later(kind: type[Penalty], tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = begun(
        penalty_of(kind, beta=0.0) if kind in (DELTA, L2SP) else penalty_of(kind),
        backbone,
        heads,
        path,
    )
    term = penalty(step(backbone, heads, images(), labels()))
    assert term.shape == ()
    assert term.dtype == torch.float32
    if kind not in NOT_ZERO:
        assert term.item() == pytest.approx(0, abs=1e-9)
    moved(backbone, heads)
    assert penalty(step(backbone, heads, images(), labels())).item() > 1e-7


@over_all
def test_the_gradient_is_that_of_finite_differences(kind: type[Penalty], tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = begun(penalty_of(kind), backbone, heads, path)
    moved(backbone, heads)
    for module in (backbone, heads, penalty):
        module.double()
    pixels = images().double()

    def value() -> torch.Tensor:
        term: torch.Tensor = penalty(step(backbone, heads, pixels, labels()))
        assert term.dtype == torch.float64
        return term

    learned = [p for p in penalty.parameters() if p.requires_grad]
    parameters = [*backbone.parameters(), *heads.parameters(), *learned]
    found = torch.autograd.grad(value(), parameters, materialize_grads=True)
    assert max(float(g.abs().max()) for g in found) > 1e-7
    with torch.no_grad():
        for p, gradient in zip(parameters, found, strict=True):
            flat = p.view(-1)
            for i in range(0, p.numel(), max(1, p.numel() // 15)):
                kept, sides = float(flat[i]), []
                for side in (1e-5, -1e-5):
                    flat[i] = kept + side
                    sides.append(float(value()))
                flat[i] = kept
                wanted = (sides[0] - sides[1]) / 2e-5
                assert float(gradient.reshape(-1)[i]) == pytest.approx(wanted, rel=1e-5, abs=1e-8)


@over_all
def test_no_gradient_flows_to_what_is_kept(kind: type[Penalty], tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = begun(penalty_of(kind), backbone, heads, path)
    moved(backbone, heads)
    penalty(step(backbone, heads, images(), labels())).backward()
    for name, p in penalty.named_parameters():
        kept = not name.startswith("head.")
        assert p.requires_grad != kept, name
        assert (p.grad is None) == kept, name


@over_all
def test_what_is_kept_comes_back_from_a_state_dict(kind: type[Penalty], tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = begun(penalty_of(kind), backbone, heads, path)
    other = penalty_of(kind)
    other.attach(backbone, heads)
    other.load_state_dict(penalty.state_dict())
    moved(backbone, heads)
    both = [float(one(step(backbone, heads, images(), labels()))) for one in (penalty, other)]
    assert both[0] == both[1]
    assert [p.requires_grad for p in other.parameters()] == [
        p.requires_grad for p in penalty.parameters()
    ]


@over_all
def test_a_term_without_a_source_is_refused(kind: type[Penalty]) -> None:
    backbone, heads = network()
    penalty = penalty_of(kind)
    penalty.attach(backbone, heads)
    if kind is BSS:  # looks at the batch alone
        penalty.prepare(start(backbone, heads, None))
        return
    with pytest.raises(ValueError, match=rf"{kind.__name__} needs a?.*this run has no") as error:
        penalty.prepare(start(backbone, heads, None))
    assert "\n" not in str(error.value)


def test_pretrained_weights_are_a_source_but_have_no_head() -> None:
    backbone, heads = network()
    state = start(backbone, heads, None, pretrained=True)
    L2SP().prepare(state)
    with pytest.raises(ValueError, match=r"LwF needs a source's backbone and head"):
        LwF().prepare(state)


def test_start_weights_are_buffers_by_name() -> None:
    backbone, _ = network()
    kept = StartWeights(backbone)
    assert not list(kept.parameters())
    assert set(kept.state_dict()) == {"conv/weight", "conv/bias", "top/weight", "top/bias"}
    kept.set(dict(backbone.named_parameters()))
    for parameter, value in kept.pairs(backbone):
        assert torch.equal(parameter, value)
        assert parameter.data_ptr() != value.data_ptr()


def test_a_name_is_that_of_the_file() -> None:
    assert [L2SP().name, CoTuning().name, LwF().name] == ["l2_sp", "co_tuning", "lwf"]


def test_nothing_has_a_gradient_of_zero_for_all() -> None:
    backbone, heads = network()
    learned = nn.Linear(2, 2)
    term = nothing(step(backbone, heads, images(), labels()), learned)
    torch.autograd.backward(term)
    assert float(term) == 0
    for p in (*backbone.parameters(), *learned.parameters()):
        assert p.grad is not None
        assert not p.grad.any()


def test_the_only_task_needs_no_name() -> None:
    assert only_task(LwF(), None, ["a"]) == "a"
    assert only_task(LwF(), "b", ["a", "b"]) == "b"
    with pytest.raises(ValueError, match=r"LwF works on one task; set `task` to one of a, b\."):
        only_task(LwF(), None, ["a", "b"])
    with pytest.raises(ValueError, match=r"one of a, b, got 'c'"):
        only_task(LwF(), "c", ["a", "b"])
