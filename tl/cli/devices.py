"""The accelerator and the strategy that a Trainer is given by name, checked before it is built."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from tl.cli.messages import did_you_mean

_PROCESSES = 8  # on a CPU, however few its cores


def check_devices(accelerator: object, strategy: object = "auto", devices: object = "auto") -> None:
    """Refuse names that Lightning does not know, a GPU where there is none, too many processes.

    Args:
        accelerator: The Trainer's `accelerator`.
        strategy: The Trainer's `strategy`.
        devices: The Trainer's `devices`, each of which is a process on a CPU.

    Raises:
        ValueError: With what is meant, or what there is.
    """
    # as Lightning has been imported by now; other verbs do without it
    from lightning.pytorch.accelerators import (  # noqa: PLC0415
        AcceleratorRegistry,
        CUDAAccelerator,
        MPSAccelerator,
    )
    from lightning.pytorch.strategies import StrategyRegistry  # noqa: PLC0415

    if isinstance(strategy, str):
        _check_name("strategy", strategy.lower(), ["auto", *StrategyRegistry.keys()])
    if isinstance(accelerator, str):
        _check_name("accelerator", accelerator, ["auto", *AcceleratorRegistry.keys(), "gpu"])
    gpus = [CUDAAccelerator, MPSAccelerator] if accelerator == "gpu" else [CUDAAccelerator]
    if accelerator in ("gpu", "cuda") and not any(kind.is_available() for kind in gpus):
        raise ValueError(
            "torch finds no GPU here; leave out --trainer.accelerator, or set it to cpu."
        )
    most = max(os.cpu_count() or 1, _PROCESSES)
    on_cpu = accelerator == "cpu" or (
        accelerator == "auto"
        and not (CUDAAccelerator.is_available() or MPSAccelerator.is_available())
    )
    if on_cpu and str(devices).isdecimal() and int(str(devices)) > most:
        raise ValueError(
            f"--trainer.devices={devices} on a CPU starts as many processes; give at most {most}."
        )


def add_accelerator(parser: argparse.ArgumentParser) -> None:
    """Add ``--accelerator`` to a verb that computes without a Trainer."""
    parser.add_argument(
        "--accelerator",
        choices=("auto", "cpu", "gpu", "cuda", "mps"),
        default="auto",
        help="Where to compute: auto, a GPU if there is one.",
    )


def _check_name(kind: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        close = did_you_mean(name, names)
        listed = "" if close else f" There are {', '.join(sorted(names))}."
        raise ValueError(f"there is no {kind} {name!r}.{close}{listed}")
