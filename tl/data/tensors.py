"""Arrays in memory: the shortest way to train on your own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl.batch import Inputs, on_each, size_of
from tl.data.errors import DataError
from tl.data.images.augment import Augment
from tl.data.images.on_pixels import model_tasks
from tl.data.images.tensor_augmentation import TensorAugmentation
from tl.data.loaders import EpochSampler, is_cut, make_loader, random_order
from tl.data.options import arguments_of, refuse_misspelt
from tl.data.sampling import Sampling, balancing_task, check_balanced_by, labels_to_balance
from tl.data.shifts.shift import Shift
from tl.data.split import random_split
from tl.data.tensor_set import TensorSet, said_layout
from tl.data.tensor_statistics import standardised
from tl.data.tensors_as_trained import TrainedTensors
from tl.tasks import Task, as_task


class TensorDataModule(TrainedTensors):
    """Inputs and targets that are arrays, tensors, or files of them.

    Inputs are one array whose first dimension counts the samples, such as images ``(N, C, H, W)``
    with any number of channels or signals ``(N, C, L)``, or a dict of such. Targets are one array,
    or a dict by the `target` of the tasks. Inputs of bytes and other levels (``uint8``, ``int8``,
    ``uint16``, ``int16``, ``uint32``) are standardised per channel, by mean and standard deviation
    of the training samples. Other inputs stay as they are, floats in single precision.

    Args:
        inputs: Arrays, tensors, or paths of ``.npy`` or ``.safetensors`` files.
        targets: Like `inputs`; NaN, or -1 for classes, marks a missing target.
        tasks: What to learn from them.
        batch_size: Samples per process and step.
        val_size: Fraction of the samples that validates, 0 or more and below 1.
        test_inputs: Inputs for ``test`` and ``predict``.
        test_targets: Their targets; not needed to predict.
        seed: Seed of split and order, default 0; on the command line, that of `seed_everything`. If
            it or `val_size` changes, as for folds, the next `setup` splits again.
        sampling: ``shuffled``: each epoch holds every training sample once. ``balanced``: every
            class occurs equally often, against class imbalance; the length of the epoch stays.
        balanced_by: Task or target whose classes are balanced, if there are several.
        augment: Random crop, flip and cutout of training images ``(N, C, H, W)``. Targets on the
            pixels move with them. Off by default.
        shift: Shows all images, ``uint8`` ``(N, 3, H, W)``, as another camera, another weather or
            another style would: name and severity from 1 to 5.

    Raises:
        TypeError: If `augment` is not an `Augment`, or `shift` not a `Shift`.
        ValueError: If an option is out of range.
    """

    tasks: tuple[Task, ...] = ()
    _to_resume = "samples, shift, validation size and seed"

    def __init__(
        self,
        inputs: Any,  # noqa: ANN401 - see above
        targets: Any,  # noqa: ANN401 - see above
        tasks: Sequence[Task],
        batch_size: int = 32,
        val_size: float = 0.1,
        test_inputs: Any = None,  # noqa: ANN401 - see above
        test_targets: Any = None,  # noqa: ANN401 - see above
        seed: int | None = None,
        sampling: Sampling = "shuffled",
        balanced_by: str | None = None,
        augment: Augment | None = None,
        shift: Shift | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.val_size = val_size
        self.sampling = sampling
        self.augment = augment
        self.shift = shift
        if test_inputs is None and test_targets is not None:
            raise ValueError("`test_targets` are of `test_inputs`, which are not set.")
        self.tasks = tuple(as_task(task) for task in tasks)
        if not self.tasks:
            raise ValueError("`tasks` is empty; give at least one task.")
        self.seed = 0 if seed is None else seed
        self.balanced_by = balanced_by
        self.splits = {}
        self._split_by = self._own = self._statistics = self._layout = None
        self._augmentation: TensorAugmentation | None = None
        self._given = (inputs, targets, test_inputs, test_targets)  # last: the rest is set

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any value
        """Set an attribute; an option takes effect at the next `setup`.

        Raises:
            AttributeError: If the name is a misspelt option, or one that cannot change.
            TypeError: If `augment` is not an `Augment`, or `shift` not a `Shift`.
            ValueError: If the value is out of range; the old value stays.
        """
        if name == "batch_size" and value < 1:
            raise ValueError(f"`batch_size` must be 1 or more, got {value}.")
        if name == "val_size" and not 0 <= value < 1:
            raise ValueError(f"`val_size` must be 0 or more and below 1, got {value}.")
        if name == "sampling" and value not in get_args(Sampling):
            raise ValueError(
                f"`sampling` must be one of {', '.join(get_args(Sampling))}, got {value!r}."
            )
        if name == "augment" and not isinstance(value, Augment | None):
            raise TypeError(f"`augment` must be an Augment or null, got {value!r}.")
        if name == "shift" and not isinstance(value, Shift | None):
            raise TypeError(f"`shift` must be a Shift or null, got {value!r}.")
        if "_given" in self.__dict__ and name not in self.__dict__:
            self._check_new(name)
        elif name in ("tasks", "shift") and "_given" in self.__dict__:
            self.splits.clear()  # which hold what the former tasks read, or the former shift
            if name == "shift" and self._own is None:  # else a checkpoint's statistics hold
                self._statistics = None
        super().__setattr__(name, value)

    def _check_new(self, name: str) -> None:
        """Refuse an attribute that is an option without effect, or resembles one."""
        options = arguments_of(type(self))
        if name not in options:
            refuse_misspelt(self, name, options)
        elif type(self).__module__.startswith("tl."):  # others may call their own so
            raise AttributeError(f"`{name}` cannot change; make a new {type(self).__name__}.")

    # Loading

    def setup(self, stage: str) -> None:
        """Read and split the samples, and check all targets.

        Raises:
            DataError: If a file cannot be read, lengths differ, or a target does not fit its task.
        """
        if stage == "fit":
            check_balanced_by(self.sampling, self.balanced_by, "The data")
            self._forget()
        inputs, targets, test_inputs, test_targets = self._given
        if targets is None and stage in ("fit", "validate"):
            raise DataError("`targets` are needed to train; without them, samples are predicted.")
        if self._split_by not in (None, (self.seed, self.val_size)):
            self._clear()
        self._split_by = (self.seed, self.val_size)
        if "train" not in self.splits and (stage != "predict" or test_inputs is None):
            whole = self._read(inputs, targets, "train")
            train, val = random_split(len(whole), self.val_size, 1.0, self.seed, "samples")
            self.splits |= {"val": whole.subset(val), "train": whole.subset(train)}
            if self._statistics is None:
                self._statistics = self.splits["train"].statistics()
                self._layout = whole.layout()
        if "test" not in self.splits and test_inputs is not None:
            self.splits["test"] = self._read(test_inputs, test_targets, "test")
        if stage == "fit":
            self._check_labelled()
        self._augmentation = self._new_augmentation() if stage == "fit" else None

    def _read(self, inputs: Any, targets: Any, split: str) -> TensorSet:  # noqa: ANN401 - see above
        """Read, check and shift samples."""
        prefix = "test_" if split == "test" else ""
        data = TensorSet.read(inputs, targets, self.tasks, prefix)
        self._check_layout(data, f"{prefix}inputs")
        if self.shift is None:
            return data
        self.check_shift(self.shift, data)
        return data.shifted(self.shift, split)

    def _check_labelled(self) -> None:
        """Refuse training samples without any target."""
        trained = [task for task in self.tasks if task.trains]
        if trained and not any(self.splits["train"].labelled(task) for task in trained):
            raise DataError(
                f"All targets of the {len(self.splits['train'])} training samples are missing (-1 "
                "or NaN): there is nothing to learn."
            )

    def _new_augmentation(self) -> TensorAugmentation | None:
        if self.augment is None:
            return None
        data = self.splits["train"]
        tasks = [*self.tasks, *model_tasks(self)]
        targets = cast("Inputs", data.targets)
        colours = data.means(without=self._statistics or {})
        return TensorAugmentation(self.augment, self.seed, data.inputs, targets, tasks, colours)

    def _check_layout(self, data: TensorSet, what: str) -> None:
        """Refuse samples whose shape or type differs from the training samples."""
        found = data.layout()
        if self._layout not in (None, found):
            raise DataError(
                f"Samples of `{what}` are {said_layout(found)}; those that the model is trained on "
                f"are {said_layout(self._layout or {})}."
            )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Standardise levels, and augment training images, on the training device."""
        del dataloader_idx
        (inputs, targets), trainer = self.standardise(batch), self.trainer
        if trainer is None:
            return inputs, targets
        if self._augmentation is not None and trainer.training:
            step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            where = (trainer.current_epoch, step, trainer.global_rank)
            inputs, targets = self._augmentation(inputs, targets, *where)
        return trainer.precision_plugin.convert_input((inputs, targets))

    def standardise(self, batch: tuple[Inputs, Any]) -> tuple[Inputs, Any]:
        """Return a batch with levels standardised, not augmented."""
        inputs, targets = batch
        return standardised(inputs, self._statistics or {}), targets

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches; a resumed run continues within an epoch."""
        data = self.splits["train"]
        if self._overfits:
            return self._overfitting(self._in_order("train"))
        size = self._train_batch(self.batch_size)
        sampler = EpochSampler(
            data,
            batch_size=size,
            steps_per_epoch=self._steps(size),
            seed=self.seed,
            num_replicas=self._world(),
            rank=self._rank(),
            balanced=self._balanced(data),
        )
        return make_loader(data, self._resumable(sampler), 0)

    def _balanced(self, data: TensorSet) -> Tensor | None:
        """Return the classes to balance, if any."""
        if self.sampling != "balanced":
            return None
        task = balancing_task(self.tasks, self.balanced_by, "The data")
        targets = on_each(lambda part: part[data.rows], cast("Inputs", data.targets))
        return labels_to_balance(task, targets, "The data")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return every test sample once over all processes.

        Raises:
            DataError: If there are none.
        """
        if "test" not in self.splits:
            raise DataError("There is nothing to test: give `test_inputs` and `test_targets`.")
        if self.splits["test"].targets is None:
            raise DataError("`test_inputs` without targets are predicted; give `test_targets`.")
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test inputs in order; without any, all other inputs."""
        data = self.splits["test" if "test" in self.splits else "train"]
        rows = torch.arange(size_of(data.inputs))
        self.splits["predict"] = TensorSet(data.inputs, None, rows)
        return self._in_order("predict")

    def _in_order(self, split: str) -> DataLoader[Any]:
        data = self.splits[split]
        sequence = random_order(self.trainer, split, len(data))
        if sequence is None and is_cut(self.trainer, split):
            sequence = data.mixed()
        return make_loader(data, self._sampler_in_order(data, self.batch_size, sequence), 0)
