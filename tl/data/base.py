"""What every data source shares: split, loaders, augmentation on the device, fingerprint."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from tl.data.errors import DataError, listed
from tl.data.images.augment import Augment
from tl.data.images.image_set import StreamedDataset, check_images
from tl.data.images.listing import list_files, log_left_out
from tl.data.images.on_pixels import PixelTargets, model_tasks
from tl.data.images.pipeline import Pipeline
from tl.data.images.resident import Batch, ImageDataset
from tl.data.images.store import Pick, StoredDataset
from tl.data.loaders import (
    EpochSampler,
    InOrderSampler,
    class_by_class,
    even_batch_size,
    is_cut,
    make_loader,
    position_of,
)
from tl.data.options import check_options, checked_option, refuse_misspelt
from tl.data.sampling import Sampling, balancing_task, labels_to_balance
from tl.data.settings import Settings
from tl.data.split import stratified_split
from tl.data.trained_on import TrainedOn, read_record, record_of, same_data, same_names
from tl.tasks import Classification

Split = Literal["train", "val", "test"]
_SETTINGS = frozenset(f.name for f in fields(Settings))
# what may change without loading anew
_LATE = frozenset(
    {*("batch_size", "eval_batch_size", "num_workers", "predict_folder"), "sampling", "balanced_by"}
)


@dataclass(kw_only=True, eq=False)
class ImageDataModule(LightningDataModule, ABC):
    """Labelled images of one source: seeded validation split, label fraction, fast loaders.

    The settings below may stay unset; then they come from the `MultiTaskDataModule` around this
    source, or are the stated defaults. Their values in force are in ``settings``.

    Args:
        root: Folder of the data sets, default ``data``.
        batch_size: Training images per step and process, default 128.
        eval_batch_size: Images per evaluation step and process, default 250.
        val_size: Share of each class of the training split that validates, default 0.1. With 0
            there is no validation. The test split never validates.
        label_fraction: Share of each class's training images that is used, default 1.0. Fractions
            are nested: 1 % is a part of 10 %; the validation images stay the same.
        seed: Seed of split, order and augmentation, default 0.
        augment: Random crop, flip and cutout of training images.
        num_workers: Loader processes, default 0. Images in memory need none; images streamed from
            files do. With workers, images are cut by them and moved to the device step by step.
        predict_folder: Folder of images, with or without labels, that ``predict`` reads; the test
            split by default.
        resident_share: Share of the memory of the device that trains (on a CPU: of the machine)
            that a split's images may take, default 0.25. They then stay there, laid out for the
            augmentation, and nothing is moved in a step. 0 turns it off.
        sampling: ``shuffled``, the default: each pass holds every training image once. With
            ``balanced``, every class comes equally often, against class imbalance; the epoch keeps
            its length.
        balanced_by: Task or target whose classes are balanced, where a source has several.
    """

    root: str | None = None
    batch_size: int | None = None
    eval_batch_size: int | None = None
    val_size: float | None = None
    label_fraction: float | None = None
    seed: int | None = None
    augment: Augment | None = None
    num_workers: int | None = None
    predict_folder: str | None = None
    resident_share: float | None = None
    sampling: Sampling | None = None
    balanced_by: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        check_options(self)
        self.image_size = 32
        self.data_name = self._default_name()
        self.splits: dict[str, ImageDataset] = {}
        self.statistics: tuple[Tensor, Tensor] | None = None
        self.trained_on: TrainedOn | None = None
        self._adopted: Mapping[str, Any] = {}
        self._unread: DataError | None = None  # why an evaluation has no images yet
        self._inherited: set[str] = set()  # options of a `MultiTaskDataModule` around this one
        self._pipeline: Pipeline | None = None
        self.inherit()

    # What a kind of source says of itself

    @abstractmethod
    def _default_name(self) -> str:
        """Name of the data set, used for its task."""

    @abstractmethod
    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target (``fine``, ``coarse``), known before anything is loaded."""

    @abstractmethod
    def load(self, split: Split) -> ImageDataset:
        """Read one official split, with the labels of `target_classes` and of `strata` at least.

        Raises:
            DataError: If the data are missing or damaged.
        """

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Target whose classes the split keeps in proportion, and their names.

        The finest there is, also where coarser labels are asked for: an image that trains under
        its coarse label must not validate under its fine one.
        """
        return next(iter(self.target_classes().items()))

    def official_splits(self) -> tuple[Split, ...]:
        """Splits that the source comes with; without ``val`` a part of ``train`` validates."""
        return ("train", "test")

    def caches(self) -> bool:
        """Say whether `load` decodes image files into the cache."""
        return False

    def kind(self) -> str:
        """Say where the pixels come from: ``real`` or ``generated``."""
        return "real"

    # Settings and names

    def takes(self, name: str) -> bool:
        """Return whether an option is taken from a `MultiTaskDataModule`: it is not set here."""
        # what was inherited before is not the source's own
        return getattr(self, name, ...) is None or name in self._inherited

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - whatever type the setting has
        """Take over settings for what this source does not set itself."""
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

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever it is
        """Set an attribute; an option takes effect, at the next `setup` if it chooses images.

        Raises:
            AttributeError: If the name is that of an option, misspelt.
            TypeError: If the value has another type than the option.
            ValueError: If the constructor refuses the value; the earlier one stays.
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

    @property
    def tasks(self) -> tuple[Classification, ...]:
        """One task per target: named after the data set, or ``<data>_<target>`` for several."""
        classes = self.target_classes()
        if len(classes) == 1:
            return (Classification(self.data_name, len(next(iter(classes.values())))),)
        return tuple(
            Classification(f"{self.data_name}_{target}", len(names), target=target)
            for target, names in classes.items()
        )

    @property
    def task(self) -> Classification | None:
        """The only task, or ``None`` where a source has several."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, in the order of the labels."""
        known = self.trained_on.classes if self.trained_on else self.target_classes()
        names = [known[target] for target in self.target_classes()]
        return {task.name: classes for task, classes in zip(self.tasks, names, strict=True)}

    @property
    def task_groups(self) -> dict[str, dict[str, str]]:
        """The group of each class by name, for a task whose labels are these groups."""
        groups = self.class_groups()
        targets = zip(self.tasks, self.target_classes(), strict=True)
        return {task.name: groups for task, target in targets if target == "coarse" and groups}

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes by task."""
        return {task.name: task.num_classes for task in self.tasks}

    # Loading

    def prepare_data(self) -> None:
        """Fill the cache where several processes are about to load: only one decodes."""
        if self.trainer is None or self.trainer.world_size == 1:
            return
        stage = self.trainer.state.fn
        # of an evaluation `setup` says what is missing
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
        """Return whether the run predicts a folder, for which no set of images is needed."""
        predicts = self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING
        return predicts and self.settings.predict_folder is not None

    def setup(self, stage: str) -> None:
        """Load what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``.

        In a Trainer's evaluation, which reads its checkpoint later than this, what cannot be read
        is an error only if that checkpoint does not tell what is missing.

        Raises:
            DataError: If the data are missing, damaged, or labelled out of range.
        """
        self._unread = None
        running = self.trainer.state.fn if self.trainer is not None else None
        try:
            self._load_for(stage)
        except DataError as error:
            if stage == "fit" or running != stage or self.trained_on is not None:
                raise
            self._unread = DataError(
                f"{error} For an evaluation, a checkpoint given as `ckpt_path` tells classes and "
                "normalisation."
            )
        if self._pipeline is not None:
            own = [*self.tasks, *model_tasks(self, self.data_name)]
            self._pipeline.on_pixels = PixelTargets(own)

    @property
    def waits(self) -> bool:
        """Whether an evaluation waits for its checkpoint to tell what could not be read."""
        return self._unread is not None

    def _load_for(self, stage: str) -> None:
        if self.trained_on is not None and stage == "fit":
            self._forget()  # what trains has classes, sizes and statistics of its own
        wants_test = stage == "test" or (stage == "predict" and not self.settings.predict_folder)
        if wants_test and "test" not in self.official_splits():
            self.load("test")  # says what is missing before anything is read
        if self.trained_on is not None:
            self._setup_evaluation(self.trained_on, stage)
        elif "train" not in self.splits:
            own_val = "val" in self.official_splits()
            # The statistics and the validation part both come from the training split.
            whole = self._checked("train")
            finest, classes = self.strata()
            train, val = stratified_split(
                whole.targets[finest],
                val_size=0.0 if own_val else self.settings.val_size,
                label_fraction=self.settings.label_fraction,
                seed=self.settings.seed,
                classes=classes,
            )
            whole = whole.only(self.target_classes())
            self.statistics = self._statistics(whole)
            self._pipeline = Pipeline(self.data_name, self.settings, self.statistics, self.tasks)
            held_out = (
                self._checked("val").only(self.target_classes()) if own_val else whole.subset(val)
            )
            self.splits |= {"train": whole.subset(train), "val": held_out}
        if wants_test and "test" not in self.splits:
            self.splits["test"] = self._checked("test").only(self.target_classes())
        if stage == "predict":
            self.splits["predict"] = self._predict_split()

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> None:
        """Evaluate as a checkpoint was trained: by its classes, image size, statistics and split.

        Labels follow the checkpoint's class names, whatever order the folders have now; what
        validates is what it held out. The next `setup` for ``fit`` ends it.

        Args:
            record: What `describe` gave when the checkpoint was written, by source or of one.
            sources: How many there are, where this is one of the sources of several tasks.

        Raises:
            DataError: If the checkpoint has other sources, targets or classes.
        """
        part = record_of(record, self.data_name, sources or 1)
        if self.trained_on is not None:
            if part == self._adopted:
                return
            self._forget()  # of another checkpoint
        known = read_record(part)
        if known is None:
            rank_zero_info(
                f"tl: the checkpoint does not keep the classes and the normalisation of "
                f"{self.data_name}: those of the training images found here are taken."
            )
            return
        if "train" in self.splits and self.fingerprint == known.fingerprint:
            for target, names in self.target_classes().items():
                same_names(known.classes.get(target, ()), names, "classes", self.data_name)
            return  # the very data that were trained on
        self._forget()
        own = self._targets_asked_for()
        if own is not None and set(own) != set(known.classes):
            raise DataError(
                f"The checkpoint was trained on the targets {listed(sorted(known.classes))}, "
                f"{self.data_name} gives {listed(sorted(own))}; choose the same `targets`."
            )
        self._take_size(known.image_size)
        self._say_other_split(known)
        self.trained_on, self._adopted = known, dict(part)
        self._reload()

    def _forget(self) -> None:
        self.trained_on = None
        self._reload()

    def _reload(self) -> None:
        """Let the next `setup` load everything anew."""
        self.splits.clear()
        self.__dict__.pop("fingerprint", None)
        self.statistics, self._pipeline = None, None
        if (known := self.trained_on) is not None:
            self.statistics = (known.mean, known.std)
            self._pipeline = Pipeline(self.data_name, self.settings, self.statistics, self.tasks)

    def _targets_asked_for(self) -> Iterable[str] | None:
        """Targets that the settings ask for; ``None`` where only the data tell."""
        return None

    def _take_size(self, size: int) -> None:
        """Take over the size of a checkpoint's images, or refuse it.

        Raises:
            DataError: If the images have another size, which is fixed.
        """
        if size != self.image_size:
            raise DataError(
                f"The checkpoint was trained on images of {size}x{size} pixels, "
                f"{self.data_name} has {self.image_size}x{self.image_size}."
            )

    def _say_other_split(self, known: TrainedOn) -> None:
        changed = [
            f"{name} {getattr(known, name)} there, {getattr(self.settings, name)} here"
            for name in ("seed", "val_size", "label_fraction")
            if getattr(known, name) != getattr(self.settings, name)
        ]
        if changed:
            rank_zero_info(
                f"tl: {self.data_name}: the checkpoint's split is taken, not that of the settings: "
                f"{'; '.join(changed)}."
            )

    def _setup_evaluation(self, known: TrainedOn, stage: str) -> None:
        if stage == "predict" and self.settings.predict_folder:
            return
        for target, names in self.target_classes().items():
            same_names(known.classes.get(target, ()), names, "classes", self.data_name)
        if known.kind == "real" and self.kind() == "generated":
            raise self._not_real()
        if stage == "validate" and "val" not in self.splits:
            self.splits |= self._held_out(known)

    def _held_out(self, known: TrainedOn) -> dict[str, ImageDataset]:
        """Load what a checkpoint did not train on.

        Raises:
            DataError: If that cannot be told any more.
        """
        if known.val_folder is not None and "val" in self.official_splits():
            return {"val": self._checked("val").only(self.target_classes())}
        found = self._trained_part(known)
        now = self._hash(found)
        if now != known.fingerprint:
            raise DataError(
                f"{self.data_name}: the checkpoint was trained on {known.fingerprint}, the "
                f"training images here are {now}: which of them it held out cannot be told. "
                "Validate on the images that it was trained on, or use `test`."
            )
        return found

    def _trained_part(self, known: TrainedOn) -> dict[str, ImageDataset]:
        """Split the training images as in the training of a checkpoint."""
        whole = self._checked("train")
        finest, classes = self.strata()
        train, val = stratified_split(
            whole.targets[finest],
            val_size=0.0 if known.val_folder is not None else known.val_size,
            label_fraction=known.label_fraction,
            seed=known.seed,
            classes=classes,
        )
        whole = whole.only(self.target_classes())
        return {"train": whole.subset(train), "val": whole.subset(val)}

    def _statistics(self, whole: ImageDataset) -> tuple[Tensor, Tensor]:
        return whole.statistics()

    def _checked(self, split: Split) -> ImageDataset:
        data = self.load(split)
        for target, names in self.target_classes().items():
            labels = data.targets[target]
            wrong = ((labels < 0) | (labels >= len(names))).nonzero()
            if len(wrong):
                first = int(wrong[0])
                raise DataError(
                    f"{self.data_name}: {split} image {data.name(first)} has the label "
                    f"{int(labels[first])} ({target}), expected 0 to {len(names) - 1} for "
                    f"{len(names)} classes; so have {len(wrong)} of {len(labels)} images."
                )
        return data

    def _predict_split(self) -> ImageDataset:
        """Images to predict; their "labels" are their positions, to name them in the output."""
        folder = self.settings.predict_folder
        if folder is None:
            return self.splits["test"].unlabelled()
        paths, others = list_files(Path(folder).expanduser())
        log_left_out(others, folder)
        if not paths:
            raise DataError(f"`predict_folder` {folder} holds no images.")
        return self._predicted(paths, folder).unlabelled()

    def _predicted(self, paths: Sequence[Path], folder: str) -> StreamedDataset:
        check_images(paths, self.image_size, folder)
        return StreamedDataset(paths, {}, self.image_size, [str(p) for p in paths])

    # Loaders

    def train_steps(self) -> int:
        """Steps of one pass over the training images by all processes together, at least 1."""
        return max(1, len(self.splits["train"]) // (self.settings.batch_size * self._world()))

    def train_dataloader(self, steps: int | None = None) -> DataLoader[Batch]:
        """Shuffled training batches.

        In a Trainer's run, images that lie on its device come as `store.Pick`: `transform`
        cuts them.

        Args:
            steps: Length of the epoch; one pass by default. Longer epochs recycle the images in a
                new order for each pass.
        """
        if "train" not in self.splits and self.trained_on is not None:
            self.splits["train"] = self._trained_part(self.trained_on)["train"]
        data = self.splits["train"]
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            loader = self._in_order("train", self.settings.batch_size)
            cast("EpochSampler", loader.sampler).position = self._position
            return loader
        steps = steps or self.train_steps()
        stored = self._stored("train")
        sampler = EpochSampler(
            data,
            batch_size=min(self.settings.batch_size, math.ceil(len(data) / self._world())),
            steps_per_epoch=steps,
            seed=self.settings.seed,
            num_replicas=self._world(),
            rank=self._rank(),
            device=self._root_device() if stored else None,
            balanced=self._balanced(data),
        )
        if self.trainer is not None:
            sampler.position = self._position
        return make_loader(stored or data, sampler, self.settings.num_workers)

    def _balanced(self, data: ImageDataset) -> Tensor | None:
        """Return the classes to balance, if any."""
        if self.settings.sampling != "balanced":
            return None
        task = balancing_task(self.tasks, self.settings.balanced_by, self.data_name)
        targets = dict(zip([task.name for task in self.tasks], data.targets.values(), strict=True))
        return labels_to_balance(task, targets[task.name], self.data_name)

    def _position(self) -> tuple[int, int]:
        return position_of(cast("Trainer", self.trainer))

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Every validation image once over all processes; an empty list if `val_size` is 0.

        Raises:
            DataError: If `val_size` is 0 and validation is what was asked for.
        """
        if self._unread is not None:
            raise self._unread
        if not len(self.splits["val"]) and self.trainer and self.trainer.state.fn == "validate":
            raise DataError(
                f"{self.data_name} has no validation images: `val_size` is 0. Use `test`, or "
                "validate with the `val_size` of the training run."
            )
        return self._in_order("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test image once over all processes."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The images to predict, in order."""
        return self._in_order("predict")

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Batch]:
        if self._unread is not None:
            raise self._unread
        data = self.splits[split]
        world = self._world()
        stored = self._stored(split)
        batch_size = batch_size or self.settings.eval_batch_size
        sampler = InOrderSampler(
            data,
            batch_size=even_batch_size(len(data), world, batch_size),
            num_replicas=world,
            rank=self._rank(),
            device=self._root_device() if stored else None,
            sequence=_mixed(data) if is_cut(self.trainer, split) else None,
        )
        return make_loader(stored or data, sampler, self.settings.num_workers)

    def _stored(self, split: str) -> StoredDataset | None:
        return self._ready().stored(split, self.splits[split], self._root_device())

    def _root_device(self) -> torch.device | None:
        return self.trainer.strategy.root_device if self.trainer is not None else None

    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    # On the device

    def transfer_batch_to_device(
        self,
        batch: Any,  # noqa: ANN401
        device: torch.device,
        dataloader_idx: int,
    ) -> Any:  # noqa: ANN401
        """Move a batch to the device that trains, unless it lies there."""
        if isinstance(batch, tuple) and isinstance(batch[0], Pick):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training images and normalise all, on the device that trains."""
        del dataloader_idx
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return self._in_precision(self.transform(batch, None))
        step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        draws = self._ready().draws(batch, trainer.current_epoch, step, trainer.global_rank)
        return self._in_precision(self.transform(batch, draws))

    def _in_precision(self, batch: Batch) -> Batch:
        """Give images the type of the weights, where the Trainer keeps those in another."""
        if self.trainer is None:
            return batch
        converted: Batch = self.trainer.precision_plugin.convert_input(batch)
        return converted

    def transform(self, batch: Batch, draws: Tensor | None) -> Batch:
        """Normalise a batch, and augment it first where random numbers are given.

        Args:
            batch: Images ``(N, 3, H, W)`` uint8, or a `Pick` of them, and their labels.
            draws: Random numbers of the augmentation ``(5, N)``; ``None`` for evaluation.

        Returns:
            Images ``(N, 3, H, W)`` float32 in channels-last memory, and the labels.
        """
        return self._ready().transform(batch, draws)

    def _ready(self) -> Pipeline:
        if self._pipeline is None:
            raise RuntimeError(
                "Call `setup` before `transform`: the statistics come from the data."
            )
        return self._pipeline

    # What was loaded

    def _not_real(self) -> DataError:
        return DataError(
            f"{self.data_name}: the model was trained on real images, and these are synthetic. "
            "Put the real ones where `root` says, or let them be downloaded."
        )

    @cached_property
    def fingerprint(self) -> str:
        """Kind of the data and a hash of what was loaded to train and validate.

        Pixels, labels, split and label fraction all change it; batch size and augmentation do
        not, nor does the name of a folder.
        """
        if self.trained_on is not None and "train" not in self.splits:
            return self.trained_on.fingerprint
        return self._hash(self.splits)

    def _hash(self, splits: Mapping[str, ImageDataset]) -> str:
        digest = hashlib.sha256()
        for split in ("train", "val"):
            digest.update(splits[split].digest().encode())
        return f"{self.kind()}:{digest.hexdigest()[:16]}"

    def class_groups(self) -> dict[str, str] | None:
        """Return the group of each class by name, or ``None`` where classes have none."""
        return None

    def _channel_statistics(self) -> dict[str, list[float] | None]:
        """Return what images are normalised by, in pixel values: ``mean`` and ``std``."""
        found = self.statistics or (None, None)
        return {
            key: None if value is None else value.tolist()
            for key, value in zip(("mean", "std"), found, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return in plain types what was loaded: for reports, dashboards and checkpoints.

        A checkpoint keeps it under ``tl.data``, by source where there are several.
        """
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
            **self._channel_statistics(),
            "val_size": self.settings.val_size,
            "label_fraction": self.settings.label_fraction,
            "seed": self.settings.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must find again, and an evaluation must know."""
        seeded_by = self._ready().name
        return {"fingerprint": self.fingerprint, "record": self.describe(), "seeded_by": seeded_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data; evaluate as the checkpoint was trained.

        Data whose folder has another name now are augmented as under the earlier one.

        A model of real images is not evaluated on synthetic ones, nor with their class names.

        Raises:
            DataError: If the fingerprint or the classes differ from the checkpoint's, or the kind.
        """
        record = state_dict.get("record") or {}
        stage = self.trainer.state.fn if self.trainer is not None else None
        fits = stage in (None, TrainerFn.FITTING)
        if stage is not None and not fits and record:
            before = self.trained_on
            self.adopt(record)
            if self.trained_on is not before:
                self.setup(stage.value)
            return
        if self._unread is not None:
            raise self._unread
        then, now = str(state_dict.get("fingerprint")), self.fingerprint
        if then.startswith("real:") and now.startswith("generated:"):
            raise self._not_real()
        if self.trainer is None or not fits:
            return
        for target, names in (record.get("class_names") or {}).items():
            same_names(names, self.target_classes().get(target, ()), "classes", self.data_name)
        same_data(self.data_name, then, now, "data, label fraction, validation size and seed")
        self._ready().name = str(state_dict.get("seeded_by", self.data_name))


def _mixed(data: ImageDataset) -> Tensor | None:
    """Return an order of which every beginning is a fair part, by the first labels of images."""
    labels = [found for found in data.targets.values() if found.ndim == 1]
    return class_by_class(labels[0]) if labels else None
