"""Options of a source that may change later, or come from the data module around it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields
from typing import Any

from lightning.pytorch import LightningDataModule

from tl.data.options import checked_option, refuse_misspelt
from tl.data.settings import Settings, SharedOptions

_SETTINGS = frozenset(f.name for f in fields(Settings))
# these may change without loading again
_LATE = frozenset(
    {*("batch_size", "eval_batch_size", "num_workers", "predict_folder"), "sampling", "balanced_by"}
)


class SourceOptions(SharedOptions, LightningDataModule):
    """Options that are checked when set, and inherited where they are not.

    Attributes:
        settings: The values of the shared options in force.
    """

    settings: Settings
    _inherited: set[str]  # options of a `MultiTaskDataModule` around this source
    _outer: dict[str, Any]

    @abstractmethod
    def _reload(self) -> None:
        """Let the next `setup` load everything again."""

    def takes(self, name: str) -> bool:
        """Return whether this source inherits an option: it has it and does not set it."""
        # what was inherited before is not the source's own
        return getattr(self, name, ...) is None or name in self._inherited

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - any type
        """Inherit options that this source does not set."""
        own = {f.name: getattr(self, f.name) for f in fields(Settings)}
        outer = {name: value for name, value in given.items() if name in own}
        changed = False
        for name, value in given.items():
            if name not in own and value is not None and self.takes(name):
                changed |= value != getattr(self, name)
                object.__setattr__(self, name, value)
                self._inherited.add(name)
        chosen = {**outer, **{n: v for n, v in own.items() if v is not None}}
        settings = Settings(**{n: v for n, v in chosen.items() if v is not None})
        before, self.settings, self._outer = self.__dict__.get("settings"), settings, given
        changed |= any(
            getattr(before, n, ...) != getattr(settings, n) for n in own if n not in _LATE
        )
        if before is not None and changed:
            self._reload()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any value
        """Set an attribute; an option that selects images takes effect at the next `setup`.

        Raises:
            AttributeError: If the name is a misspelt option.
            TypeError: If the value does not have the option's type.
            ValueError: If the constructor refuses the value; the old value stays.
        """
        before = self.__dict__.get(name)
        if "_outer" not in self.__dict__ or name not in self.__dataclass_fields__:
            if "_outer" in self.__dict__:
                refuse_misspelt(self, name, self.__dataclass_fields__)
            super().__setattr__(name, value)
            return
        value = checked_option(type(self), name, value)
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in self._inherited}
        if "__dataclass_fields__" in vars(type(self)):  # else it has a constructor of its own
            type(self)(**{**own, name: value})
        super().__setattr__(name, value)
        try:
            self.inherit(**self._outer)
        except (TypeError, ValueError):
            super().__setattr__(name, before)
            raise
        self._inherited.discard(name)
        if name not in _SETTINGS and value != before:
            self._reload()
