"""Images that one source evaluates and another one trains on."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import combinations

from lightning.pytorch.utilities import rank_zero_warn

_HELD_OUT = {"val": "validation", "test": "test"}

Keys = Mapping[str, Sequence[bytes]]  # of the images, by split


def warn_of_overlaps(sources: Mapping[str, Keys], trained: Container[str]) -> None:
    """Warn once for each two sources of evaluated images that train in the other one.

    Sources share a backbone: what it has seen is not held out.

    Args:
        sources: What tells the images from one another, by source and split.
        trained: Names of the sources that training reads.
    """
    for one, other in combinations(sources, 2):
        pairs = [(a, b) for a, b in ((one, other), (other, one)) if b in trained]
        found = [f"{said} of {a} train {b}" for a, b in pairs if (said := _seen(sources, a, b))]
        if found:
            rank_zero_warn(
                f"{'; '.join(found)}. {one} and {other} share a backbone, so scores on these "
                "images are too good. Make sources of the same images one source with several "
                "`targets`, or give both the same splits (a `split` column, or folders train/, "
                "val/ and test/); otherwise remove the copies."
            )


def _seen(sources: Mapping[str, Keys], evaluated: str, trained: str) -> str:
    """Return how many images that one source evaluates train another; empty for none.

    An image that the other holds out, too, has a copy there: both agree on their split.
    """
    held_out = {key for split in _HELD_OUT for key in sources[trained].get(split, ())}
    seen = {*sources[trained].get("train", ())} - held_out
    parts = []
    for split, words in _HELD_OUT.items():
        keys = sources[evaluated].get(split, ())
        if count := sum(key in seen for key in keys):
            parts.append(f"{count} of {len(keys)} {words}")
    return f"{' and '.join(parts)} images" if parts else ""
