"""How long image files take before the first step: listing, hashing, decoding."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tl.data.images.class_folders import find_images
from tl.data.images.decoding import decode
from tl.data.images.hashing import FileHashes
from tl.data.images.threads import in_threads


def files(count: int, rounds: int, side: int = 32) -> dict[str, float]:
    """Measure microseconds a file, medians over rounds in alternating order.

    Args:
        count: Number of JPEG files, of random smooth images in ten class folders.
        rounds: How often.
        side: Height and width in pixels.

    Returns:
        ``list``; ``hash`` of contents, and ``hash again`` of files that the manifest knows;
        ``decode, PIL`` in threads, as torchvision's ``ImageFolder`` opens files; ``decode``, ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "images"), Path(folder, "cache")
        cache.mkdir()
        _draw(root, count, side)
        paths = find_images(root).paths
        times: dict[str, list[float]] = {}

        def timed(name: str, act: Callable[[], object]) -> None:
            start = time.perf_counter()
            act()
            times.setdefault(name, []).append((time.perf_counter() - start) / count * 1e6)

        def hashed() -> None:
            hashes = FileHashes(paths, cache, "changed")
            in_threads(hashes.of, count, "")
            hashes.save()

        decoders = {"decode, PIL": lambda n: _by_pil(paths[n]), "decode": lambda n: _ours(paths[n])}
        for number in range(rounds):
            timed("list", lambda: find_images(root))
            for kept in cache.iterdir():
                kept.unlink()
            timed("hash", hashed)
            timed("hash again", hashed)
            for name in sorted(decoders, reverse=bool(number % 2)):
                timed(name, lambda name=name: in_threads(decoders[name], count, ""))  # type: ignore[misc]
        return {name: statistics.median(values) for name, values in times.items()}


def _draw(root: Path, count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / str(number % 10) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=75)


def _by_pil(path: Path) -> int:
    with path.open("rb") as file:
        return len(np.asarray(Image.open(file).convert("RGB")))


def _ours(path: Path) -> int:
    return len(decode(path, 32))
