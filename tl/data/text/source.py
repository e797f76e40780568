"""What all sources of text share: splits, tokens, targets, and their record in checkpoints."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, cast, get_args

from lightning.pytorch.utilities import rank_zero_info

from tl.data.errors import DataError, listed
from tl.data.split import Split, random_split
from tl.data.text.known import TextAsTrained, check_model
from tl.data.text.table import Table, read_table
from tl.data.text.targets import find_class_names, make_task, read_target
from tl.data.text.text_set import TextSet, shown_texts
from tl.data.text.tokenizer import TextTokenizer, find_tokenizer
from tl.data.text.tokens import tokenise, trained_tokenizer
from tl.data.text.told import tell_sizes, warn_of_absent, warn_of_copies, with_texts
from tl.tasks import MaskedTokens, Task


class TextSource(TextAsTrained):
    """Texts as tokens, resident in memory, with targets and masks; subclasses read them.

    Args:
        **options: As for :class:`~tl.data.text.options.TextOptions`.

    Raises:
        ValueError: If an option is out of range.
    """

    predict_file: str | None = None
    encoding = "utf-8"

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - each has its type there
        self.splits: dict[str, TextSet] = {}
        self.trained_on = None
        self._tables: dict[Split, Table] = {}
        self._tokenizer: TextTokenizer | None = None
        self._together: Sequence[TextSource] = ()
        self._classes: dict[str, tuple[str, ...]] | None = None
        self._fingerprint = None
        super().__init__(**options)

    # What a kind of source defines

    @abstractmethod
    def read(self, split: Split) -> Table | None:
        """Return the rows of a split; ``None`` if the source lacks it.

        Raises:
            DataError: If they cannot be read.
        """

    # Tasks

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One task per target, and one for masked tokens."""
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

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target, in the order of their numbers."""
        if self.trained_on is not None:
            return self.trained_on.classes
        if self._classes is None:
            # where training sees no labels, its texts may have none
            splits = get_args(Split) if self.withholds else ("train",)
            tables = [t for split in splits if (t := self._table(split, needed=split == "train"))]
            self._classes = {}
            for column, kind in self.kinds.items():
                names = chain(*(find_class_names(table, column, kind) for table in tables))
                self._classes[column] = tuple(sorted({*names}))
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
        """The tokenizer of the evaluated checkpoint, the named one, or one trained on the texts."""
        if self.trained_on is not None:
            return self.trained_on.tokenizer
        if self._tokenizer is None:
            if self.tokenizer_name is not None:
                self._tokenizer = find_tokenizer(self.tokenizer_name)
            else:
                self._tokenizer = self._trained_tokenizer()
        return self._tokenizer

    def _trained_tokenizer(self) -> TextTokenizer:
        """Train a tokenizer on the training texts of all sources that share it."""
        first, *others = self._together or (self,)
        if first is not self:
            return first.tokenizer
        texts = [text for source in (self, *others) for text in source.training_texts()]
        return trained_tokenizer(texts, self.vocab_size)

    def training_texts(self) -> list[str]:
        """Return the training texts for a tokenizer: first texts, then the second ones of pairs."""
        texts, pairs = self._texts(self._table("train"))
        return [*texts, *pairs]

    def share_with(self, sources: Sequence[TextSource]) -> None:
        """Share one tokenizer with other sources; the first source trains it on the texts of all.

        Raises:
            ValueError: If their `vocab_size` differs.
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
        """Fill the cache before several processes load, so that only one tokenises."""
        if self.trainer is not None and self.trainer.world_size > 1 and self.trained_on is None:
            self._set(self._table("train"))

    def setup(self, stage: str) -> None:
        """Load what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DataError: If texts are missing or empty, a label is unknown, or the model does not fit.
        """
        if stage == "fit" and self.trained_on is not None:
            self._forget()
        predicts_file = stage == "predict" and self.predict_file is not None
        if predicts_file:
            table = read_table(str(self.predict_file), self.encoding, self.text)
            columns = [c for c in (self.text, self.pair) if c in table.columns]
            table = with_texts(self.data_name, table, columns)
            self.splits["predict"] = self._set(table, labelled=False).unlabelled()
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
            self._tell()

    def whole(self) -> list[TextSet]:
        """Return all texts of the source with their targets, by file."""
        tables = [self._table(split, needed=split == "train") for split in get_args(Split)]
        return [self._set(table) for table in tables if table is not None]

    def _split(self) -> None:
        """Split off validation texts, unless the source has a validation split."""
        whole = self._set(self._table("train"))
        own = self._table("val", needed=False)
        share = 0.0 if own is not None else self.val_size
        self.splits["train"], val = self._divided(whole, share)
        self.splits["val"] = val if own is None else self._set(own)
        self._fingerprint = None
        self._warn_of_copies()
        if self.trained_on is not None and self.fingerprint != self.trained_on.fingerprint:
            raise DataError(
                f"{self.data_name}: the checkpoint was trained on {self.trained_on.fingerprint}, "
                f"the training texts here are {self.fingerprint}: which of them it held out cannot "
                "be determined. Validate on the texts that it was trained on, or use `test`."
            )

    def _divided(self, whole: TextSet, share: float) -> tuple[TextSet, TextSet]:
        """Return the texts that train, and a share of the whole that validates."""
        classes = (t for t in whole.targets.values() if t.ndim == 1 and not t.is_floating_point())
        train, val = random_split(
            *(len(whole), share, self.label_fraction, self.seed, "texts"),
            None if self.withholds else next(classes, None),
        )
        part = whole.subset(train)
        return (part.withheld() if self.withholds else part), whole.subset(val)

    def was_trained_on(self, record: Mapping[str, Any]) -> bool:
        """Return whether a checkpoint was trained on these training texts, whatever validated it.

        Args:
            record: The checkpoint's description of the source.
        """
        try:
            self.adopt(record)
            whole = self._set(self._table("train"))
            parts = (self._divided(whole, share)[0] for share in (self.val_size, 0.0))
            return any(part.digest().hex() == record.get("train_hash") for part in parts)
        except DataError:  # other columns or classes
            return False

    def texts_by_split(self) -> dict[str, Sequence[str]]:
        """Return the texts of each split once `setup` has loaded them for training."""
        found: dict[str, Sequence[str]] = {s: self.splits[s].shown() for s in ("train", "val")}
        with suppress(DataError):  # said where the test texts are needed
            if (test := self._table("test", needed=False)) is not None:
                found["test"] = shown_texts(*self._texts(test))
        return found

    def _warn_of_copies(self) -> None:
        texts = self.texts_by_split()
        for split, words in (("val", "validation"), ("test", "test")):
            warn_of_copies(self.data_name, texts["train"], words, texts.get(split, ()))

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

    def _texts(self, table: Table) -> tuple[list[str], list[str]]:
        """Return the texts of a table, and the second ones of pairs, if there are any."""
        pairs = [] if self.pair is None else table.texts(self.pair, "pair")
        return table.texts(self.text, "text"), pairs

    def _set(self, table: Table, *, labelled: bool = True) -> TextSet:
        """Tokenise a table, and read its targets."""
        texts, second = self._texts(table)
        pairs = second or None
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
        shown = shown_texts(texts, pairs)
        return TextSet(tokens, targets, shown, tokenizer.pad_id, types=pairs is not None)

    def _tell(self) -> None:
        """Say what trains, of what classes, and which texts are evaluated too."""
        train, val = self.splits["train"], self.splits["val"]
        tell_sizes(self.data_name, train.lengths, len(val), self.tokenizer.vocab_size)
        for column, names in self.target_classes().items():
            if self.kinds[column] == "class" and not self.withholds:
                given = train.targets[column]
                warn_of_absent(self.data_name, column, names, given, self.label_fraction)

    # What was loaded

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data in plain types."""
        known = "train" in self.splits or self.trained_on is not None
        return {
            "name": self.data_name,
            "kind": self.kind(),
            "fingerprint": self.fingerprint if known else None,
            "train_hash": self.splits["train"].digest().hex() if "train" in self.splits else None,
            "samples": {split: len(data) for split, data in self.splits.items()},
            "targets": dict(self.kinds),
            "columns": {"text": self.text, "pair": self.pair},
            "class_names": {t: list(names) for t, names in self.target_classes().items()},
            "max_length": self.max_length,
            "masked_tokens": self.masked_tokens,
            "val_size": self.val_size,
            "label_fraction": self.label_fraction,
            "seed": self.seed,
            **({"labels": "none"} if self.withholds else {}),
            "tokenizer": self.tokenizer.record(),
        }

    def reload(self, *, tables: bool = False) -> None:
        """Let the next `setup` load everything again."""
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
        """The group of each class by task: empty, because texts have no groups."""
        return {}
