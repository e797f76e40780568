"""Options of a source of text, some of which a `MultiTaskDataModule` passes on."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tl.data.options import arguments_of, refuse_misspelt
from tl.data.text.targets import Kind, target_kinds
from tl.data.text.text_loaders import TextLoaders

Targets = str | Sequence[str] | Mapping[str, Kind] | None
_SHARED: dict[str, Any] = {  # with the defaults
    "batch_size": 64,
    "eval_batch_size": 256,
    "val_size": 0.1,
    "label_fraction": 1.0,
    "seed": 0,
    "tokenizer_name": None,
}
#: Options that a `MultiTaskDataModule` passes on to sources of text.
SHARED = tuple("tokenizer" if name == "tokenizer_name" else name for name in _SHARED)
_LATE = ("batch_size", "eval_batch_size")  # may change without loading again


class TextOptions(TextLoaders):
    """The options of a source of text, checked.

    Options that a `MultiTaskDataModule` also has may stay ``None``: they are then inherited, or
    take the stated defaults.

    Args:
        name: Name of the source and of its only task; several tasks are called
            ``<name>_<target>``.
        text: Column of the text.
        pair: Column of a second text, for tasks on pairs.
        targets: Column to learn, several columns, or the kind of each: ``class``, ``number``, or
            ``labels`` (any number of classes, separated by semicolons or in a list).
        labels: ``all`` (default), or ``none``: training sees the texts alone, split at random, and
            validation and test keep the targets. For a source that penalties adapt to.
        masked_tokens: Fraction of the tokens that a language model predicts, 0.15 in the paper; 0
            for no such task. If there are `targets` too, each batch holds its texts twice: as they
            are, and masked.
        tokenizer: A ``tokenizer.json``, a folder that contains one, a checkpoint that was trained
            on text, or a Hugging Face repository. By default a tokenizer is trained on the training
            split.
        vocab_size: Word pieces of a trained tokenizer.
        max_length: Maximum number of tokens of a text or pair, including special tokens.
        on_long: What to do with longer texts: ``cut`` and count them, or ``error``.
        batch_size: Texts per step and process, default 64.
        eval_batch_size: Texts per evaluation step and process, default 256.
        length_window: Number of batches that are sorted by length together; 1 keeps the random
            order.
        val_size: Fraction of the training texts that validates if there is no validation split,
            default 0.1.
        label_fraction: Fraction of the other training texts to use, in proportion to their classes,
            default 1.0. Fractions are nested, and the validation texts stay the same.
        seed: Seed of split, order and masks, default 0.

    Raises:
        ValueError: If an option is out of range.
    """

    val_size: float
    label_fraction: float
    tokenizer_name: str | None
    _inherited: dict[str, Any]
    _replaced: dict[str, Any]  # own values of what an evaluated checkpoint decides
    _settled = False  # whether the constructor is done: later assignments are checked

    def __init__(
        self,
        *,
        name: str,
        text: str = "text",
        pair: str | None = None,
        targets: Targets = None,
        labels: Literal["all", "none"] = "all",
        masked_tokens: float = 0.0,
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        max_length: int = 128,
        on_long: Literal["cut", "error"] = "cut",
        batch_size: int | None = None,
        eval_batch_size: int | None = None,
        length_window: int = 50,
        val_size: float | None = None,
        label_fraction: float | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.kinds = target_kinds(targets)
        self.labels = labels
        if not self.kinds and not masked_tokens:
            raise ValueError("There is nothing to learn: give `targets`, `masked_tokens` or both.")
        self.data_name = re.sub(r"[^A-Za-z0-9_-]", "_", name).lstrip("_-") or "text"
        self.text, self.pair = text, pair
        self.masked_tokens = masked_tokens
        self.vocab_size, self.max_length, self.on_long = vocab_size, max_length, on_long
        self.length_window = length_window
        self._inherited = {}
        own = (batch_size, eval_batch_size, val_size, label_fraction, seed, tokenizer)
        for option, value in zip(_SHARED, own, strict=True):
            setattr(self, option, value)
            if value is None:
                self._inherited[option] = None
        self.inherit()
        self._replaced = {}
        self._settled = True

    def takes(self, name: str) -> bool:
        """Return whether this source inherits an option: it does not set it."""
        option = _attribute(name)
        return option in self._inherited and getattr(self, option) == self._inherited[option]

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - whatever type the option has
        """Inherit options that this source does not set.

        Raises:
            ValueError: If one is out of range.
        """
        outer = {_attribute(name): value for name, value in given.items() if value is not None}
        before = {option: getattr(self, option) for option in _SHARED}
        for option, default in _SHARED.items():
            if self.takes(option):
                value = outer.get(option, default)
                object.__setattr__(self, option, value)
                self._inherited[option] = value
        self._check()
        if any(before[name] != getattr(self, name) for name in _SHARED if name not in _LATE):
            self.reload()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any value
        """Set an attribute; an option that selects texts takes effect at the next `setup`.

        Raises:
            AttributeError: If the name is a misspelt option, or one that cannot change.
            ValueError: If the value is out of range; the old value stays.
        """
        options, name = arguments_of(type(self)).keys() | _SHARED, _attribute(name)
        if not self._settled or name not in options:
            if self._settled:
                refuse_misspelt(self, name, options)
            super().__setattr__(name, value)
            return
        if name in ("targets", "name"):
            raise AttributeError(f"`{name}` cannot change; make a new {type(self).__name__}.")
        first, before = name not in self.__dict__, self.__dict__.get(name)
        super().__setattr__(name, value)
        try:
            self._check()
        except (TypeError, ValueError):
            super().__setattr__(name, before)
            raise
        self._inherited.pop(name, None)
        self._replaced.pop(name, None)
        if not first and value != before and name not in _LATE:
            self.reload(tables=name not in _SHARED)

    @abstractmethod
    def reload(self, *, tables: bool = False) -> None:
        """Let the next `setup` load everything again."""

    def _check(self) -> None:
        if self.on_long not in ("cut", "error"):
            raise ValueError(f"`on_long` must be cut or error, got {self.on_long!r}.")
        if self.labels not in ("all", "none"):
            raise ValueError(f"`labels` must be all or none, got {self.labels!r}.")
        if self.labels == "none" and self.masked_tokens:
            raise ValueError(
                "`labels: none` withholds targets, and `masked_tokens` learns from the texts "
                "themselves; set one of them, or give the texts twice, as two sources."
            )
        share, fraction, held = self.masked_tokens, self.label_fraction, self.val_size
        limits: dict[str, tuple[float, bool, str]] = {
            "masked_tokens": (share, 0 <= share < 1, "0 or more and below 1"),
            "vocab_size": (self.vocab_size, self.vocab_size >= 10, "10 or more"),  # noqa: PLR2004
            "max_length": (self.max_length, self.max_length >= 4, "4 or more"),  # noqa: PLR2004
            "batch_size": (self.batch_size, self.batch_size >= 1, "1 or more"),
            "eval_batch_size": (self.eval_batch_size, self.eval_batch_size >= 1, "1 or more"),
            "length_window": (self.length_window, self.length_window >= 1, "1 or more"),
            "val_size": (held, 0 <= held < 1, "0 or more and below 1"),
            "label_fraction": (fraction, 0 < fraction <= 1, "above 0 and at most 1"),
        }
        for option, (value, right, range_) in limits.items():
            if not right:
                raise ValueError(f"`{option}` must be {range_}, got {value}.")


def _attribute(option: str) -> str:
    """Return the attribute that stores an option; `tokenizer` itself is the loaded one."""
    return "tokenizer_name" if option == "tokenizer" else option
