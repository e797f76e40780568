"""Several sources of text in one run: they share a backbone, so they share a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping

from tl.data.errors import DataError, listed
from tl.data.text.options import SHARED
from tl.data.text.source import TextSource


def check_sources(sources: Mapping[str, object]) -> None:
    """Refuse sources that one backbone cannot read.

    Raises:
        ValueError: If some are text and others images, or a source has targets and masked tokens.
    """
    texts = _texts(sources)
    if texts and len(texts) < len(sources):
        others = [name for name in sources if name not in texts]
        raise ValueError(
            f"{listed([*texts])} of `sources` are text and {listed(others)} are images; one "
            "backbone reads one of the two. Give each kind a run of its own."
        )
    for name, source in texts.items():
        if source.kinds and source.masked_tokens:
            raise ValueError(
                f"`sources[{name!r}]` has `targets` and `masked_tokens`; among several sources "
                "give the masked tokens a source of their own, with the same file."
            )


def refuse_idle(sources: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Refuse options for several sources that no source has, which would have no effect.

    Args:
        sources: The sources, all of text or all of images.
        given: The options that are set.

    Raises:
        ValueError: If no source has one; names it.
    """
    if _texts(sources):
        idle = [name for name in given if name not in SHARED]
        lack = f"sources of text do not have it; they have {listed(SHARED)}"
    else:
        parts = sources.values()
        idle = [name for name in given if not any(hasattr(part, name) for part in parts)]
        kinds = listed(sorted({type(part).__name__ for part in parts}))
        lack = "no source is text" if "tokenizer" in idle else f"{kinds} lacks it"
    if idle:
        raise ValueError(f"`{idle[0]}` would have no effect: {lack}. Leave it out.")


def share_tokenizer(sources: Mapping[str, object]) -> None:
    """Let sources without their own tokenizer train one on the texts of all of them."""
    texts = [source for source in _texts(sources).values() if source.tokenizer_name is None]
    for source in texts:
        source.share_with(texts)


def check_tokenizers(sources: Mapping[str, object]) -> None:
    """Refuse sources whose token ids stand for different words.

    Raises:
        DataError: If two tokenizers differ; names both sources.
    """
    texts = _texts(sources)
    found = {name: source.tokenizer.hash for name, source in texts.items()}
    first = next(iter(found), "")
    for name, number in found.items():
        if number != found[first]:
            raise DataError(
                f"Sources of one run share a tokenizer: {first!r} has {found[first]}, {name!r} has "
                f"{number}. Set `tokenizer` once for all sources, or in none."
            )


def _texts(sources: Mapping[str, object]) -> dict[str, TextSource]:
    return {name: source for name, source in sources.items() if isinstance(source, TextSource)}
