"""All samples of a source by class, for episodes of few-shot learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl.data.base import ImageDataModule
from tl.data.cifar.few_shot import CifarFewShotDataModule
from tl.data.errors import DataError, listed
from tl.data.images.resident import ImageDataset
from tl.data.loaders import mixed_order
from tl.data.text.source import TextSource
from tl.data.text.text_set import TextSet
from tl.questions.class_splits import ClassSplit
from tl.questions.fewshot import class_positions
from tl.questions.samples import ImageSamples, Samples, TextSamples


@dataclass(frozen=True)
class ClassPool:
    """All samples of a source, training and test files together.

    Args:
        parts: The samples by file.
        target: Target whose classes count.
        names: Names of its classes.
    """

    parts: Sequence[ImageDataset | TextSet]
    target: str
    names: Sequence[str]

    def labels(self, classes: Sequence[str]) -> Tensor:
        """Return the class of each sample of some classes ``(N,)``."""
        return torch.cat([part.targets[self.target] for part in self._of(classes)])

    def samples(self, classes: Sequence[str]) -> list[Samples]:
        """Return the samples of some classes, by file, in the order of their labels."""
        return [_samples(part) for part in self._of(classes)]

    def some(self, classes: Sequence[str], most: int) -> Samples:
        """Return samples of some classes from the first file, the classes in proportion."""
        first = self._of(classes)[0]
        labels = first.targets[self.target]
        return _samples(first.subset(mixed_order([labels], len(labels))[:most].sort().values))

    def _of(self, classes: Sequence[str]) -> list[ImageDataset | TextSet]:
        found = []
        for part in self.parts:
            at = class_positions(part.targets[self.target], self.names, classes)
            if len(at):
                found.append(part.subset(at))
        if not found:
            raise DataError(f"The data have no sample of the classes {listed(list(classes)[:5])}.")
        return found


def pool_of(data: Any, split: ClassSplit) -> ClassPool:  # noqa: ANN401 - any data module
    """Return all samples of a data module by class.

    Args:
        data: A data module of images or texts, of one source.
        split: The classes; of a text's several targets, the first that has all of them counts.

    Raises:
        DataError: If the data are of another kind, texts in pairs, or without classes.
    """
    if isinstance(data, CifarFewShotDataModule):
        data = data.whole()  # its parts number their classes each in its own way
    if isinstance(data, ImageDataModule):
        if not data.splits:
            data.prepare_data()
            data.setup("fit")
        target, names = data.strata()
        if not names:
            raise DataError(f"{data.data_name} has no classes; few-shot learning needs some.")
        return ClassPool([data.load(each) for each in data.official_splits()], target, names)
    if isinstance(data, TextSource):
        return _text_pool(data, split)
    raise DataError(
        f"`tl fewshot` needs the images or texts of one source, got a {type(data).__name__}."
    )


def _text_pool(data: TextSource, split: ClassSplit) -> ClassPool:
    if data.pair is not None:
        raise DataError("Pairs of texts are not compared; give single texts (no `pair`).")
    classes = data.target_classes()
    known = {column: classes[column] for column, kind in data.kinds.items() if kind == "class"}
    if not known:
        raise DataError(
            f"{data.data_name} has no target with classes; name a column of classes by `targets`."
        )
    wanted = {*split.train, *split.val, *split.test}
    whole = [column for column, names in known.items() if wanted <= {*names}]
    target = [*whole, *known][0]
    return ClassPool(data.whole(), target, known[target])


def _samples(part: ImageDataset | TextSet) -> Samples:
    if isinstance(part, TextSet):
        return TextSamples([part.name(row) for row in range(len(part))], {}, ())
    return ImageSamples(part, ())
