"""Every overlay under every way of training: finite weights that have moved."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

OVERLAYS = sorted(
    p.stem for p in (Path(__file__).parents[2] / "configs" / "balancing").glob("*.yaml")
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OVERLAYS)
def test_trains_finite_under_every_way_of_training(name: str, lab: Any) -> None:
    micro_batches = lab.micro_batches(name)
    batches = lab.stream(2 * micro_batches)
    for precision, accumulate, clip in product(("32-true", "bf16-mixed"), (1, 2), (None, 0.01)):
        module = lab.module(lab.method(name))
        before = {k: p.detach().clone() for k, p in module.named_parameters()}
        trainer = lab.fit(
            module,
            batches,
            precision=precision,
            accumulate_grad_batches=accumulate * micro_batches,
            gradient_clip_val=clip,
        )
        assert trainer.global_step == 2 // accumulate
        case = (precision, accumulate, clip)
        for key, p in module.named_parameters():
            assert torch.isfinite(p).all(), (case, key)
            if key.startswith(("backbone", "heads")):
                assert not torch.equal(p, before[key]), (case, key)
                assert p.dtype == torch.float32
        moved = torch.cat(
            [
                (p - before[k]).flatten()
                for k, p in module.named_parameters()
                if not k.startswith("balancer")
            ]
        )
        # lr 0.1, gradients of norm 0.01 at most, and momentum adds 0.9 of the first to the second
        most = 0.1 * 0.01 * (1.0 if accumulate == 2 else 2.9)
        assert bool(moved.norm() <= 1.001 * most) is (clip is not None), case


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_frozen_stage_stays_and_the_rest_trains(name: str, lab: Any) -> None:
    module = lab.module(lab.method(name))
    module.backbone.stages()["stem"][0].requires_grad_(False)
    stem, top = (module.backbone.stages()[s][0].weight.clone() for s in ("stem", "top"))
    micro_batches = lab.micro_batches(name)
    lab.fit(module, lab.stream(micro_batches), accumulate_grad_batches=micro_batches)
    assert torch.equal(module.backbone.stages()["stem"][0].weight, stem)
    assert not torch.equal(module.backbone.stages()["top"][0].weight, top)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_method_stays_in_float32_with_weights_in_bf16(name: str, lab: Any) -> None:
    module, micro_batches = lab.module(lab.method(name)), lab.micro_batches(name)
    trainer = lab.fit(
        module,
        lab.stream(2 * micro_batches),
        precision="bf16-true",
        accumulate_grad_batches=micro_batches,
        gradient_clip_val=1.0,
    )
    assert trainer.global_step == 2
    assert next(module.backbone.parameters()).dtype == torch.bfloat16
    own = {**dict(module.balancer.named_parameters()), **dict(module.balancer.named_buffers())}
    wide = (torch.float32, torch.float64)
    assert [k for k, t in own.items() if t.is_floating_point() and t.dtype not in wide] == []
