"""Fast settings for the device: precision, tensor cores, memory, and peak performance."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from tl.private.torch import cpu_multiplies_bf16

_AMPERE = (8, 0)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in <malloc.h>
_LONG_PRODUCT, _LARGEST_PRODUCT = 0.02, 4096  # seconds, rows


def on_gpu(accelerator: str) -> bool:
    """Return whether a Trainer's `accelerator` selects an available CUDA device."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 matrix instructions: AVX-512 BF16 or AMX."""
    return cpu_multiplies_bf16()


def choose_precision(asked: str | int | None, accelerator: str) -> str | int:
    """Choose the precision that is fast on the device, and log it.

    The default is bf16 on GPUs that support it, full precision elsewhere. On a CPU without bf16
    instructions, bf16 is 4 to 10 times slower than full precision and is replaced with a warning.
    On GPUs with tensor cores, float32 products use TF32.

    Args:
        asked: The Trainer's `precision`; ``None`` leaves the choice here.
        accelerator: The Trainer's `accelerator`.
    """
    if on_gpu(accelerator):
        if asked is None:
            asked = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else 32
        tf32 = torch.cuda.get_device_capability() >= _AMPERE
        if tf32:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        rank_zero_info(
            f"tl: {torch.cuda.get_device_name()}, precision {asked}, float32 products as "
            f"{'TF32' if tf32 else 'float32'}."
        )
        return "32-true" if asked == 32 else asked  # noqa: PLR2004 - Lightning's value
    if accelerator in ("auto", "cpu") and str(asked).startswith("bf16") and not cpu_has_bf16():
        rank_zero_warn(
            f"tl: precision {asked} is several times slower than 32-true on this CPU, which has no "
            "bf16 instructions; the run uses 32-true."
        )
        return "32-true"
    return "32-true" if asked is None else asked


def reuse_memory() -> bool:
    """Make the C library reuse freed memory instead of returning it to the kernel.

    The GNU library maps each block of more than 32 MB from the kernel, such as activations of a few
    hundred images, and the kernel zeroes it page by page, which took a quarter of the step time on
    a CPU. With reuse, the process keeps its peak memory.

    Returns:
        Whether the library supports it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.05) -> float:
    """Measure the peak floating-point operations per second of a device.

    The fastest of square matrix products of random numbers, with the threads that torch uses now.
    On a CPU, the size that reaches the peak depends on threads and caches: products are enlarged
    while they take less than 20 ms.

    Args:
        device: The device.
        dtype: Type of the factors.
        seconds: Time to spend on each size.

    Returns:
        Operations (additions and multiplications) per second.
    """
    if device.type == "cuda":
        return _product_rate(device, dtype, 8192, seconds)
    best, size = 0.0, 512
    while True:
        rate = _product_rate(device, dtype, size, seconds)
        best = max(best, rate)
        if 2 * size**3 / rate > _LONG_PRODUCT or size >= _LARGEST_PRODUCT:
            return best
        size *= 2


def _product_rate(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    """Return the operations per second of the fastest product of two square matrices."""
    generator = torch.Generator(device).manual_seed(0)  # the run's own is not touched
    a = torch.randn(size, size, device=device, generator=generator).to(dtype)
    fastest, until = float("inf"), 0.0
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        while True:
            start = time.perf_counter()
            torch.mm(a, a)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            if until:  # the first product initialises threads and libraries
                fastest = min(fastest, now - start)
                if now > until:
                    break
            else:
                until = now + seconds
    return 2 * size**3 / fastest


def peak_memory_bytes() -> int:
    """Return the peak memory: allocated on the GPU, or resident if no GPU is used."""
    if torch.cuda.is_available() and (held := torch.cuda.max_memory_allocated()):
        return held
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where `ru_maxrss` includes the parent process
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # kilobytes on Linux, bytes on macOS
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
