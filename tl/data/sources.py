"""Sources of a data module of several: read-only, checked, owned by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NoReturn
from weakref import WeakKeyDictionary, ref

from lightning.pytorch import LightningDataModule

from tl.data.base import ImageDataModule
from tl.data.text.several import check_sources
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
