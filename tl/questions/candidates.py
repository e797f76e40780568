"""A source to choose from: a network with all that is known of where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tl.data.images.decoding import Size
from tl.questions.features import Network
from tl.questions.samples import Samples
from tl.transfer.lineage import Ancestor


@dataclass(frozen=True)
class Candidate:
    """A source to choose from.

    Args:
        name: What it is called in tables.
        network: The network, and how it reads samples.
        modality: ``images``, ``texts`` or ``tensors``.
        lineage: Where it comes from, in five words at most.
        parameters: Number of parameters of the backbone.
        accuracy: Accuracy on its own validation data, if it is known.
        size: Pixels of the images that it reads, or ``None``.
        sha256: Hash of its file, or ``None``.
        seen: Known names of the classes that it was trained on, and those of its own sources.
        seen_all: Whether these are all.
    """

    name: str
    network: Network
    modality: str
    lineage: str
    parameters: int
    accuracy: float | None = None
    size: Size | None = None
    sha256: str | None = None
    seen: frozenset[str] = frozenset()
    seen_all: bool = False


def lineage_words(ancestor: Ancestor) -> str:
    """Return where a network comes from in five words at most."""
    if ancestor.note is not None and len(ancestor.sources) > 1:
        return f"average of {len(ancestor.sources)} checkpoints"
    if ancestor.data is None:
        return "of unknown origin"
    own = _data(ancestor)
    if not ancestor.sources:
        return f"{own} from random weights"
    [first, *_] = ancestor.sources
    return f"{own} after {_data(first)}"


def _data(ancestor: Ancestor) -> str:
    """Return the names of the data in one word; images made up in the place of a set's are told."""
    names = [
        f"synthetic-{name}" if _made_up(part) and not name.startswith("generated") else name
        for name, part in (ancestor.data or {}).items()
    ] or [ancestor.path]
    shown = "+".join("_".join(name.split()) for name in names[:2])
    return shown + (f"+{len(names) - 2}" if len(names) > 2 else "")  # noqa: PLR2004 - two are shown


def _made_up(part: Mapping[str, Any]) -> bool:
    return str(part.get("fingerprint")).startswith("generated:")


def seen_classes(record: Mapping[str, Any]) -> tuple[frozenset[str], bool]:
    """Return the names of the classes that a checkpoint and its sources were trained on.

    Classes of which only the group was a label count too.

    Args:
        record: The checkpoint's record of its origin, under ``tl``.

    Returns:
        The names, and whether they are all: the checkpoint and each of its sources name some.
    """
    named = [frozenset(_class_names(each)) for each in _records(record)]
    return frozenset().union(*named), all(named)


def _records(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a network and of all of its sources."""
    yield record
    origin = record.get("provenance", record.get("parent"))
    if not isinstance(origin, Mapping):
        return
    ingredients = origin.get("ingredients")
    for part in ingredients if isinstance(ingredients, list) else [origin]:
        if isinstance(part, Mapping):
            yield from _records(part)


def _class_names(record: Mapping[str, Any]) -> Iterator[str]:
    data = record.get("data")
    parts: list[Any] = []
    if isinstance(data, Mapping):
        parts = [data] if "fingerprint" in data else [*data.values()]
    for part in (*parts, record):
        if not isinstance(part, Mapping):
            continue
        named, groups = part.get("class_names"), part.get("groups")
        for names in named.values() if isinstance(named, Mapping) else ():
            yield from map(str, names or ())
        yield from map(str, groups if isinstance(groups, Mapping) else ())


def check_different(candidates: Sequence[Candidate]) -> None:
    """Refuse a source that is named twice, also by another name of its file.

    Raises:
        ValueError: If one is.
    """
    seen: dict[str, str] = {}
    for candidate in candidates:
        for key in (candidate.name, candidate.sha256):
            if key is None:
                continue
            if key in seen:
                other = "" if seen[key] == candidate.name else f", first as {seen[key]}"
                raise ValueError(
                    f"The source {candidate.name} is named twice{other}; name it once."
                )
            seen[key] = candidate.name


def check_modality(candidate: Candidate, samples: Samples) -> None:
    """Refuse a source that reads something else than the target has.

    Raises:
        ValueError: If it does.
    """
    if candidate.modality != samples.modality:
        raise ValueError(
            f"{candidate.name} reads {candidate.modality}, and the target has {samples.modality}; "
            f"name sources of {samples.modality}."
        )
