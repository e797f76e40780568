"""Labelled data to evaluate a model on, from what a user names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from tl.data import CsvDataModule, FolderDataModule, MultiTaskDataModule, TextDataModule
from tl.data.errors import DataError
from tl.data.images.class_folders import ImageFiles
from tl.data.images.image_set import reasons
from tl.data.images.layout import Layout, find_layout
from tl.data.images.resident import ImageDataset
from tl.data.sources import Source
from tl.data.split import Split
from tl.data.text.known import read_text_record
from tl.data.text.source import TextSource
from tl.data.trained_on import TrainedOn, read_record, sources_of
from tl.serving.quiet import quiet


class _Named(FolderDataModule):
    """Names the images that it cannot read, in `errors` and in a warning, and leaves them out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.errors: dict[str, str] = {}

    def _log_skipped(self, skipped: Mapping[int, str], paths: Sequence[Path], split: str) -> None:
        self._skipped[split] = len(skipped)
        self.errors |= {str(paths[row]): reason for row, reason in skipped.items()}
        if skipped:
            warnings.warn(
                f"{len(skipped)} of {len(paths)} images cannot be read: {reasons(skipped, paths)}.",
                stacklevel=2,
            )

    def _without(
        self, skipped: Mapping[int, str], data: ImageDataset, files: ImageFiles, split: Split
    ) -> ImageDataset:
        self._log_skipped(skipped, files.paths, split)
        kept = [row for row in range(len(files.paths)) if row not in skipped]
        if not kept:
            said = reasons(skipped, files.paths)
            raise DataError(f"No image in {files.folder} can be read: {said}.")
        return data.subset(torch.tensor(kept))

    def was_split(self, record: Mapping[str, Any], known: TrainedOn) -> bool:
        """Return whether training split these very images, wherever they lay.

        Args:
            record: The checkpoint's description of the source.
            known: The same, read.
        """
        with quiet("lightning.pytorch.utilities.rank_zero"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the evaluation says it of what counts
            return self._was_split(record, known)

    def _was_split(self, record: Mapping[str, Any], known: TrainedOn) -> bool:
        try:
            self.adopt(record)
            # far fewer or more files need not be read
            if known.label_fraction == 1 and known.val_folder is None:
                used = sum((record.get("images") or {}).values())
                skipped = sum((record.get("skipped_images") or {}).values())
                if not used <= len(self._files("train").paths) <= used + skipped:
                    return False
            found = self._trained_part(known)
            if known.val_folder is not None:
                found |= self._held_out(known)
            return self._hash(found) == known.unshifted
        except DataError:  # of other classes
            return False


@dataclass(kw_only=True, eq=False)
class LabelledTable(_Named, CsvDataModule):
    """A table whose rows are all evaluated, or the test rows of the one that training split.

    Args:
        whole: Evaluate all rows.
    """

    whole: bool = False

    def _layout(self) -> Layout:
        return Layout(self._path(), test=self._path()) if self.whole else super()._layout()


@dataclass(kw_only=True, eq=False)
class LabelledFolder(_Named):
    """Class folders that are all evaluated, or the test split of a folder that has one.

    Args:
        asked: The targets that the model was trained on.
        whole: Evaluate all class folders in ``root``, which are not split.
    """

    asked: tuple[str, ...] = ("fine",)
    whole: bool = False

    def _layout(self) -> Layout:
        if self.whole:
            return Layout(self._folder(), test=self._folder())
        return super()._layout()

    def _targets_asked_for(self) -> tuple[str, ...]:
        return self.asked


def labelled_data(
    given: object,
    record: Mapping[str, Any],
    sources: Sequence[str],
    source: str | None,
    batch_size: int,
) -> LightningDataModule:
    """Return the data module that evaluates what a user names.

    Args:
        given: A data module, a folder of class folders or with a folder ``test``, or a table.
        record: The checkpoint's description of its data.
        sources: The sources that the model's tasks read; empty if batches do not name them.
        source: The one that a single source stands for, where the model has several.
        batch_size: Samples in one pass, for a folder.

    Raises:
        DataError: If it cannot be evaluated, such as a folder without class folders.
    """
    parts = sources_of(record)
    # texts that are also masked are one source, and come as two
    named = bool(sources) and all(name in parts for name in sources)
    if (parts or sources) and source not in (None, *parts, *sources):
        _one_of(source, [*parts] or sources)  # refuses it
    if isinstance(given, LightningDataModule):
        data = given
    else:
        name = _one_of(source, sources) if named else next(iter(parts), None)
        data = _of_path(given, record, name, batch_size)
    twice = isinstance(data, TextSource) and data.masked_tokens and data.kinds
    if sources and isinstance(data, Source) and not twice:
        return MultiTaskDataModule({_one_of(source, sources): data})
    return data


def _one_of(source: str | None, sources: Sequence[str]) -> str:
    """Return the source that data stand for."""
    if source in sources:
        return str(source)
    if source is None and len(sources) == 1:
        return sources[0]
    raise DataError(
        f"The model reads the sources {', '.join(sources)}; choose the one that these data stand "
        f"for by `source`{'' if source is None else f', not {source!r}'}."
    )


def _of_path(
    given: object, record: Mapping[str, Any], source: str | None, batch_size: int
) -> LightningDataModule:
    if not isinstance(given, str | Path):
        raise DataError(
            f"A {type(given).__name__} cannot be evaluated; expected a folder or a data module."
        )
    place = Path(given).expanduser()
    if not place.exists():
        raise DataError(f"{given}: no such folder or table; expected class folders, or a .csv.")
    part = sources_of(record).get(str(source), {})
    if place.is_file() and read_text_record(part) is not None:
        return _texts(place, part, batch_size)
    known = read_record(part)
    if known is None:
        raise DataError(
            f"{given}: the model was not trained on images with class names, so a path cannot be "
            "evaluated; give a data module with the targets."
        )
    if place.is_dir():
        return _folder(place, known, part, batch_size)
    return _table(place, known, part, batch_size)


def _texts(path: Path, part: Mapping[str, Any], batch_size: int) -> TextDataModule:
    """Return a table of texts: all its rows, or the test rows of the table that training split."""
    columns = part.get("columns") or {"text": "text", "pair": None}

    def read(split: str | None) -> TextDataModule:
        return TextDataModule(
            str(path),
            test=None if split else str(path),
            split=split,
            text=columns["text"],
            pair=columns["pair"],
            encoding=part.get("encoding") or "utf-8",
            targets=part.get("targets") or None,
            masked_tokens=part.get("masked_tokens") or 0.0,
            name=str(part["name"]),
            eval_batch_size=batch_size,
        )

    with quiet("lightning.pytorch.utilities.rank_zero"):  # said of what is evaluated
        held_out = columns.get("split") is not None and read(columns["split"]).was_trained_on(part)
        own = not held_out and read(None).was_trained_on(part)
    if own:
        _warn_of_own(path, "texts")
    return read(columns["split"] if held_out else None)


def _table(path: Path, known: TrainedOn, part: Mapping[str, Any], batch_size: int) -> LabelledTable:
    columns = part.get("columns")
    if not isinstance(columns, Mapping):
        raise DataError(
            f"{path}: the model was not trained on a table, so its columns are not known; name "
            "them by tl.from_csv, and evaluate that."
        )
    root, table = Path(str(part.get("root"))).expanduser(), Path(str(part["table"]))

    def read(root: Path, *, own: bool) -> LabelledTable:
        held_out = own and (columns["split"] is not None or known.test_size is not None)
        return LabelledTable(
            root=str(root),
            table=str(path.absolute() if own else path.name),
            folder=columns["folder"] if own else None,
            image=columns["image"],
            suffix=columns["suffix"],
            targets=columns["targets"],
            split=columns["split"] if held_out else None,
            eval_batch_size=batch_size,
            on_bad_image="skip",
            # of the table that was split for training, only what was held out counts
            whole=not held_out,
        )

    if (root / table).resolve() == path.resolve():
        return read(root, own=True)
    # moved, or of an export, which names no folder
    above = path.absolute().parents[: 1 if table.is_absolute() else len(table.parts)]
    own = read(above[-1], own=True).was_split(part, known)
    return read(above[-1] if own else path.parent, own=own)


def _folder(
    folder: Path, known: TrainedOn, part: Mapping[str, Any], batch_size: int
) -> LabelledFolder:
    layout = find_layout(folder)
    trained = Path(str(part.get("root"))).expanduser().resolve()

    def trained_there(root: Path) -> bool:
        if root.resolve() in {trained, trained / known.name}:
            return True
        # moved, or of an export, which names no folder
        there = LabelledFolder(root=str(root), on_bad_image="skip", asked=tuple(known.classes))
        return there.was_split(part, known)

    own = layout.whole and known.test_size is not None and trained_there(folder)
    if not own and folder.name == "train" and trained_there(folder.parent):
        _warn_of_own(folder, "images")
    return LabelledFolder(
        root=str(folder),
        eval_batch_size=batch_size,
        on_bad_image="skip",
        asked=tuple(known.classes),
        # of the folder that was split for training, only what was held out counts
        whole=layout.whole and not own,
    )


def _warn_of_own(place: Path, what: str) -> None:
    warnings.warn(
        f"{place} holds the {what} that the model was trained on: expect lower scores on others.",
        stacklevel=5,
    )
