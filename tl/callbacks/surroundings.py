"""What a callback finds around it: other callbacks, and the data by source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from lightning.pytorch import Trainer

from tl.data.trained_on import readable

T = TypeVar("T")


def callbacks_of(trainer: Trainer, kind: type[T]) -> list[T]:
    """Return the Trainer's callbacks of a kind, in their order."""
    return [each for each in trainer.callbacks if isinstance(each, kind)]  # type: ignore[attr-defined]


def data_by_source(data: object) -> Mapping[str | None, Any]:
    """Return data modules by source; the only one of data without sources is ``None``."""
    sources = getattr(data, "sources", None)
    return sources if isinstance(sources, Mapping) else {None: data}


def data_of(trainer: Trainer, source: str | None) -> Any:  # noqa: ANN401 - any data module
    """Return the data module of a source: the only one, whatever it is called."""
    found = data_by_source(getattr(trainer, "datamodule", None))
    return next(iter(found.values())) if len(found) == 1 else found.get(source)


def description_of(trainer: Trainer) -> dict[str, Any] | None:
    """Return what the data say of themselves, for people; ``None`` if they say nothing."""
    describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
    return readable(describe()) if callable(describe) else None
