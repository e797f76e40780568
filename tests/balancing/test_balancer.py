"""What a user may write, and what is said to a mistake."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from torchjd import _mixins
from torchjd.aggregation import (
    MGDA,
    GramianWeightedAggregator,
    MoDoWeighting,
    NashMTL,
    PCGrad,
    SDMGradWeighting,
    UPGrad,
    UPGradWeighting,
)
from torchjd.scalarization import DWA, FAMO, UW

from tl.balancing import (
    BalancerSpec,
    GradientAggregation,
    LossWeighting,
    StaticWeights,
    make_balancer,
)


def parsed(spec: dict[str, Any]) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--balancer", type=BalancerSpec)
    return parser.instantiate(parser.parse_object({"balancer": spec})).balancer


def test_none_is_the_plain_sum() -> None:
    assert make_balancer(None, ["a", "b"]) is None


@pytest.mark.parametrize("given", [UW, partial(UW), UW(3)])
def test_classes_callables_and_instances_are_taken(given: Any) -> None:
    balancer = make_balancer(given, ["a", "b", "c"])
    assert isinstance(balancer, LossWeighting)
    assert [tuple(p.shape) for p in balancer.learned_parameters()] == [(3,)]


def test_arguments_that_follow_from_the_tasks_are_filled_in(lab: Any) -> None:
    from_yaml = lab.method("nash_mtl")
    balancer = make_balancer(from_yaml, ["a", "b", "c"])
    assert isinstance(balancer, GradientAggregation)
    assert isinstance(balancer.method, NashMTL)
    assert balancer.method.n_tasks == 3
    # a class whose first argument is something else keeps its default
    dwa = make_balancer(DWA, ["a", "b", "c"])
    assert dwa is not None
    assert isinstance(dwa.method, DWA)
    assert dwa.method.temperature == 2.0


def test_what_a_method_learns_by_itself_is_not_the_optimizers() -> None:
    famo = make_balancer(FAMO, ["a", "b"])
    assert famo is not None
    assert famo.learned == []
    assert famo.private_parameters() == ["method._w"]


def test_the_optimizer_learns_what_the_losses_teach(lab: Any) -> None:
    module = lab.module(UW)
    group = module.parameter_groups()[-1]
    assert group["name"] == "balancer"
    assert group["weight_decay"] == 0
    assert group["params"] == [module.balancer.method.log_var]
    assert [g["name"] for g in lab.module(DWA()).parameter_groups()].count("balancer") == 0


@pytest.mark.parametrize(
    ("given", "tasks", "said"),
    [
        (MGDA(), ["a"], r"MGDA aggregates the gradients of several tasks.*'a' is the only one"),
        (UW(3), ["a", "b"], r"UW does not fit 2 tasks \(a, b\)"),
        (UPGrad(torch.ones(3)), ["a", "b"], r"UPGrad does not fit 2 tasks"),
        (StaticWeights({"a": 1.0, "bb": 1.0}), ["a", "b"], r"unknown task 'bb'"),
        (StaticWeights({"a": 1.0}), ["a", "b"], r"none for task 'b'"),
        (nn.Linear(1, 1), ["a", "b"], r"must be a torchjd Scalarizer or Aggregator"),
        (UPGradWeighting(), ["a", "b"], r"Scalarizer or Aggregator, .*got UPGradWeighting"),
        (SDMGradWeighting, ["a", "b"], r"SDMGradWeighting needs .* tl.balancing.SDMGrad, which"),
        (SDMGradWeighting(), ["a", "b"], r"independent batches in each step"),
        (
            GramianWeightedAggregator(MoDoWeighting()),  # would read one batch twice
            ["a", "b"],
            r"MoDoWeighting needs the gradients of independent batches.* tl.balancing.MoDo",
        ),
        (lambda _: 3, ["a", "b"], r"must be a torchjd Scalarizer or Aggregator.*got int"),
    ],
)
def test_mistakes_are_one_clear_line(given: Any, tasks: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        make_balancer(given, tasks)
    assert "\n" not in str(caught.value)


def test_a_setting_out_of_range_in_yaml_says_so() -> None:
    spec = {"class_path": "torchjd.scalarization.DWA", "init_args": {"temperature": -1.0}}
    with pytest.raises(ValueError, match=r"temperature.*-1"):
        make_balancer(parsed(spec), ["a", "b"])


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mixins, "find_spec", lambda _: None)
    for kind, extra in (("UPGrad", "quadprog_projector"), ("NashMTL", "nash_mtl")):
        with pytest.raises(ImportError, match=rf'pip install "torchjd\[{extra}\]"'):
            make_balancer(parsed({"class_path": f"torchjd.aggregation.{kind}"}), ["a", "b"])


def test_rescale_is_checked() -> None:
    with pytest.raises(ValueError, match="one of none, mean, sum"):
        make_balancer(PCGrad(), ["a", "b"], "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a `balancer`"):
        make_balancer(None, ["a", "b"], "mean")
