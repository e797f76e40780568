from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tl import hardware
from tl.hardware import choose_precision, matmul_peak, never_half, peak_memory_bytes

ROOT = Path(__file__).resolve().parents[1]


def test_precision_is_full_on_a_cpu() -> None:
    assert choose_precision(None, "cpu") == "32-true"


def test_what_the_user_asks_for_stays() -> None:
    assert choose_precision("64-true", "cpu") == "64-true"
    assert choose_precision(16, "cpu") == 16


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bf16_is_refused_where_a_cpu_has_no_instructions_for_it(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    with pytest.warns(UserWarning, match="several times slower than 32-true on this CPU"):
        assert choose_precision(precision, "cpu") == "32-true"
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    assert choose_precision(precision, "cpu") == precision


@pytest.mark.parametrize(("capability", "tf32"), [((7, 5), False), ((9, 0), True)])
def test_a_gpu_gets_what_it_does_fast_and_it_is_said(
    capability: tuple[int, int],
    tf32: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: tf32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
            chosen = choose_precision(None, "auto")
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else before)
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn
    assert chosen == ("bf16-mixed" if tf32 else "32-true")
    assert "Some GPU" in caplog.text
    assert f"as {'TF32' if tf32 else 'float32'}." in caplog.text


def test_the_peak_is_that_of_the_size_that_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    # the first product of a size takes no part; then 2 s, 1 s, and with the next size 9 s
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0, *(30.0, 31.0, 40.0, 49.0)])
    monkeypatch.setattr("tl.hardware.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(hardware, "_CPU_SIZES", (32, 64))
    found = matmul_peak(torch.device("cpu"), torch.float32, seconds=16.0)
    assert found == max(2 * 32**3 / 1.0, 2 * 64**3 / 9.0)


def test_a_size_that_takes_too_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr("tl.hardware.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(hardware, "_CPU_SIZES", (32, 64))
    assert matmul_peak(torch.device("cpu"), torch.float32, seconds=1.0) == 2 * 32**3 / 1.0


def test_measuring_the_peak_draws_no_number_of_the_run() -> None:
    before = torch.get_rng_state()
    matmul_peak(torch.device("cpu"), torch.float32, seconds=0.001)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_peak_of_this_machine_is_plausible() -> None:
    assert 1e8 < matmul_peak(torch.device("cpu"), torch.float32, seconds=0.01) < 1e15


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells the GNU C library")
def test_memory_is_handed_out_again() -> None:
    script = """
import resource, sys, torch
from tl.hardware import reuse_memory
if sys.argv[1] == "yes":
    assert reuse_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def new_pages():
    before = faults()
    torch.ones(2 ** 25)  # 128 MB
    return faults() - before
# threads that start meanwhile may put a block of theirs behind one of the first
print(min([new_pages() for _ in range(6)][1:]))
"""
    told, untold = (
        int(subprocess.check_output([sys.executable, "-c", script, word], text=True, cwd=ROOT))
        for word in ("yes", "no")
    )
    assert told < 100 < untold


def test_memory_is_in_bytes() -> None:
    held = torch.ones(64 * 2**20, dtype=torch.uint8)  # touched, so resident
    assert peak_memory_bytes() > held.numel()


def test_a_gpu_that_is_not_used_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    assert peak_memory_bytes() > 10 * 2**20
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert peak_memory_bytes() == 7


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_the_process_that_started_this_one_does_not_count() -> None:
    child = "from tl.hardware import peak_memory_bytes as p; print(p())"
    parent = (
        "import subprocess, sys; held = b'x' * 2**31; "
        f"print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    found = subprocess.check_output([sys.executable, "-c", parent], text=True, cwd=ROOT)
    assert 2**25 < int(found) < 2**31


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_a_conversion_keeps_float32_at_least(asked: torch.dtype, found: torch.dtype) -> None:
    convert = never_half(lambda tensor: tensor.to("meta", asked))
    assert convert(torch.zeros(1)).dtype == found
    assert convert(torch.zeros(1)).device.type == "meta"
