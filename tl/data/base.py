"""Sources of images: what they load, how it is split, how it is described."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.data.cache import default_cache
from tl.data.errors import DataError
from tl.data.following import FollowingSource
from tl.data.images.decoding import Size
from tl.data.images.image_set import Reading, StreamedDataset, check_images, reasons
from tl.data.images.listing import list_files, log_left_out
from tl.data.images.on_pixels import PixelTargets, model_tasks
from tl.data.images.resident import ImageDataset
from tl.data.label_tasks import are_classes
from tl.data.options import check_options
from tl.data.sampling import check_balanced_by
from tl.data.shifts.shift import Shift
from tl.data.shifts.shifted import shifted, unshifted
from tl.data.split import Split, random_split, stratified_split
from tl.tasks import Classification


@dataclass(kw_only=True, eq=False)
class ImageDataModule(FollowingSource, ABC):
    """Labelled images of one source: seeded validation split, label fraction, fast loaders.

    The values of the options in force are in ``settings``.

    Args:
        balanced_by: Task or target whose classes are balanced, if the source has several.
    """

    balanced_by: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        check_options(self)
        self.check_learns(on_pixels=type(self).tasks is not ImageDataModule.tasks)
        self.image_size: Size = 32
        self.data_name = self._default_name()
        self.splits = {}
        self.statistics = self.trained_on = self._unread = self._pipeline = None
        self._adopted = {}
        self._inherited = set()
        self._labelled = self._divided = self._test_keys = None
        self.inherit()

    # What a kind of source defines

    @abstractmethod
    def _default_name(self) -> str:
        """Return the name of the data set, which its task takes."""

    @property
    def set_name(self) -> str:
        """Name of the data set, whatever its source is called."""
        return self._default_name()

    @abstractmethod
    def load(self, split: Split) -> ImageDataset:
        """Read one official split with the targets of `target_classes` and `strata`.

        Raises:
            DataError: If the data are missing or damaged.
        """

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Return the target whose classes the split keeps in proportion, and their names.

        It is the finest one, even if only coarser labels are requested: an image that trains under
        its coarse label must not validate under its fine one. Without a target of one class per
        image, as for numbers, several labels or maps, it is ``("", ())`` and the split is random.
        """
        classes = self.target_classes()
        single_class = (
            (target, classes[target])
            for target, task in self._tasks_by_target()
            if isinstance(task, Classification) and not task.multi_label
        )
        return next(single_class, ("", ()))

    def caches(self) -> bool:
        """Return whether `load` decodes image files into the cache."""
        return False

    # Loading

    def prepare_data(self) -> None:
        """Fill the cache before several processes load, so that only one decodes."""
        if self.trainer is None or self.trainer.world_size == 1:
            return
        stage = self.trainer.state.fn
        # in an evaluation, `setup` reports what is missing
        with suppress(*([] if stage == TrainerFn.FITTING else [DataError])):
            self._fill_cache(stage)

    def _fill_cache(self, stage: str | None) -> None:
        if self.trained_on is not None and stage in (TrainerFn.TESTING, TrainerFn.PREDICTING):
            if self.caches() and not self._predicts_folder():
                self.load("test")
        elif self.caches():
            self.load("train")
            if stage == TrainerFn.TESTING:
                self.load("test")

    def _predicts_folder(self) -> bool:
        """Return whether the run predicts a folder, which needs no other images."""
        predicts = self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING
        return predicts and self.settings.predict_folder is not None

    def setup(self, stage: str) -> None:
        """Load what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``.

        A Trainer's evaluation reads its checkpoint after this. Unreadable training data are an
        error only if the checkpoint does not replace them.

        Raises:
            DataError: If the data are missing, damaged, or labelled out of range.
        """
        self._unread = None
        if stage == "fit":
            settings = self.settings
            check_balanced_by(settings.sampling, settings.balanced_by, self.data_name)
        running = self.trainer.state.fn if self.trainer is not None else None
        try:
            self._load_for(stage)
        except DataError as error:
            if stage == "fit" or running != stage or self.trained_on is not None:
                raise
            self._unread = DataError(
                f"{error} For an evaluation, a checkpoint given as `ckpt_path` provides classes "
                "and normalisation."
            )
        if stage == "fit" and self.learns is not None and not self.takes("augment"):
            rank_zero_info(
                f"tl: {self.data_name}: two views of each image are made as `views` says; "
                "`augment` has no effect."
            )
        if self.shift is not None and self.shift.name == "jpeg" and self.splits:
            rank_zero_info(
                f"tl: {self.data_name}: images that were stored as JPEG hardly change under the "
                "shift 'jpeg'; the means of `tl test --shifts` leave it out."
            )
        if self._pipeline is not None:
            own = [*self.tasks, *model_tasks(self, self.data_name)]
            self._pipeline.on_pixels = PixelTargets(own)

    @property
    def waits(self) -> bool:
        """Whether an evaluation needs its checkpoint to replace missing data."""
        return self._unread is not None

    def _load_for(self, stage: str) -> None:
        if self.trained_on is not None and stage == "fit":
            self._forget()  # training data have classes, sizes and statistics of their own
        wants_test = stage == "test" or (stage == "predict" and not self.settings.predict_folder)
        if wants_test and "test" not in self.official_splits():
            self.load("test")  # reports what is missing before anything is read
        if self.trained_on is not None:
            self._setup_evaluation(self.trained_on, stage)
        elif "train" not in self.splits:
            own_val = "val" in self.official_splits()
            # The statistics and the validation part both come from the training split.
            whole, settings = self._read("train"), self.settings
            val_size = 0.0 if own_val else settings.val_size
            parts = self._divide(whole, val_size, settings.label_fraction, settings.seed)
            self.statistics = self._labelled_statistics() or self._statistics(whole)
            self._pipeline = self._new_pipeline(self.statistics)
            if own_val:
                parts["val"] = self._read("val").only(self.target_classes())
            self.splits |= parts
        if wants_test and "test" not in self.splits:
            self.splits["test"] = self._read("test").only(self.target_classes())
        if stage == "predict":
            self.splits["predict"] = self._predict_split()

    def _statistics(self, whole: ImageDataset) -> tuple[Tensor, Tensor]:
        return whole.statistics()

    def _divide(
        self, whole: ImageDataset, val_size: float, label_fraction: float, seed: int
    ) -> dict[str, ImageDataset]:
        """Split the training images into ``train`` and ``val``, in proportion to their classes.

        Images that do not have one class each, or whose labels are withheld, are split at random;
        of withheld labels, those validate that a labelled source of the same images holds out.
        """
        if self.withholds:
            known = self._labelled.held_out_of(whole) if self._labelled and val_size > 0 else None
            train, val = random_split(len(whole), val_size, label_fraction, seed, held_out=known)
            held = whole.subset(val).only(self.target_classes())
            if len(held):  # else the labels of all are not even looked at
                self._check_targets(held, "train")
            return {"train": whole.subset(train).only(()), "val": held}
        finest, classes = self.strata()
        labels = whole.targets.get(finest)
        if labels is not None and are_classes(labels):
            train, val = stratified_split(
                labels,
                val_size=val_size,
                label_fraction=label_fraction,
                seed=seed,
                classes=classes,
            )
        else:
            train, val = random_split(len(whole), val_size, label_fraction, seed)
        self._divided = (val, whole.subset(val))
        whole = whole.only(self.target_classes())
        return {"train": whole.subset(train), "val": whole.subset(val)}

    def _checked(self, split: Split) -> ImageDataset:
        """Load a split, and check its targets."""
        data = self.load(split)
        if split != "train" or not self.withholds:
            self._check_targets(data, split)
        return data

    def _read(self, split: Split) -> ImageDataset:
        data = self._checked(split)
        if self.shift is None:
            return data
        self.check_shift(self.shift)
        return shifted(data, self.shift, split)

    def show_shifted(self, shift: Shift | None) -> None:
        """Shift the test images that are loaded, without reading them again.

        For a moment: the option `shift`, fingerprint and description stay.

        Args:
            shift: In place of the one in force; ``None`` shows them as they are.

        Raises:
            DataError: If it moves pixels that targets lie on.
        """
        if shift is not None:
            self.check_shift(shift)
        clean = unshifted(self.splits["test"])
        self.splits["test"] = clean if shift is None else shifted(clean, shift, "test")
        self._ready().forget("test")

    def _predict_split(self) -> ImageDataset:
        """Return the images to predict, labelled by position to name them in the output."""
        folder = self.settings.predict_folder
        if folder is None:
            return self.splits["test"].unlabelled()
        paths, others = list_files(Path(folder).expanduser())
        log_left_out(others, folder)
        if not paths:
            raise DataError(f"`predict_folder` {folder} holds no images.")
        return self._predicted(paths, folder).unlabelled()

    def _predicted(self, paths: Sequence[Path], folder: str) -> StreamedDataset:
        """Return the images in a folder that can be read; the others are named."""
        bad: dict[int, str] = {}
        check_images(paths, self._reading, folder, bad)
        said = f"{len(bad)} of {len(paths)} images cannot be read: {reasons(bad, paths)}."
        if len(bad) == len(paths):
            raise DataError(f"{folder}: {said}")
        if bad:
            rank_zero_info(f"tl: {self.data_name}: not predicted, {said}")
        good = [path for row, path in enumerate(paths) if row not in bad]
        return StreamedDataset(good, {}, self._reading, [str(path) for path in good])

    @property
    def _reading(self) -> Reading:
        known = self.trained_on.pixel_range if self.trained_on is not None else None
        return Reading(self.image_size, known, default_cache(), self.settings.verify)

    # What was loaded

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data, in plain types.

        Reports and dashboards show it; a checkpoint holds it under ``tl.data``, by source if there
        are several.
        """
        mean, std = (s.tolist() for s in self.statistics) if self.statistics else (None, None)
        return {
            "name": self.data_name,
            "kind": self.kind(),
            "fingerprint": self.fingerprint,
            "root": self.settings.root,
            "images": {split: len(data) for split, data in self.splits.items()},
            "classes": {target: len(names) for target, names in self.target_classes().items()},
            "class_names": {t: list(names) for t, names in self.target_classes().items()},
            "groups": self.class_groups(),
            "image_size": self.image_size,
            "mean": mean,
            "std": std,
            "val_size": self.settings.val_size,
            "label_fraction": self.settings.label_fraction,
            "seed": self.settings.seed,
            **({} if self.views_made is None else {"views": asdict(self.views_made)}),
            **({} if self.shift is None else {"shift": self.shift.record()}),
            **({"labels": "none"} if self.withholds else {}),
        }
