"""Images and texts that one source evaluates and another one trains on."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import combinations

from lightning.pytorch.utilities import rank_zero_warn

from tl.data.base import ImageDataModule
from tl.data.sources import Source
from tl.data.text.source import TextSource

_HELD_OUT = {"val": "validation", "test": "test"}
_SPLITS = {
    "images": "a `split` column, or folders train/, val/ and test/",
    "texts": "a `split` column, or files for `train`, `val` and `test`",
}

Keys = Mapping[str, Sequence[bytes | str]]  # of images or texts, by split


def warn_of_shared_samples(sources: Mapping[str, Source], trained: Container[str]) -> None:
    """Warn of sources of images, and of sources of texts, that train on each other's held-out ones.

    Args:
        sources: The sources by name, set up for training.
        trained: Names of the sources that training reads.
    """
    images = {name: s for name, s in sources.items() if isinstance(s, ImageDataModule)}
    sets = [source.set_name for source in images.values()]
    keys = {
        name: source.keys_by_split(of_pixels=sets.count(source.set_name) > 1)
        for name, source in images.items()
        if len(images) > 1
    }
    warn_of_overlaps(keys, trained, "images")
    texts = {name: s for name, s in sources.items() if isinstance(s, TextSource)}
    shown = {name: source.texts_by_split() for name, source in texts.items() if len(texts) > 1}
    warn_of_overlaps(shown, trained, "texts")


def warn_of_overlaps(sources: Mapping[str, Keys], trained: Container[str], kind: str) -> None:
    """Warn once for each two sources of evaluated samples that train in the other one.

    Sources share a backbone: what it has seen is not held out.

    Args:
        sources: What tells the samples from one another, by source and split.
        trained: Names of the sources that training reads.
        kind: What they are: images or texts.
    """
    for one, other in combinations(sources, 2):
        pairs = [(a, b) for a, b in ((one, other), (other, one)) if b in trained]
        seen = {(a, b): _seen(sources, a, b, kind) for a, b in pairs}
        found = [f"{said} of {a} train {b}" for (a, b), said in seen.items() if said]
        if found:
            rank_zero_warn(
                f"{'; '.join(found)}. {one} and {other} share a backbone, so scores on these "
                f"{kind} are too good. Make sources of the same {kind} one source with several "
                f"`targets`, or give both the same splits ({_SPLITS[kind]}); otherwise remove the "
                "copies."
            )


def _seen(sources: Mapping[str, Keys], evaluated: str, trained: str, kind: str) -> str:
    """Return how many samples that one source evaluates train another; empty for none.

    A sample that the other holds out, too, has a copy there: both agree on their split.
    """
    held_out = {key for split in _HELD_OUT for key in sources[trained].get(split, ())}
    seen = {*sources[trained].get("train", ())} - held_out
    parts = []
    for split, words in _HELD_OUT.items():
        keys = sources[evaluated].get(split, ())
        if count := sum(key in seen for key in keys):
            parts.append(f"{count} of {len(keys)} {words}")
    return f"{' and '.join(parts)} {kind}" if parts else ""
