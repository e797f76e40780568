"""Work that is recorded once and replayed: CUDA graphs."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Found = Sequence[Tensor | None]
_PASSES = 3  # as in torch's own `make_graphed_callables`
_WAITED = "called a synchronizing CUDA operation"  # torch's warning


class CudaGraphs:
    """Records CUDA graphs (``torch.cuda.CUDAGraph``) that share one pool of memory.

    Replay a graph only after those that were recorded before it and whose results it reads. Take
    another object once all of its graphs are gone: torch does not open a pool again.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # streams of a priority come from a pool of their own: no thread that saves gets this one
        self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], object]) -> None:
        """Execute work three times on the stream that records; the last time, it must not wait.

        An operation that waits for the GPU, such as ``.item()``, cannot be recorded. Found here, it
        leaves nothing behind, whereas a recording that fails may disturb the random numbers.

        Raises:
            RuntimeError: If there is one.
        """
        # graphs of earlier steps in dead cycles would bring their stream into the recording
        gc.collect()
        before = torch.cuda.get_sync_debug_mode()
        caught: list[str] = []
        ours = threading.get_ident()

        def note(message: Warning | str, *_: object, **__: object) -> None:
            if threading.get_ident() == ours:  # a thread that saves may wait for the GPU
                caught.append(str(message))

        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            try:
                for number in range(_PASSES):
                    if number == _PASSES - 1:
                        # not "error", which would also reach other threads, such as one that saves
                        torch.cuda.set_sync_debug_mode("warn")
                    work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        if any(_WAITED in message for message in caught):
            raise RuntimeError("an operation waits for the GPU, as `.item()` does")

    def record(self, work: Callable[[], Found]) -> tuple[Found, Callable[[], object]]:
        """Record work; other threads may use the GPU meanwhile, such as those that load data.

        Returns:
            Its results, tensors that every replay writes into, and the replay. The results hold
            nothing before the first replay.

        Raises:
            RuntimeError: If it cannot be recorded.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                found = work()
        finally:
            torch.cuda.set_stream(current)  # torch leaves the other one if a recording is void
        return found, graph.replay
