"""Stands in for CUDA graphs on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tl.modules.cuda_graphs import CudaGraphs, Found


class Reexecution(CudaGraphs):
    """Records work by keeping it: a replay executes it again.

    As with a graph, the results of a replay go into the tensors of the recording, which hold
    nothing before, and operations are cast as they were in the recording.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def warm_up(self, work: Callable[[], object]) -> None:
        """Execute it once."""
        work()

    def record(self, work: Callable[[], Found]) -> tuple[Found, Callable[[], object]]:
        """Keep it."""
        self.recorded += 1
        static = [None if tensor is None else tensor.clone() for tensor in work()]
        for tensor in static:
            if tensor is not None and tensor.is_floating_point():
                tensor.fill_(torch.nan)

        settings = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def replay() -> None:
            self.replayed += 1
            with torch.autocast("cpu", *settings):
                found = work()
            for kept, new in zip(static, found, strict=True):
                if kept is not None and new is not None:
                    kept.copy_(new)

        return static, replay
