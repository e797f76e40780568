"""Sources of a data module of several: what they may be, whose they are, what they share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NoReturn
from weakref import WeakKeyDictionary, ref

from lightning.pytorch import LightningDataModule

from tl.data.base import ImageDataModule
from tl.data.errors import DataError, listed
from tl.data.text.options import SHARED
from tl.data.text.source import TextSource

Source = ImageDataModule | TextSource

# by source: the data module around it, and its name there
_OWNERS: WeakKeyDictionary[Source, tuple[Callable[[], object], str]] = WeakKeyDictionary()


class Sources(Mapping[str, Source]):
    """Read-only sources by name: they are assigned as a whole, to set names and settings.

    Args:
        sources: The sources; a copy of the mapping is kept.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)

    def __getitem__(self, name: str) -> Source:
        """Return a source."""
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._sources)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sources)

    def __repr__(self) -> str:
        """Show the sources as a dict."""
        return repr(self._sources)

    def __setitem__(self, name: str, source: Source) -> NoReturn:
        """Refuse to add or replace a source.

        Raises:
            TypeError: Always; says what to do instead.
        """
        raise TypeError(
            "`sources` must be assigned as a whole, so that each source gets its name and "
            "settings: "
            f"`data.sources = {{**data.sources, {name!r}: ...}}`."
        )


def as_sources(given: object) -> Sources:
    """Return read-only sources.

    Raises:
        TypeError: If it is not a mapping of data modules of a single source each.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`sources` must be a mapping of data modules by name, got a {type(given).__name__}."
        )
    for name, source in given.items():
        if not isinstance(source, Source):
            raise TypeError(
                f"`sources[{name!r}]` must be a data module of a single source, such as "
                f"FolderDataModule, got a {type(source).__name__}."
            )
    check_sources(given)
    return Sources(given)


def claim(owner: LightningDataModule, sources: Mapping[str, Source]) -> None:
    """Record that sources belong to a data module.

    Raises:
        ValueError: If one belongs to another data module under another name.
    """
    known = {name: source for name, source in sources.items() if isinstance(source, Hashable)}
    for name, source in known.items():
        other, called = _OWNERS.get(source, (lambda: None, name))
        if other() not in (None, owner) and called != name:
            raise ValueError(
                f"`sources[{name!r}]` is {called!r} of another MultiTaskDataModule, whose tasks "
                "would be renamed; give each a data module of its own."
            )
    for name, source in known.items():
        _OWNERS[source] = (ref(owner), name)


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
