"""Two epochs and two more after a resume equal four, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torchjd.aggregation import NashMTL

from tl.balancing import STCH
from tl.balancing.state import same

OVERLAYS = sorted(
    p.stem for p in (Path(__file__).parents[2] / "configs" / "balancing").glob("*.yaml")
)
# what the next step depends on besides weights: history, inner optimizers, running means
REMEMBERS = {
    "dwa",
    "famo",
    "dtp",
    "gradnorm",
    "db_mtl",
    "grad_vac",
    "excess_mtl",
    "modo",
    "nash_mtl",
    "pcd",
    "stch",
}


def method_of(name: str, lab: Any) -> Any:
    # with two tasks the solution hardly depends on the warm start: let old weights stay in force
    if name == "nash_mtl":
        return NashMTL(2, update_weights_every=4)
    # the epochs of these tests reach beyond the warm-up
    return STCH(warmup_epochs=1) if name == "stch" else lab.method(name)


def everything(module: Any) -> dict[str, Any]:
    found: dict[str, Any] = module.state_dict()
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [
        key
        for key, value in one.items()
        if not (
            torch.equal(value, other[key])
            if isinstance(value, Tensor)
            else same(plain(value), plain(other[key]))
        )
    ]


def plain(value: Any) -> Any:
    """Dicts with number keys (an optimizer's) as ones with text, for the comparison."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OVERLAYS)
def test_two_and_two_epochs_equal_four(name: str, lab: Any, tmp_path: Path) -> None:
    micro_batches = lab.micro_batches(name)
    batches, settings = lab.stream(3 * micro_batches), {"accumulate_grad_batches": micro_batches}
    straight = lab.module(method_of(name, lab))
    lab.fit(straight, batches, max_epochs=4, **settings)

    half = lab.module(method_of(name, lab))
    trainer = lab.fit(half, batches, max_epochs=2, **settings)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    if name in REMEMBERS:
        buffers = [k for k in saved if k.startswith("balancer.method")]
        assert saved["balancer._extra_state"]["method"] or buffers

    torch.manual_seed(123)  # must not matter
    resumed = lab.module(method_of(name, lab))
    lab.fit(resumed, batches, ckpt=str(tmp_path / "half.ckpt"), max_epochs=4, **settings)
    assert differences(everything(straight), everything(resumed)) == []
    assert differences(everything(straight), everything(half)) != []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_stop_within_an_epoch_and_a_resume_equal_no_stop(
    name: str, lab: Any, tmp_path: Path
) -> None:
    """Saved after five of the eight steps of two epochs, each of several micro-batches."""
    size = max(2, lab.micro_batches(name))
    batches, path = lab.stream(4 * size), tmp_path / "half.ckpt"

    class Save(Callback):
        def on_train_batch_end(self, trainer: Trainer, *given: Any) -> None:
            batch_idx = given[-1]
            if trainer.current_epoch == 1 and batch_idx == size - 1:
                trainer.save_checkpoint(path)

    straight = lab.module(method_of(name, lab))
    lab.fit(straight, batches, max_epochs=2, accumulate_grad_batches=size, callbacks=[Save()])
    resumed = lab.module(method_of(name, lab))
    # a plain loader begins anew after a resume (ours go on): let it begin with what is left
    rest = batches[size:] + batches[:size]
    lab.fit(resumed, rest, ckpt=str(path), max_epochs=2, accumulate_grad_batches=size)
    assert resumed.trainer.global_step == 8
    assert differences(everything(straight), everything(resumed)) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(REMEMBERS))
def test_forgetting_the_state_would_show(name: str, lab: Any, tmp_path: Path) -> None:
    """Guards the test above: on this problem each method's state does matter."""
    micro_batches = lab.micro_batches(name)
    batches, settings = lab.stream(3 * micro_batches), {"accumulate_grad_batches": micro_batches}
    straight = lab.module(method_of(name, lab))
    lab.fit(straight, batches, max_epochs=4, **settings)
    half = lab.module(method_of(name, lab))
    trainer = lab.fit(half, batches, max_epochs=2, **settings)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    content = torch.load(tmp_path / "half.ckpt", weights_only=True)
    fresh = lab.module(method_of(name, lab)).state_dict()
    state = content["state_dict"]
    for key in [k for k in state if k.startswith("balancer")]:
        del state[key]
    state.update({k: v for k, v in fresh.items() if k.startswith("balancer")})
    torch.save(content, tmp_path / "forgot.ckpt")
    forgetful = lab.module(method_of(name, lab))
    lab.fit(forgetful, batches, ckpt=str(tmp_path / "forgot.ckpt"), max_epochs=4, **settings)
    changed = differences(everything(straight), {**everything(straight), **forgetful.state_dict()})
    assert [key for key in changed if not key.startswith("balancer")]


class Stop(Callback):
    """Stops after the first micro-batch."""

    def on_train_batch_end(self, trainer: Trainer, *given: Any) -> None:
        trainer.should_stop = True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["upgrad", "gradnorm", "dtp"])
def test_a_step_that_was_never_finished_leaves_nothing_to_the_next_run(name: str, lab: Any) -> None:
    batches, settings = lab.stream(3), {"accumulate_grad_batches": 2, "max_steps": 1}
    fresh, begun = (lab.module(method_of(name, lab)) for _ in range(2))
    stopped = lab.fit(
        begun, batches[2:] + batches[:2], callbacks=[Stop()], min_epochs=0, **settings
    )
    assert stopped.global_step == 0
    for one in (fresh, begun):
        lab.fit(one, batches[:2], **settings)
    assert differences(everything(fresh), everything(begun)) == []
