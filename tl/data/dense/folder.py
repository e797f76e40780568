"""Images with label maps, depth and normals beside them, from folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.data.cache import default_cache
from tl.data.dense.dense_set import (
    STRATUM,
    load_samples,
    stream_samples,
)
from tl.data.dense.listing import DenseFiles, find_files, find_splits
from tl.data.dense.published import PUBLISHED, LayoutName, expected_files
from tl.data.dense.reading import MapReader, image_size
from tl.data.dense.sample_reader import DenseReader
from tl.data.errors import DataError, listed
from tl.data.files import FilesDataModule
from tl.data.images.augment import Augment
from tl.data.images.decoding import Size, sides
from tl.data.images.resident import Batch, ImageDataset
from tl.data.naming import composed_names
from tl.data.split import Split
from tl.tasks import Depth, Segmentation, Task, as_task

#: The augmentation of the published codes (Xu et al., 2018, arXiv:1805.04409).
PROTOCOL = Augment(padding=0, flip=True, scales=(1.0, 1.2, 1.5))


@dataclass(kw_only=True, eq=False)
class DenseFolderDataModule(FilesDataModule):
    """Images with a map for each task: ``root/{train,val,test}/{image,segmentation,...}/NAME.*``.

    Each task reads the folder that is its `target` (or its name); a map has the name of its image
    and ends in ``.png`` or ``.npy``. Label and binary maps are numbers of classes in one channel,
    depths numbers with a `scale`, normals ``.npy`` of ``(H, W, 3)`` or ``(3, H, W)``. Without a
    folder ``val``, `val_size` of the training images validate.

    ``layout: nyuv2`` and ``cityscapes`` read the arrays that the codes of MTAN, LibMTL, CAGrad and
    Nash-MTL share: ``root/{train,val}/{image,label,depth,normal}/0.npy``, 1.npy, and so on. Their
    folder ``val`` is what these codes report, some at its best epoch; here it is the test split,
    and `val_size` of the training images choose.

    Training images are enlarged by 1, 1.2 or 1.5, cropped and mirrored, unless `augment` says
    otherwise, on the device that trains. Depths are divided by the scale, and inverse depths
    multiplied, which these codes do not; mirrored normals point the other way; maps take the
    nearest pixel, so that nothing is mixed across edges and normals keep their length.

    Args:
        folder: Folder below ``root`` that holds the splits; by default ``root`` holds them.
        layout: ``files``, a layout of your own; or ``nyuv2`` or ``cityscapes``.
        tasks: What is to be learned; by default what the layout has. `target` is a folder.
        image: Name of the folder of the images.
        size: Height and width that images and maps are brought to, resized and cropped, or one
            number for both; by default all images must have one size. Depths keep their values.
        void: Value of pixels without a target by folder, such as ``{segmentation: 255, depth: 0}``.
            -1 among classes and NaN among other numbers always are such values.
        scale: Unit of depths by folder: 0.001 for millimetres. Whole numbers need one.
        classes: Names of the classes by folder, in the order of their numbers.
        max_memory_gb: Size in gigabytes above which a split is streamed from files; the others are
            read once, kept in memory and cached on disk by content (``$TL_CACHE``).

    Raises:
        ValueError: If there are no tasks, or an option names no folder of theirs.
    """

    layout: LayoutName = "files"
    tasks: tuple[Task, ...] = ()
    image: str = "image"
    size: int | tuple[int, int] | None = None
    void: Mapping[str, float] | None = None
    scale: Mapping[str, float] | None = None
    classes: Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        published = PUBLISHED.get(self.layout)
        tasks = [as_task(task) for task in self.tasks or (published.tasks if published else ())]
        if not tasks:
            raise ValueError(
                "`tasks` is empty; give at least one, such as tl.tasks.Segmentation, or a `layout` "
                f"of {', '.join(PUBLISHED)}."
            )
        targeted = tuple(as_task({**t.record(), "target": t.target or t.name}) for t in tasks)
        object.__setattr__(self, "tasks", targeted)
        super().__post_init__()
        self._check_tasks()
        self._check_folders()
        if self.size is not None:
            given = list(sides(self.size)) if isinstance(self.size, int) else list(self.size)
            if len(given) != 2 or min(given) < 1:  # noqa: PLR2004 - height and width
                raise ValueError(
                    f"`size` must be [height, width] or one number, 1 or more, got {self.size}."
                )

    def _check_tasks(self) -> None:
        for task in self.tasks:
            if not task.on_pixels:
                raise ValueError(
                    f"Task {task.name!r} is a {task.kind}, which has no map; take one such as "
                    "tl.tasks.Segmentation."
                )
            if self.layout == "cityscapes" and isinstance(task, Depth) and not task.inverse:
                raise ValueError(
                    f"`layout: cityscapes` holds inverse depths: set `inverse: true` for task "
                    f"{task.name!r}."
                )

    def _check_folders(self) -> None:
        names = [str(task.target) for task in self.tasks]
        if self.image in names:
            raise ValueError(f"{self.image!r} is the folder of the images and of a task's maps.")
        for option in ("void", "scale", "classes"):
            if unknown := sorted(set(getattr(self, option) or ()) - set(names)):
                raise ValueError(
                    f"`{option}` names {listed(unknown)}; the tasks read {listed(sorted(names))}."
                )
        for name, unit in (self.scale or {}).items():
            if not 0 < unit < float("inf"):
                raise ValueError(f"`scale` must be above 0, got {unit} for {name!r}.")
        for task in self.tasks:
            given = (self.classes or {}).get(str(task.target))
            wanted = task.num_classes if isinstance(task, Segmentation) else 0
            if given is not None and len(given) != wanted:
                raise ValueError(
                    f"`classes` has {len(given)} names for {task.target!r}, whose task "
                    f"{task.name!r} has {wanted} classes."
                )

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - as in the base class
        """Take over settings for what this source does not set; its augmentation is its own."""
        super().inherit(**{"augment": PROTOCOL, **given})

    def _default_name(self) -> str:
        if self.layout != "files":
            return self.layout
        return self._folder_name("maps")

    def _splits(self) -> dict[str, Path]:
        return find_splits(self._folder(), published=self.layout != "files")

    def _expected(self) -> str:
        """Return what files are expected, for messages."""
        return expected_files(self._folder(), self.layout, self.image, self._targets_asked_for())

    # What is read

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by folder of maps; none for what are not classes."""
        if self.trained_on is not None:
            return self.trained_on.classes
        published = PUBLISHED.get(self.layout)
        known = {**(published.classes if published else {}), **(self.classes or {})}
        found: dict[str, tuple[str, ...]] = {}
        for task in self.tasks:
            target = str(task.target)
            numbers = range(task.num_classes) if isinstance(task, Segmentation) else ()
            names = known.get(target, ())
            found[target] = composed_names(names if len(names) == len(numbers) else numbers)
        return found

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, for those that have classes."""
        known = self.target_classes()
        return {task.name: names for task in self.tasks if (names := known[str(task.target)])}

    def _targets_asked_for(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(task.target) for task in self.tasks))

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """One class for all: an image with maps has none of its own."""
        return STRATUM, ("images",)

    def official_splits(self) -> tuple[Split, ...]:
        """Splits that there are folders for."""
        found = self._splits()
        return tuple(split for split in ("train", "val", "test") if split in found)

    def _balanced(self, data: ImageDataset) -> Tensor | None:
        if self.settings.sampling == "balanced":
            raise DataError(
                f"{self.data_name}: `sampling: balanced` needs one class per image, and maps have "
                "none; leave it out."
            )
        return super()._balanced(data)

    def _take_size(self, size: Size) -> None:
        if self.size is not None and sides(size) != sides(self.size):
            rank_zero_info(
                f"tl: {self.data_name}: reading images at {size} pixels as in training, not at "
                f"{self.size}."
            )
        self.image_size = sides(size)

    def _files(self, split: str) -> DenseFiles:
        maps = list(self._targets_asked_for())
        return find_files(self._splits()[split], self.image, maps, self._expected())

    def _reader(self, split: str) -> DenseReader:
        void = {**(PUBLISHED[self.layout].void if self.layout != "files" else {})}
        void |= self.void or {}
        readers = {
            str(task.target): MapReader(
                str(task.target),
                task,
                void.get(str(task.target)),
                (self.scale or {}).get(str(task.target)),
                resized=self.layout != "files",
            )
            for task in reversed(self.tasks)  # of several on one folder, the first reads
        }
        files = self._files(split)
        if self.trained_on is None:
            first = files if split == "train" or self.size else self._files("train")
            self.image_size = sides(self.size or image_size(first.images[0]))
        maps = {name: readers[name] for name in files.maps}
        return DenseReader(files, maps, sides(self.image_size), resize=self.size is not None)

    def bytes_needed(self, split: Split) -> int:
        """Return the size of a split's images and maps in memory."""
        return self._reader(split).bytes_needed()

    def _checked(self, split: Split) -> ImageDataset:
        return self.load(split)  # which checks every map

    def load(self, split: Split) -> ImageDataset:
        """Read one split into memory, or prepare streaming.

        Raises:
            DataError: If the split does not exist, or a file is unreadable or wrong.
        """
        if split not in self.official_splits():
            raise DataError(
                f"{self.data_name} has no {split} split: there is no folder "
                f"{self._folder() / split}."
            )
        reader, what = self._reader(split), f"{self.data_name} {split} images and maps"
        cache, verify = default_cache(), self.settings.verify
        if self._too_large(reader.bytes_needed()):
            return stream_samples(reader, what, cache, verify)
        return load_samples(reader, cache, what, verify)

    def transform(self, batch: Batch, draws: Tensor | None) -> Batch:
        """Normalise and augment a batch with its maps; positions of predicted images stay."""
        images, targets = batch
        if not isinstance(targets, Tensor) or targets.ndim > 1:
            return super().transform(batch, draws)
        return super().transform((images, {"index": targets}), draws)[0], targets

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data, with how their files were read."""
        val = self._splits().get("val")
        return super().describe() | {
            "image_size": list(sides(self.image_size)),
            "val_folder": val.name if val else None,
            "layout": self.layout,
            "void": dict(self.void or {}),
            "scale": dict(self.scale or {}),
        }
