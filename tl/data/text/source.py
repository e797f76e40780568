"""What all sources of text share: splits, tokens, loaders, what a checkpoint keeps of them."""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from tl.data.errors import DataError, listed
from tl.data.images.resident import mixed_seed
from tl.data.loaders import class_by_class
from tl.data.text.known import TextTrainedOn, check_model, read_text_record
from tl.data.text.options import TextOptions
from tl.data.text.table import Table
from tl.data.text.targets import find_class_names, make_task, read_target
from tl.data.text.text_set import TextSet
from tl.data.text.tokenizer import TextTokenizer, find_tokenizer
from tl.data.text.tokens import tokenise, trained_tokenizer
from tl.data.trained_on import record_of, same_data
from tl.tasks import MaskedTokens, Task

Split = Literal["train", "val", "test"]


class TextSource(TextOptions, ABC):
    """Texts as tokens, resident in memory, with targets and masks; subclasses read them.

    Args:
        **options: As for :class:`~tl.data.text.options.TextOptions`.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - each has its type there
        self.splits: dict[str, TextSet] = {}
        self.trained_on: TextTrainedOn | None = None
        self._tables: dict[Split, Table] = {}
        self._tokenizer: TextTokenizer | None = None
        self._together: Sequence[TextSource] = ()
        self._classes: dict[str, tuple[str, ...]] | None = None
        self._fingerprint: str | None = None
        super().__init__(**options)

    # What a kind of source says of itself

    @abstractmethod
    def read(self, split: Split) -> Table | None:
        """Return the rows of a split, or ``None`` if it comes without.

        Raises:
            DataError: If they cannot be read.
        """

    @abstractmethod
    def read_to_predict(self) -> Table | None:
        """Return the rows of a file of sentences to predict, or ``None`` without one."""

    def kind(self) -> str:
        """Say where the texts come from: ``real`` or ``generated``."""
        return "real"

    # Tasks

    @property
    def tasks(self) -> tuple[Task, ...]:
        """A task per target, and one for the masked tokens."""
        several = len(self.kinds) + bool(self.masked_tokens) > 1
        classes = self.target_classes()
        source = "text" if self.kinds and self.masked_tokens else None
        found: list[Task] = []
        for column, kind in self.kinds.items():
            name = f"{self.data_name}_{column}" if several else self.data_name
            name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
            key = column if len(self.kinds) > 1 else None
            found.append(make_task(name, kind, classes[column], key).read_from(source))
        if self.masked_tokens:
            name = f"{self.data_name}_tokens" if several else self.data_name
            masked = MaskedTokens(name, self.tokenizer.vocab_size)
            found.append(masked.read_from("masked" if source else None))
        return tuple(found)

    @property
    def task(self) -> Task | None:
        """The only task, or ``None`` where there are several."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target, in the order of their numbers."""
        if self.trained_on is not None:
            return self.trained_on.classes
        if self._classes is None:
            table = self._table("train")
            self._classes = {c: find_class_names(table, c, k) for c, k in self.kinds.items()}
        return self._classes

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, in the order of the labels."""
        classes = self.target_classes()
        both = zip(self.kinds, self.tasks, strict=False)
        return {task.name: classes[column] for column, task in both if classes[column]}

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes by task."""
        return {name: len(names) for name, names in self.class_names.items()}

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer: the checkpoint's that is evaluated, the one named, or one trained here."""
        if self.trained_on is not None:
            return self.trained_on.tokenizer
        if self._tokenizer is None:
            if self.tokenizer_name is not None:
                self._tokenizer = find_tokenizer(self.tokenizer_name)
            else:
                self._tokenizer = self._trained_tokenizer()
        return self._tokenizer

    def _trained_tokenizer(self) -> TextTokenizer:
        """Train one on the training texts, of all sources where several share it."""
        first, *others = self._together or (self,)
        if first is not self:
            return first.tokenizer
        texts = [text for source in (self, *others) for text in source.training_texts()]
        return trained_tokenizer(texts, self.vocab_size)

    def training_texts(self) -> list[str]:
        """Return the texts that a tokenizer is trained on: the first of pairs, then the second."""
        table = self._table("train")
        return [*self._texts(table, self.text), *self._texts(table, self.pair)]

    def share_with(self, sources: Sequence[TextSource]) -> None:
        """Share a tokenizer with other sources; that of the first is trained on the texts of all.

        Args:
            sources: All of them, this one among them.

        Raises:
            ValueError: If they want vocabularies of different sizes.
        """
        sizes = {source.data_name: source.vocab_size for source in sources}
        if len(set(sizes.values())) > 1:
            said = listed([f"{name} {size}" for name, size in sizes.items()])
            raise ValueError(f"Sources that share a tokenizer need one `vocab_size`, got {said}.")
        if [*map(id, sources)] != [*map(id, self._together)]:
            self._together = tuple(sources)
            self.reload()

    # Loading

    def prepare_data(self) -> None:
        """Fill the cache where several processes are about to load: only one tokenises."""
        if self.trainer is not None and self.trainer.world_size > 1 and self.trained_on is None:
            self._set(self._table("train"))

    def setup(self, stage: str) -> None:
        """Load what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DataError: If texts are missing or empty, a label is unknown, or the model does not fit.
        """
        if stage == "fit" and self.trained_on is not None:
            self._forget()
        predicts_file = stage == "predict" and (table := self.read_to_predict()) is not None
        if predicts_file:
            self.splits["predict"] = self._set(cast("Table", table), labelled=False).unlabelled()
        if stage in ("fit", "validate") and "train" not in self.splits:
            self._split()
        wants_test = stage == "test" or (stage == "predict" and not predicts_file)
        if wants_test and "test" not in self.splits:
            self.splits["test"] = self._set(self._table("test"))
        if stage == "predict" and not predicts_file:
            self.splits["predict"] = self.splits["test"].unlabelled()
        if self.masked_tokens and self.tokenizer.mask_id is None:
            raise DataError("The tokenizer has no token to mask by, such as [MASK]; name another.")
        longest = max(int(part.lengths.max()) for part in self.splits.values() if len(part))
        check_model(self.trainer, self.tokenizer, longest, starts=stage == "fit")
        if stage == "fit":
            self._say_splits()

    def _split(self) -> None:
        """Divide the training texts, or take the split that comes with them."""
        whole = self._set(self._table("train"))
        own = self._table("val", needed=False)
        order = torch.randperm(
            len(whole), generator=torch.Generator().manual_seed(mixed_seed("split", self.seed))
        )
        for target in whole.targets.values():
            if target.ndim == 1 and not target.is_floating_point():
                order = order[class_by_class(target[order])]
                break
        held = 0 if own is not None else math.ceil(len(whole) * self.val_size)
        kept = int((len(whole) - held) * self.label_fraction + 1e-9)
        if not kept:
            raise DataError(
                f"`val_size={self.val_size:g}` and `label_fraction={self.label_fraction:g}` leave "
                f"none of {len(whole)} texts to train."
            )
        self.splits["train"] = whole.subset(order[held : held + kept].sort().values)
        val = self._set(own) if own is not None else whole.subset(order[:held].sort().values)
        self.splits["val"] = val
        self._fingerprint = None
        if self.trained_on is not None and self.fingerprint != self.trained_on.fingerprint:
            raise DataError(
                f"{self.data_name}: the checkpoint was trained on {self.trained_on.fingerprint}, "
                f"the training texts here are {self.fingerprint}: which of them it held out cannot "
                "be told. Validate on the texts that it was trained on, or use `test`."
            )

    def _table(self, split: Split, *, needed: bool = True) -> Table:
        if split not in self._tables:
            found = self.read(split)
            if found is None and needed:
                raise DataError(
                    f"{self.data_name} has no {split} split; name one by `{split}`, or a column "
                    "by `split`."
                )
            if found is None:
                return cast("Table", None)
            self._tables[split] = found
        return self._tables[split]

    def _texts(self, table: Table, column: str | None) -> list[str]:
        """Return the texts of a column, each with a character at least."""
        if column is None:
            return []
        cells = table.column(column, "text" if column == self.text else "pair")
        empty = [row for row, cell in enumerate(cells) if not isinstance(cell, str) or not cell]
        empty += [row for row, cell in enumerate(cells) if isinstance(cell, str) and cell.isspace()]
        if empty:
            raise DataError(
                f"{table.where(min(empty))} has no text ({column}); so have {len(empty)} of "
                f"{len(cells)} rows. Remove them, or fill them in."
            )
        return cells

    def _set(self, table: Table, *, labelled: bool = True) -> TextSet:
        """Tokenise a table, and read its targets."""
        texts = self._texts(table, self.text)
        pairs = self._texts(table, self.pair) or None
        tokenizer = self.tokenizer
        tokens = tokenise(texts, pairs, tokenizer, self.max_length)
        if tokens.cut:
            said = (
                f"{tokens.cut} of {len(texts)} texts of {table.path} have more than "
                f"{self.max_length} tokens (`max_length`)"
            )
            if self.on_long == "error":
                raise DataError(f"{said}. Raise it, or set `on_long` to cut.")
            rank_zero_info(f"tl: {self.data_name}: {said} and are cut.")
        classes = self.target_classes()
        kinds = self.kinds if labelled else {}
        targets = {c: read_target(table, c, kind, classes[c]) for c, kind in kinds.items()}
        shown = texts if pairs is None else [" | ".join(p) for p in zip(texts, pairs, strict=True)]
        return TextSet(tokens, targets, shown, tokenizer.pad_id, types=pairs is not None)

    def _say_splits(self) -> None:
        train, val = self.splits["train"], self.splits["val"]
        rank_zero_info(
            f"tl: {self.data_name}: {len(train)} texts train ({int(train.lengths.sum())} tokens), "
            f"{len(val)} validate; {self.tokenizer.vocab_size} word pieces."
        )
        for column, names in self.target_classes().items():
            target = train.targets[column]
            if self.kinds[column] != "class":
                continue
            gone = [name for i, name in enumerate(names) if not bool((target == i).any())]
            if gone:
                rank_zero_warn(
                    f"{self.data_name}: {len(gone)} of {len(names)} classes of {column} have no "
                    f"training text at `label_fraction={self.label_fraction:g}`: {listed(gone, 5)}."
                )

    # What was loaded

    @property
    def fingerprint(self) -> str:
        """Kind of the data and a hash of the tokens and targets that train and validate."""
        if "train" not in self.splits and self.trained_on is not None:
            return self.trained_on.fingerprint
        if self._fingerprint is None:
            digest = hashlib.sha256(self.tokenizer.hash.encode())
            for split in ("train", "val"):
                digest.update(self.splits[split].digest())
            self._fingerprint = f"{self.kind()}:{digest.hexdigest()[:16]}"
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Return in plain types what was loaded, for reports, dashboards and checkpoints."""
        known = "train" in self.splits or self.trained_on is not None
        return {
            "name": self.data_name,
            "kind": self.kind(),
            "fingerprint": self.fingerprint if known else None,
            "samples": {split: len(data) for split, data in self.splits.items()},
            "targets": dict(self.kinds),
            "columns": {"text": self.text, "pair": self.pair},
            "class_names": {t: list(names) for t, names in self.target_classes().items()},
            "max_length": self.max_length,
            "masked_tokens": self.masked_tokens,
            "val_size": self.val_size,
            "label_fraction": self.label_fraction,
            "seed": self.seed,
            "tokenizer": self.tokenizer.record(),
        }

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> None:
        """Evaluate as a checkpoint was trained: by its tokenizer, classes, length and split.

        Args:
            record: What `describe` gave when the checkpoint was written, by source or of one.
            sources: How many there are, where this is one of several.

        Raises:
            DataError: If it was trained with another tokenizer than the one named, or on other
                targets.
        """
        known = read_text_record(record_of(record, self.data_name, sources or 1))
        if known is None or known == self.trained_on:
            return
        same = self.trained_on is None and "train" in self.splits
        if same and self.fingerprint == known.fingerprint:
            return  # the very data that were trained on
        if self.tokenizer_name is not None:
            known.same_tokenizer(find_tokenizer(self.tokenizer_name), f"`{self.tokenizer_name}`")
        if set(self.kinds) != set(known.classes):
            raise DataError(
                f"The checkpoint was trained on the targets {listed(sorted(known.classes)) or '-'},"
                f" {self.data_name} gives {listed(sorted(self.kinds)) or '-'}; choose the same "
                "`targets`."
            )
        self._forget()
        self.trained_on = known
        for name in ("max_length", "seed", "val_size", "label_fraction"):
            self._replaced[name] = getattr(self, name)
            object.__setattr__(self, name, getattr(known, name))

    def _forget(self) -> None:
        """Return to what this source was before it took over what a checkpoint decides."""
        for name, value in self._replaced.items():
            object.__setattr__(self, name, value)
        self._replaced.clear()
        self.trained_on, self._fingerprint = None, None
        self.splits.clear()

    def reload(self, *, tables: bool = False) -> None:
        """Let the next `setup` load everything anew.

        Args:
            tables: Read the texts again too.
        """
        self._tokenizer, self._fingerprint = None, None
        self.splits.clear()
        if tables:
            self._tables.clear()
            self._classes = None

    @property
    def waits(self) -> bool:
        """Whether an evaluation needs its checkpoint to replace missing data: never."""
        return False

    @property
    def task_groups(self) -> dict[str, dict[str, str]]:
        """The group of each class by name, by task: texts have none."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must find again."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data.

        Raises:
            DataError: If the fingerprint differs from the checkpoint's.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        settings = "texts, tokenizer, label fraction, validation size and seed"
        then = str(state_dict.get("fingerprint"))
        same_data(self.data_name, then, self.fingerprint, settings)
