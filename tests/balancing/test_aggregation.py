"""What happens around an aggregator: absent tasks, sizes, overflow, mixed precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torchjd.aggregation import (
    MGDA,
    Aggregator,
    GradVac,
    NashMTL,
    PCGrad,
    Random,
    UPGrad,
)

from tl import Classification
from tl.balancing.state import same

ROWS = [[1.0, 0.0, 0.5], [-2.0, 1.0, 0.25]]


def test_rows_are_accumulated_and_aggregated_once(lab: Any, step: Any) -> None:
    theta = nn.Parameter(torch.zeros(2))
    balancer = lab.balancer(MGDA())
    first = step(balancer, [1, 1], [[4.0, 0.0], [0.0, 1.0]], last=False, theta=theta)
    assert theta.grad is None
    assert first.tolist() == [0, 0]
    found = step(balancer, [1, 1], [[-2.0, 0.0], [0.0, 1.0]], theta=theta)
    # the shortest combination of (2, 0) and (0, 2), not of the halves
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0]))


def test_a_single_tasks_gradient_is_the_update(lab: Any, step: Any) -> None:
    balancer = lab.balancer(UPGrad())
    found = step(balancer, [2.0, None], ROWS)
    assert found.tolist() == ROWS[0]
    assert balancer.weights.isnan().tolist() == [False, True]


def test_a_step_with_an_absent_task_leaves_no_trace(lab: Any, step: Any) -> None:
    rows = [*ROWS, [0.5, 0.5, -1.0]]
    balancer = lab.balancer(GradVac(), ("a", "b", "c"))
    step(balancer, [1, 1, 1], rows)
    before = balancer.get_extra_state()["method"]
    phi = balancer.method.gramian_weighting._phi_t.clone()
    found = step(balancer, [1, None, 1], rows)
    torch.testing.assert_close(found, torch.tensor(rows[0]) + torch.tensor(rows[2]))
    assert same({"dict": before}, {"dict": balancer.get_extra_state()["method"]})
    assert torch.equal(balancer.method.gramian_weighting._phi_t, phi)


def test_a_method_of_a_fixed_number_of_tasks_says_who_is_absent(lab: Any, step: Any) -> None:
    balancer = lab.balancer(NashMTL, ("a", "b", "c"))
    with pytest.raises(
        ValueError, match=r"NashMTL needs a gradient of every task.*step 7.*a, b, c"
    ):
        step(balancer, [1, 1, None], [*ROWS, ROWS[0]], number=7)


@pytest.mark.parametrize("method", [MGDA(), PCGrad(), UPGrad()])
@pytest.mark.parametrize(("rescale", "times"), [("mean", 1.0), ("sum", 2.0)])
def test_rescale_brings_the_update_to_a_size(
    method: Aggregator, rescale: Any, times: float, lab: Any, step: Any
) -> None:
    plain, scaled = lab.balancer(method), lab.balancer(method, rescale=rescale)
    before, after = step(plain, [1, 1], ROWS), step(scaled, [1, 1], ROWS)
    mean = torch.tensor(ROWS).mean(0)
    assert after.norm().item() == pytest.approx(times * mean.norm().item(), rel=1e-5)
    torch.testing.assert_close(after / after.norm(), before / before.norm())
    assert plain.ratio.item() == pytest.approx((before.norm() / mean.norm()).item(), rel=1e-5)
    assert scaled.ratio.item() == pytest.approx(times, rel=1e-5)


def test_the_loss_scale_is_taken_off_and_put_back(lab: Any, step: Any) -> None:
    seen: list[torch.Tensor] = []

    class Spy(Aggregator):
        def forward(self, matrix: torch.Tensor, /) -> torch.Tensor:
            seen.append(matrix.clone())
            return matrix.sum(0)

    found = step(lab.balancer(Spy()), [1, 1], ROWS, scale=1024.0, scaled=True)
    torch.testing.assert_close(seen[-1], torch.tensor(ROWS))
    torch.testing.assert_close(found, 1024 * torch.tensor(ROWS).sum(0))


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_overflow_reaches_the_scaler_and_not_the_method(bad: float, lab: Any, step: Any) -> None:
    balancer = lab.balancer(GradVac())
    found = step(balancer, [1, 1], [ROWS[0], [bad, 1.0, 0.0]], scaled=True)
    assert not found.isfinite().any()
    assert balancer.method.gramian_weighting._phi_t is None
    with pytest.raises(ValueError, match="step 3"):
        step(lab.balancer(GradVac()), [1, 1], [ROWS[0], [bad, 1.0, 0.0]], number=3)


def test_a_loss_that_is_not_finite_is_named(lab: Any, step: Any) -> None:
    for method in (MGDA(), lab.method("uw")):
        with pytest.raises(ValueError, match=r"loss of task 'b' is nan at step 12"):
            step(lab.balancer(method), [1.0, float("nan")], ROWS, number=12)


def test_an_update_that_is_not_finite_is_named(lab: Any, step: Any) -> None:
    class Broken(Aggregator):
        def forward(self, matrix: torch.Tensor, /) -> torch.Tensor:
            return matrix[0] * torch.nan

    with pytest.raises(ValueError, match=r"Broken gave an update that is not finite at step 4"):
        step(lab.balancer(Broken()), [1, 1], ROWS, number=4)


def test_random_numbers_depend_on_the_seed_only(lab: Any, step: Any) -> None:
    found = []
    for seed, noise in ((1, 7), (1, 8), (2, 7)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        found.append(step(lab.balancer(Random()), [1, 1], ROWS, seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_shared_images_give_the_same_rows_as_separate_ones(lab: Any) -> None:
    tasks = (
        Classification("cifar10", 4, target="fine"),
        Classification("cifar100", 3, target="coarse"),
    )
    images, fine = lab.stream(1)[0]["cifar10"]
    coarse = fine.clamp(max=2)
    together, apart = lab.module(UPGrad(), tasks=tasks), lab.module(UPGrad())
    lab.fit(together, [(images, {"fine": fine, "coarse": coarse})])
    lab.fit(apart, [{"cifar10": (images, fine), "cifar100": (images, coarse)}])
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def fp16(scale: float) -> tuple[MixedPrecision, torch.amp.GradScaler]:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return MixedPrecision("16-mixed", "cpu", scaler), scaler


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["upgrad", "nash_mtl", "mgda", "gradnorm", "uw", "famo", "db_mtl"])
def test_float16_trains_as_float32_does(name: str, lab: Any) -> None:
    plain, half = lab.module(lab.method(name)), lab.module(lab.method(name))
    start = {k: p.detach().clone() for k, p in plain.named_parameters()}
    lab.fit(plain, lab.stream(2), gradient_clip_val=1.0)
    plugin, _ = fp16(2.0**10)
    lab.fit(half, lab.stream(2), plugins=[plugin], gradient_clip_val=1.0)
    for (key, one), other in zip(plain.named_parameters(), half.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=5e-3, msg=key)
    moved = sum((p - start[k]).norm() for k, p in plain.named_parameters())
    assert moved > 0.05


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["upgrad", "pcgrad", "gradnorm", "excess_mtl"])
def test_float16_overflow_skips_the_step(name: str, lab: Any) -> None:
    module = lab.module(lab.method(name))
    before = {k: p.detach().clone() for k, p in module.named_parameters()}
    plugin, scaler = fp16(2.0**40)
    lab.fit(module, lab.stream(1), plugins=[plugin])
    assert scaler.get_scale() == 2.0**39
    for key, p in module.named_parameters():
        assert torch.equal(p, before[key]), key
    assert module.balancer.get_extra_state()["method"] == {}
    assert not [b for b in module.balancer.method.buffers() if b is not None and b.isnan().any()]
