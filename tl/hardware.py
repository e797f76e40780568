"""Fast settings for the device: precision, tensor cores, memory, and peak performance."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.private.torch import cpu_multiplies_bf16

_AMPERE = (8, 0)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # as in <malloc.h>
# of square matrices: one core is fastest on those that fit its cache, many on larger ones
_CPU_SIZES, _GPU_SIZES = (256, 512, 1024, 2048), (4096, 8192)


def on_gpu(accelerator: str) -> bool:
    """Return whether a Trainer's `accelerator` selects an available CUDA device."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 matrix instructions: AVX-512 BF16 or AMX."""
    return cpu_multiplies_bf16()


def never_half(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a conversion of a module's tensors that moves half precision only to the device.

    For sums over many steps: with the eight bits of bfloat16, 256 plus 1 is 256.

    Args:
        convert: What ``nn.Module`` applies to its parameters and buffers.
    """

    def kept(tensor: Tensor) -> Tensor:
        found = convert(tensor)
        if found.dtype in (torch.bfloat16, torch.float16):
            return tensor.to(found.device)
        return found

    return kept


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
    """Measure the peak floating-point operations per second of a device, with this run's threads.

    The factors are random: products of ones take less power on a GPU and run faster than any real
    one. Which size is the fastest depends on caches and threads, so several are tried. The numbers
    come from a generator of their own, and training draws the same ones as without it.

    Args:
        device: The device.
        dtype: Type of the factors in a square matrix product.
        seconds: Time to spend, about; the fastest product counts.

    Returns:
        Operations (additions and multiplications) per second.
    """
    sizes = _GPU_SIZES if device.type == "cuda" else _CPU_SIZES
    peak = 0.0
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for size in sizes:
            operations = 2 * size**3
            if peak and 2 * operations / peak > seconds:
                break  # two products would take longer than all may
            random = torch.Generator(device).manual_seed(0)
            factor = torch.randn(size, size, generator=random, device=device).to(dtype)
            peak = max(peak, operations / _fastest_product(factor, seconds / len(sizes)))
    return peak


def _fastest_product(factor: torch.Tensor, seconds: float) -> float:
    """Return the seconds of the fastest product of a matrix with itself."""
    fastest, until = float("inf"), 0.0
    while True:
        start = time.perf_counter()
        torch.mm(factor, factor)
        if factor.is_cuda:
            torch.cuda.synchronize(factor.device)
        now = time.perf_counter()
        if not until:  # the first product initialises threads and libraries
            until = now + seconds
            continue
        fastest = min(fastest, now - start)
        if now > until:
            return fastest


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
