"""How torch is asked for graphs; what they compute is shown on a GPU."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.small import Tiny, tiny_data, trainer
from tl import TransferModule
from tl.modules import captured
from tl.modules.cuda_graphs import CudaGraphs

if TYPE_CHECKING:
    from collections.abc import Iterator

GPU = torch.device("cuda", 0)


class Calls:
    """In the place of ``torch.cuda``: keeps what is called, in order."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.mode: Any = 0
        self.inside = ""

    def stream_of(self, name: str) -> Any:
        return SimpleNamespace(wait_stream=lambda _: self.made.append(f"{name} waits"))

    @contextmanager
    def within(self, *given: Any, **settings: Any) -> Iterator[None]:
        self.inside = settings.get("capture_error_mode", "side")
        self.made.append(self.inside)
        yield
        self.inside = ""

    def set_mode(self, mode: Any) -> None:
        self.mode = mode


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    for name, value in {
        "Stream": lambda _, **__: calls.stream_of("side"),
        "set_stream": lambda _: calls.made.append("current again"),
        "current_stream": lambda _: calls.stream_of("current"),
        "graph_pool_handle": lambda: (0, 1),
        "stream": calls.within,
        "graph": calls.within,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: calls.made.append("replay")),
        "get_sync_debug_mode": lambda: calls.mode,
        "set_sync_debug_mode": calls.set_mode,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return calls


def test_work_warms_up_on_the_side_and_must_not_wait_the_last_time(cuda: Calls) -> None:
    modes: list[Any] = []
    CudaGraphs(GPU).warm_up(lambda: modes.append((cuda.inside, cuda.mode)))
    assert modes == [("side", 0), ("side", 0), ("side", "warn")]
    assert cuda.mode == 0
    assert cuda.made == ["side waits", "side", "current waits"]


def test_work_that_waits_is_an_error_before_anything_is_recorded(cuda: Calls) -> None:
    def work() -> None:
        if cuda.mode == "warn":
            warnings.warn("called a synchronizing CUDA operation (Triggered", stacklevel=1)

    with pytest.raises(RuntimeError, match="an operation waits for the GPU"):
        CudaGraphs(GPU).warm_up(work)
    assert cuda.mode == 0
    assert cuda.made[-1] == "current waits"


def test_other_threads_may_wait_while_work_warms_up(cuda: Calls) -> None:
    def saves() -> None:
        warnings.warn("called a synchronizing CUDA operation (Triggered", stacklevel=1)

    def work() -> None:
        thread = threading.Thread(target=saves)
        thread.start()
        thread.join()

    CudaGraphs(GPU).warm_up(work)
    assert cuda.made[-1] == "current waits"


def test_an_error_of_the_work_passes_and_torch_is_as_before(cuda: Calls) -> None:
    with pytest.raises(ZeroDivisionError):
        CudaGraphs(GPU).warm_up(lambda: 1 / 0 if cuda.mode else None)
    assert cuda.mode == 0


def test_a_recording_lets_other_threads_work_and_gives_its_replay(cuda: Calls) -> None:
    result = [torch.zeros(1)]
    found, replay = CudaGraphs(GPU).record(lambda: result)
    assert found is result
    replay()
    assert cuda.made == ["thread_local", "current again", "replay"]


def test_a_void_recording_leaves_no_other_stream(
    cuda: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def void(*_: Any, **__: Any) -> Iterator[None]:
        yield
        raise RuntimeError("void")  # as torch's `capture_end` does, before it restores the stream

    monkeypatch.setattr(torch.cuda, "graph", void)
    with pytest.raises(RuntimeError, match="void"):
        CudaGraphs(GPU).record(list)
    assert cuda.made == ["current again"]


class WithDropout(Tiny):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(images), training=self.training)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Undo what Lightning's `deterministic` sets for the process."""
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("net", [Tiny, WithDropout])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_replayed_steps_give_the_same_bits_on_a_gpu(
    net: type[nn.Module],
    precision: Any,
    accumulate: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(captured, "rank_zero_info", said.append)
    found = []
    for replays in (False, True):
        data = tiny_data()
        torch.manual_seed(0)
        ours = TransferModule(net(), data.tasks[0], cuda_graph=replays)
        trainer(
            tmp_path,
            accelerator="gpu",
            devices=1,
            precision=precision,
            accumulate_grad_batches=accumulate,
            deterministic=True,
        ).fit(ours, data)
        found.append({name: value.cpu() for name, value in ours.state_dict().items()})
    assert not [line for line in said if line.endswith("without a graph.")]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
