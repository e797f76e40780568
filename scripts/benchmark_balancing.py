"""What balancing costs: time and memory of each method relative to the plain sum.

    python scripts/benchmark_balancing.py

In one process and one thread, ResNet-20, two tasks: first on separate images (CIFAR-10 beside
CIFAR-100, 64 of each), then on shared images (fine and coarse labels of 64). Every method trains
the same batches through Lightning's Trainer; a round times each method once, every second round
in the opposite order, and a method's ratio is the median over the rounds of its time over the
plain sum's of the same round, with quartiles. The plain sum is in the table twice: its second row
is the noise. Separate images have two plain sums, because a method that needs each task's own
gradient takes a pass of the backbone per source: ``sum`` is one pass for all, as the module does by
default, ``sum, a pass each`` the same work as those methods.

``mtl_backward`` is torchjd's own recipe around the same network: a loop by hand, vmapped backward,
UPGrad. Memory is the peak resident size of a process of its own per method, in megabytes beyond
the plain sum's.

``--smoke`` makes two rounds of one step with one method on shared images.

Measured with the defaults, 2026-11-24, torch 2.14.1, one thread of an AVX2 CPU with 2 shared cores;
time over plain sum with quartiles, and megabytes beyond it:

    | method | separate images | MB | shared images | MB |
    | --- | --- | --- | --- | --- |
    | sum again | 1.00 (0.99 to 1.01) | -1 | 1.00 (0.98 to 1.01) | -0 |
    | sum, a pass each | 0.99 (0.97 to 1.01) | -46 | | |
    | uncertainty | 0.99 (0.97 to 1.01) | -16 | 1.02 (0.98 to 1.03) | +6 |
    | dwa | 1.01 (0.98 to 1.01) | -26 | 0.99 (0.97 to 1.02) | +2 |
    | gradnorm | 1.11 (1.10 to 1.13) | +3 | 1.11 (1.08 to 1.15) | +22 |
    | famo | 1.34 (1.32 to 1.35) | -9 | 1.35 (1.28 to 1.38) | +9 |
    | pcgrad | 0.98 (0.97 to 1.01) | -28 | 1.64 (1.62 to 1.72) | +63 |
    | upgrad | 1.00 (0.97 to 1.01) | -24 | 1.66 (1.65 to 1.71) | +25 |
    | mgda | 0.99 (0.99 to 1.01) | -18 | 1.68 (1.63 to 1.69) | +45 |
    | aligned_mtl | 1.00 (0.99 to 1.02) | -25 | 1.68 (1.66 to 1.75) | +25 |
    | cagrad | 1.03 (1.01 to 1.05) | -28 | 1.72 (1.71 to 1.75) | +20 |
    | nash_mtl | 1.06 (1.05 to 1.10) | -23 | 1.79 (1.79 to 1.80) | +28 |
    | fair_grad | 1.00 (0.97 to 1.03) | -23 | 1.65 (1.64 to 1.72) | +21 |
    | mtl_backward | 2.39 (2.37 to 2.47) | +148 | 2.47 (2.42 to 2.50) | +195 |
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from tl import Classification, MultiTaskModule
from tl.backbones import ResNet20
from tl.hardware import peak_memory_bytes

CHEAP = ("uncertainty", "dwa", "gradnorm", "famo", "pcgrad", "upgrad", "mgda", "aligned_mtl")
DEAR = ("cagrad", "nash_mtl", "fair_grad")
SEPARATE = (Classification("a", 10, source="a"), Classification("b", 100, source="b"))
SHARED = (Classification("fine", 100, target="fine"), Classification("coarse", 20, target="coarse"))
TASKS = {"separate images": SEPARATE, "shared images": SHARED}


def main() -> None:
    """Time every method on separate and on shared images, and print two tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps per method and round")
    parser.add_argument("--batch", type=int, default=64, help="images per source")
    parser.add_argument("--methods", nargs="+", default=[*CHEAP, *DEAR])
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON")
    parser.add_argument("--smoke", action="store_true", help="two rounds of one step")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)  # a process for its memory
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.steps, options.batch = 2, 1, 8
        options.methods = ["pcgrad"]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.peak:
        title, name = options.peak
        variants = dict(timed_variants(TASKS[title], options))
        variants[name]()
        print(peak_memory_bytes() / 2**20)
        return
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread, batch {options.batch}")
    found: dict[str, Any] = {}
    for title, tasks in list(TASKS.items())[-1:] if options.smoke else TASKS.items():
        variants = dict(timed_variants(tasks, options))
        times = measure(variants, options.rounds)
        # a process each
        measured = ["sum", *options.methods] if options.smoke else [*variants]
        memory = {name: peak(title, name, options) for name in measured}
        found[title] = {"seconds": times, "peak_mb": memory}
        print(f"\n| {title} | time over plain sum (quartiles) | step, ms | memory, MB |")
        print("| --- | --- | --- | --- |")
        for name in measured:
            ratios = [t / base for t, base in zip(times[name], times["sum"], strict=True)]
            low, middle, high = quartiles(ratios)
            step = 1000 * statistics.median(times[name])
            more = memory[name] - memory["sum"]
            print(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {step:.1f} | {more:+.0f} |")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "benchmark_balancing.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def peak(title: str, name: str, options: argparse.Namespace) -> float:
    """Peak resident megabytes of a process that trains one variant."""
    command = [sys.executable, __file__, "--peak", title, name, f"--batch={options.batch}"]
    command += [f"--steps={options.steps}", "--methods", *options.methods]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout.splitlines()[-1])


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def measure(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds per step by variant and round, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        order = list(variants) if number % 2 else list(reversed(variants))
        for name in order:
            seconds = variants[name]()
            if number:
                times[name].append(seconds)
    return times


def timed_variants(
    tasks: tuple[Classification, ...], options: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each variant by its name: a call that trains some steps and returns the seconds of one."""
    batch = images(tasks, options.batch)
    yield "sum", by_trainer(MultiTaskModule(ResNet20(), tasks), batch, options.steps)
    yield "sum again", by_trainer(MultiTaskModule(ResNet20(), tasks), batch, options.steps)
    if tasks is SEPARATE:
        apart = MultiTaskModule(ResNet20(), tasks, batch_norm="per_source")
        yield "sum, a pass each", by_trainer(apart, batch, options.steps)
    for method in options.methods:
        made, accumulated = overlay(method)
        module = MultiTaskModule(ResNet20(), tasks, balancer=made)
        yield method, by_trainer(module, batch, options.steps, accumulated)
    yield "mtl_backward", by_hand(MultiTaskModule(ResNet20(), tasks), batch, options.steps)


def overlay(method: str) -> tuple[Any, int]:  # a class or an object of torchjd or of ours
    """Read a method, and how many batches make a step of it, from its overlay."""
    path = Path(__file__).parents[1] / "configs" / "balancing" / f"{method}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec = content["model"]["init_args"]["balancer"]
    accumulated = content.get("trainer", {}).get("accumulate_grad_batches", 1)
    module, _, name = spec["class_path"].rpartition(".")
    kind = getattr(__import__(module, fromlist=[name]), name)
    given = spec.get("init_args", {})
    made = (lambda count: kind(**given, **filled(kind, count))) if given else kind
    return made, accumulated


def filled(kind: type, count: int) -> dict[str, int]:
    """What follows from the tasks, for a class that wants it."""
    wanted = kind.__init__.__code__.co_varnames  # type: ignore[misc]
    return {name: count for name in ("shape", "n_tasks") if name in wanted}


def images(tasks: tuple[Classification, ...], size: int) -> Any:  # noqa: ANN401 - one or several sources
    """A batch of noise in the form that the tasks read."""
    torch.manual_seed(0)

    def pixels() -> Tensor:
        return torch.randn(size, 3, 32, 32).to(memory_format=torch.channels_last)

    if tasks is SEPARATE:
        return {t.source: (pixels(), torch.randint(t.num_classes, (size,))) for t in tasks}
    return pixels(), {str(t.target): torch.randint(t.num_classes, (size,)) for t in tasks}


class Repeated(Dataset[Any]):
    """The same batch some times."""

    def __init__(self, batch: object, times: int) -> None:
        self.batch = batch
        self.times = times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, index: int) -> object:
        if index >= self.times:
            raise IndexError(index)
        return self.batch


class Stream(LightningDataModule):
    """One batch again and again."""

    def __init__(self, batch: object, times: int) -> None:
        super().__init__()
        self.batch = batch
        self.times = times

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches."""
        return DataLoader(Repeated(self.batch, self.times), batch_size=None)


def by_trainer(
    module: MultiTaskModule, batch: object, steps: int, accumulated: int = 1
) -> Callable[[], float]:
    """Train by Lightning's Trainer; the first step of a call is not timed. Returns s a batch."""

    def run() -> float:
        ends: list[float] = []
        original = module.on_train_batch_end

        def noted(*given: Any) -> None:  # noqa: ANN401 - Lightning's hook
            original(*given)
            ends.append(time.perf_counter())

        module.on_train_batch_end = noted  # type: ignore[method-assign, assignment]
        Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=accumulated,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, Stream(batch, accumulated * (steps + 1)))
        module.on_train_batch_end = original  # type: ignore[method-assign]
        return (ends[-1] - ends[accumulated - 1]) / (accumulated * steps)

    return run


def by_hand(module: MultiTaskModule, batch: Any, steps: int) -> Callable[[], float]:  # noqa: ANN401
    """Train by torchjd's recipe: features, losses, ``mtl_backward``, ``jac_to_grad``."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    method = UPGrad()
    backbone, heads = module.backbone, module.heads

    def step() -> None:
        if isinstance(batch, dict):
            parts = {task: batch[str(task)] for task in heads}
            features = {task: backbone(part[0]) for task, part in parts.items()}
            targets = {task: part[1] for task, part in parts.items()}
        else:
            shared = backbone(batch[0])
            features, targets = dict.fromkeys(heads, shared), batch[1]
        losses = [functional.cross_entropy(heads[t](features[t]), targets[t]) for t in heads]
        mtl_backward(losses, features=list(dict.fromkeys(features.values())))
        jac_to_grad(list(backbone.parameters()), method)
        optimizer.step()
        optimizer.zero_grad()

    def run() -> float:
        step()
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - begin) / steps

    return run


if __name__ == "__main__":
    main()
