"""A tiny two-task problem for every test of balancing, and what the overlays configure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tl import Classification, MultiTaskModule
from tl.balancing import Balancer, BalancerSpec, Rescale, make_balancer
from tl.balancing.passes import Backward, MicroBatch

OVERLAYS = Path(__file__).resolve().parents[2] / "configs" / "balancing"
TASKS = (
    Classification("cifar10", 4, source="cifar10"),
    Classification("cifar100", 3, source="cifar100"),
)


class Tiny(nn.Module):
    """A network whose normalisation does not depend on the batch."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=4)
        self.top = nn.Linear(6, 6)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.top(self.stem(images).tanh().mean((2, 3)))
        return hidden.tanh()

    def stages(self) -> dict[str, list[nn.Module]]:
        return {"stem": [self.stem], "top": [self.top]}


def overlay(name: str) -> dict[str, Any]:
    """The balancer that an overlay configures, as its YAML says it."""
    content = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())
    found: dict[str, Any] = content["model"]["init_args"]["balancer"]
    return found


def micro_batches(name: str) -> int:
    """Micro-batches of a step that an overlay asks for: 1 unless its method reads several."""
    content = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())
    found: int = content.get("trainer", {}).get("accumulate_grad_batches", 1)
    return found


def parsed(spec: Mapping[str, Any]) -> Any:
    """What the command line makes of it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--balancer", type=BalancerSpec)
    return parser.instantiate(parser.parse_object({"balancer": dict(spec)})).balancer


def stream(batches: int, seed: int = 0) -> list[dict[str, tuple[Tensor, Tensor]]]:
    """Batches of 4 and 6 images of 8 x 8."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            task.name: (
                torch.randn(size, 3, 8, 8, generator=generator),
                torch.randint(0, task.num_classes, (size,), generator=generator),
            )
            for task, size in zip(TASKS, (4, 6), strict=True)
        }
        for _ in range(batches)
    ]


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@dataclass
class Lab:
    """Tools: each call makes everything anew."""

    tasks: Sequence[Classification] = TASKS
    names: list[str] = field(
        default_factory=lambda: sorted(path.stem for path in OVERLAYS.glob("*.yaml"))
    )

    def module(self, balancer: Any, **settings: Any) -> MultiTaskModule:
        torch.manual_seed(0)
        settings = {"tasks": self.tasks, "optimizer": sgd, **settings}
        return MultiTaskModule(Tiny(), balancer=balancer, **settings)

    def method(self, name: str) -> Any:
        return parsed(overlay(name))

    def micro_batches(self, name: str) -> int:
        return micro_batches(name)

    def trainer(self, **settings: Any) -> Trainer:
        quiet: dict[str, Any] = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            "max_epochs": 1,
        }
        return Trainer(**{**quiet, **settings})

    def stream(self, batches: int, seed: int = 0) -> list[dict[str, tuple[Tensor, Tensor]]]:
        return stream(batches, seed)

    def fit(
        self,
        module: MultiTaskModule,
        batches: Sequence[Any],
        ckpt: str | None = None,
        **settings: Any,
    ) -> Trainer:
        torch.manual_seed(0)  # training itself leaves another seed behind
        trainer = self.trainer(**settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=ckpt)  # type: ignore[arg-type]
        return trainer

    def balancer(
        self, method: Any, tasks: Sequence[str] = ("a", "b"), rescale: Rescale = "none"
    ) -> Balancer:
        found = make_balancer(method, tasks, rescale)
        assert found is not None
        return found


@pytest.fixture
def lab() -> Lab:
    return Lab()


Step = Callable[..., Tensor]


def finite_loss(theta: nn.Parameter, gradient: Tensor) -> Tensor:
    """``g . theta``, whose value is finite also where the gradient is not, as in an overflow."""
    branch = theta * 1.0
    overflow = torch.where(gradient.isfinite(), 0.0, gradient)
    branch.register_hook(lambda found: found + overflow)  # type: ignore[no-untyped-call]
    return branch @ torch.where(gradient.isfinite(), gradient, 0.0)


@pytest.fixture
def step() -> Step:
    """One step on losses ``L_i = l_i + g_i . theta`` at ``theta = 0``: the update of theta."""

    def run(
        balancer: Balancer,
        losses: Sequence[float | None],
        gradients: Sequence[Sequence[float]],
        *,
        seed: int = 5,
        number: int = 0,
        scale: float = 1.0,
        scaled: bool = False,
        last: bool = True,
        micro_batches: int = 1,
        theta: nn.Parameter | None = None,
    ) -> Tensor:
        theta = nn.Parameter(torch.zeros(len(gradients[0]))) if theta is None else theta
        found = {
            task: loss + finite_loss(theta, torch.tensor(gradient))
            for task, loss, gradient in zip(balancer.tasks, losses, gradients, strict=True)
            if loss is not None
        }
        batch = MicroBatch(
            losses=found,
            labelled={task: torch.tensor(4) for task in found},
            right={task: torch.tensor(1) for task in found},
            step=number,
            seed=seed,
            total=lambda tensor: tensor,
            scaled=scaled,
        )
        run = Backward(
            batch=batch,
            loss=balancer.combine(batch) * scale / micro_batches,
            stages={"all": [theta]},
            last_block=[theta],
            own=[],
            graphs=dict.fromkeys(found),
            last=last,
            scale=scale,
            processes=1,
        )
        balancer.backward(run)
        return theta.grad if theta.grad is not None else torch.zeros_like(theta)

    return run
