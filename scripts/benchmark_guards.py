"""The cost of a run's guards: time per step and per checkpoint, with and without them.

    python scripts/benchmark_guards.py

In one process and one thread, ResNet-20 trains batches of 64 synthetic images through Lightning's
Trainer; the guards are switched from step to step, in another order each round. A ratio is the
median over the rounds of a step's time over that of the step without guards in the same round, with
quartiles. ``none again`` is the noise. The guards are the look at losses and gradients
(``FiniteGuard``), the seeds of each step (``seed_step``) and the watch for signals
(``SaveOnSignal``).

A checkpoint is saved in turns by Lightning's own class and by ``AtomicCheckpointIO``, which flushes
it to the disk and adds a checksum, after a look whether the weights are finite. The last line adds
up what a run pays that saves once per epoch. ``--smoke`` makes three rounds with a tiny batch.

Measured with the defaults, 2026-11-27, torch 2.14.1, one thread of an AVX2 CPU with 2 shared cores:

    | guards | time over none (quartiles) | step, ms |
    | --- | --- | --- |
    | none again | 1.000 (0.985 to 1.017) | 195.7 |
    | finite | 1.002 (0.991 to 1.022) | 196.3 |
    | seeds | 1.005 (0.988 to 1.019) | 196.7 |
    | signals | 1.000 (0.990 to 1.009) | 196.9 |
    | all | 0.999 (0.981 to 1.023) | 196.1 |

    | checkpoint | time over Lightning's (quartiles) | ms |
    | --- | --- | --- |
    | Lightning's | 1 | 10.5 |
    | AtomicCheckpointIO | 1.220 (1.197 to 1.256) | 12.9 |

    all guards, and a checkpoint every 703 steps: -0.08 % per step
"""

from __future__ import annotations

import argparse
import logging
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from tl import GeneratedDataModule, TransferModule
from tl.backbones import ResNet20
from tl.callbacks import AtomicCheckpointIO, SaveOnSignal
from tl.modules import hooks
from tl.modules.finite import FiniteGuard

GUARDS: dict[str, tuple[tuple[Any, str], ...]] = {
    "finite": tuple((FiniteGuard, name) for name in ("begin", "see", "check", "read")),
    "seeds": ((hooks, "seed_step"),),
    "signals": ((SaveOnSignal, "on_train_batch_start"),),
}
VARIANTS: dict[str, set[str]] = {
    "none again": set(),
    **{name: {name} for name in GUARDS},
    "all": set(GUARDS),
}
EPOCH = 45000 // 64  # steps between two checkpoints


class Switch(Callback):
    """Switch the guards before each step, and note how long it takes."""

    def __init__(self, rounds: int) -> None:
        self.on: set[str] = set()
        self.times: dict[str, list[float]] = {name: [] for name in ("none", *VARIANTS)}
        self.rounds = rounds
        self._order: list[str] = []
        self._name = ""
        self._begin = 0.0
        for guard, functions in GUARDS.items():
            for owner, name in functions:
                setattr(owner, name, self._switched(guard, getattr(owner, name)))

    def _switched(self, guard: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def switched(*given: Any, **more: Any) -> Any:  # noqa: ANN401 - any of the functions
            return original(*given, **more) if guard in self.on else None

        return switched

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """End a step's time, and begin that of the next one."""
        now = time.perf_counter()
        if self._name:
            self.times[self._name].append(now - self._begin)
        if not self._order:
            self._order = random.sample(list(self.times), len(self.times))
        if len(self.times["none"]) > self.rounds:
            trainer.should_stop = True
        self._name = self._order.pop()
        self.on = VARIANTS.get(self._name, set())
        self._begin = time.perf_counter()


def main() -> None:
    """Time steps and checkpoints, and print two tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else a temporary one")
    parser.add_argument("--smoke", action="store_true", help="three rounds with a tiny batch")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.batch = 3, 8
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    random.seed(0)
    data = GeneratedDataModule(train_size=10 * options.batch + 100, batch_size=options.batch)
    switch = Switch(options.rounds)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[switch, SaveOnSignal()],
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(TransferModule(ResNet20(), data.tasks[0]), data)
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread, batch {options.batch}\n")
    print("| guards | time over none (quartiles) | step, ms |\n| --- | --- | --- |")
    none = switch.times["none"]
    for name in VARIANTS:
        ratios = [t / base for t, base in zip(switch.times[name], none, strict=False)]
        step = 1000 * statistics.median(switch.times[name])
        print(f"| {name} | {quartiles(ratios)} | {step:.1f} |")
    plain, ours = checkpoints(trainer, options)
    ratios = [b / a for a, b in zip(plain, ours, strict=True)]
    print("\n| checkpoint | time over Lightning's (quartiles) | ms |\n| --- | --- | --- |")
    print(f"| Lightning's | 1 | {1000 * statistics.median(plain):.1f} |")
    print(f"| AtomicCheckpointIO | {quartiles(ratios)} | {1000 * statistics.median(ours):.1f} |")
    more = statistics.median(b - a for a, b in zip(plain, ours, strict=True))
    step = statistics.median(none)
    guards = statistics.median(t / b for t, b in zip(switch.times["all"], none, strict=False)) - 1
    total = guards + more / (EPOCH * step)
    print(f"\nall guards, and a checkpoint every {EPOCH} steps: {100 * total:+.2f} % per step")


def quartiles(values: list[float]) -> str:
    """Median and quartiles, for a table."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def checkpoints(trainer: Trainer, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds to save a checkpoint, by Lightning's class and by ours, round by round."""
    times: tuple[list[float], list[float]] = ([], [])
    kinds = (TorchCheckpointIO(), AtomicCheckpointIO())
    look = trainer.lightning_module.guard.check_weights  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for number in range(options.rounds + 1):
            for index in (0, 1) if number % 2 else (1, 0):
                trainer.strategy.checkpoint_io = kinds[index]
                guard: Any = trainer.lightning_module.guard
                guard.check_weights = look if index else lambda *_: None
                begin = time.perf_counter()
                trainer.save_checkpoint(Path(folder) / f"{index}.ckpt")
                if number:
                    times[index].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
