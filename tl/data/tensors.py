"""Arrays in memory, of whatever is to be learned from: the shortest way to data of one's own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl.batch import Inputs, on_each, shapes_of, size_of
from tl.data.errors import DataError
from tl.data.loaders import EpochSampler, InOrderSampler, even_batch_size, make_loader, position_of
from tl.data.resident import mixed_seed
from tl.tasks import Task, as_task

Layout = dict[str, tuple[tuple[int, ...], bool]]  # shape, and whether it is standardised
_CHANNELS = 2  # dimensions from which on the second one is that of channels


class TensorDataModule(LightningDataModule):
    """Inputs and targets that are arrays, tensors, or files of them.

    Inputs are one array whose first dimension counts the samples, such as images ``(N, C, H, W)``
    with any number of channels or signals ``(N, C, L)``, or a dict of such. Targets are one array,
    or a dict by the `target` of the tasks. Inputs of bytes are standardised per channel, by mean
    and deviation of the training samples; other numbers are taken as they are.

    Args:
        inputs: Arrays, tensors, or paths of ``.npy`` or ``.safetensors`` files.
        targets: As `inputs`; NaN, and -1 among class numbers, marks a target that is missing.
        tasks: What is to be learned from them.
        batch_size: Samples per process and step.
        val_size: Share of the samples that validates, 0 or more and below 1.
        test_inputs: What ``test`` and ``predict`` read.
        test_targets: Their targets; not needed to predict.
        seed: Seed of the split and of the order.

    Raises:
        ValueError: If an option is out of range.
    """

    tasks: tuple[Task, ...] = ()

    def __init__(
        self,
        inputs: Any,  # noqa: ANN401 - see above
        targets: Any,  # noqa: ANN401 - see above
        tasks: Sequence[Task],
        batch_size: int = 32,
        val_size: float = 0.1,
        test_inputs: Any = None,  # noqa: ANN401 - see above
        test_targets: Any = None,  # noqa: ANN401 - see above
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be 1 or more, got {batch_size}.")
        if not 0 <= val_size < 1:
            raise ValueError(f"`val_size` must be 0 or more and below 1, got {val_size}.")
        self.tasks = tuple(as_task(task) for task in tasks)
        if not self.tasks:
            raise ValueError("`tasks` is empty; give at least one task.")
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        self.splits: dict[str, TensorSet] = {}
        self._given = (inputs, targets, test_inputs, test_targets)
        self._statistics: dict[str, tuple[Tensor, Tensor]] | None = None
        self._layout: Layout | None = None  # of the samples that the statistics are of

    @property
    def task(self) -> Task | None:
        """The only task, or ``None`` where there are several."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    # What there is

    def setup(self, stage: str) -> None:
        """Read and split the samples, and check all targets.

        Raises:
            DataError: If a file cannot be read, lengths differ, or a target is not one of its task.
        """
        inputs, targets, test_inputs, test_targets = self._given
        if targets is None and stage in ("fit", "validate"):
            raise DataError("`targets` are needed to train; without them, samples are predicted.")
        if "train" not in self.splits and (stage != "predict" or test_inputs is None):
            whole = TensorSet.read(inputs, targets, self.tasks, "")
            self._check_layout(whole, "inputs")
            order = torch.randperm(
                len(whole), generator=torch.Generator().manual_seed(mixed_seed("split", self.seed))
            )
            held = math.ceil(len(whole) * self.val_size)
            if held >= len(whole):
                raise DataError(
                    f"`val_size` of {self.val_size:g} leaves none of {len(whole)} samples to train."
                )
            self.splits["val"] = whole.subset(order[:held].sort().values)
            self.splits["train"] = whole.subset(order[held:].sort().values)
            if self._statistics is None:
                self._statistics = self.splits["train"].statistics()
                self._layout = whole.layout()
        if "test" not in self.splits and test_inputs is not None:
            self.splits["test"] = TensorSet.read(test_inputs, test_targets, self.tasks, "test_")
            self._check_layout(self.splits["test"], "test_inputs")

    def _check_layout(self, data: TensorSet, what: str) -> None:
        """Refuse samples of another shape or kind than those that the network learns from."""
        found = data.layout()
        if self._layout not in (None, found):
            raise DataError(
                f"Samples of `{what}` are {said_layout(found)}; those that the model is trained on "
                f"are {said_layout(self._layout or {})}."
            )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Standardise bytes, on the device that trains."""
        inputs, targets = batch
        if not isinstance(inputs, Mapping):
            return self._standardised("", inputs), targets
        return {name: self._standardised(name, part) for name, part in inputs.items()}, targets

    def _standardised(self, name: str, part: Tensor) -> Tensor:
        if name not in (self._statistics or {}):
            return part
        mean, std = (self._statistics or {})[name]
        shape = (1, -1, *[1] * (part.ndim - 2))
        return (part.float() - mean.to(part.device).view(shape)) / std.to(part.device).view(shape)

    # Loaders

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled training batches; a run that resumes continues within an epoch."""
        data, world = self.splits["train"], self._world()
        if (trainer := self.trainer) is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
            loader = self._in_order("train")
            cast("EpochSampler", loader.sampler).position = lambda: position_of(trainer)
            return loader
        size = min(self.batch_size, math.ceil(len(data) / world))
        sampler = EpochSampler(
            data,
            batch_size=size,
            steps_per_epoch=max(1, len(data) // (size * world)),
            seed=self.seed,
            num_replicas=world,
            rank=self._rank(),
        )
        if trainer is not None:
            sampler.position = lambda: position_of(trainer)
        return make_loader(data, sampler, 0)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every validation sample once over all processes; an empty list if there is none."""
        return self._in_order("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test sample once over all processes.

        Raises:
            DataError: If there are none.
        """
        if "test" not in self.splits:
            raise DataError("There is nothing to test: give `test_inputs` and `test_targets`.")
        if self.splits["test"].targets is None:
            raise DataError("`test_inputs` without targets are predicted; give `test_targets`.")
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test inputs in order, or all others where there are none."""
        data = self.splits["test" if "test" in self.splits else "train"]
        rows = torch.arange(size_of(data.inputs))
        self.splits["predict"] = TensorSet(data.inputs, None, rows)
        return self._in_order("predict")

    def _in_order(self, split: str) -> DataLoader[Any]:
        data, world = self.splits[split], self._world()
        sampler = InOrderSampler(
            data,
            batch_size=even_batch_size(len(data), world, self.batch_size),
            num_replicas=world,
            rank=self._rank(),
        )
        return make_loader(data, sampler, 0)

    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    # What was loaded

    @property
    def fingerprint(self) -> str:
        """A hash of the samples that train and validate."""
        digest = hashlib.sha256()
        for split in ("train", "val"):
            digest.update(self.splits[split].digest())
        return f"real:{digest.hexdigest()[:16]}"

    def describe(self) -> dict[str, Any]:
        """Return in plain types what was loaded, for reports, dashboards and checkpoints."""
        statistics = {
            name: [value.tolist() for value in both]
            for name, both in (self._statistics or {}).items()
        }
        return {
            "name": "tensors",
            "kind": "real",
            "fingerprint": self.fingerprint if "train" in self.splits else None,
            "samples": {split: len(data) for split, data in self.splits.items()},
            "shapes": {
                split: {name: list(shape) for name, shape in data.shapes()}
                for split, data in self.splits.items()
            },
            "statistics": statistics,
            "val_size": self.val_size,
            "seed": self.seed,
        }

    def adopt(self, record: Mapping[str, Any]) -> None:
        """Evaluate as a checkpoint was trained: by its statistics and its split.

        Args:
            record: What `describe` gave when the checkpoint was written.
        """
        statistics = record.get("statistics")
        if statistics is None:
            return
        self.val_size, self.seed = float(record["val_size"]), int(record["seed"])
        self._statistics = {
            str(name): (torch.tensor(mean), torch.tensor(std))
            for name, (mean, std) in statistics.items()
        }
        self._layout = {
            str(name): (tuple(shape), name in self._statistics)
            for name, shape in record["shapes"]["train"].items()
        }
        self.splits.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must find again."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other samples.

        Raises:
            DataError: If the fingerprint differs from the checkpoint's.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        then, now = str(state_dict.get("fingerprint")), self.fingerprint
        if then != now:
            raise DataError(
                f"The run to resume was trained on {then}, this is {now}. Resume with the same "
                "samples, validation size and seed, or start a new run with `init_from`."
            )


class TensorSet(Dataset[Any]):
    """Samples that are cut in batches.

    Args:
        inputs: A tensor or a dict of them.
        targets: A tensor, a dict of them, or ``None`` without any.
        rows: Which of them ``(M,)``.
    """

    def __init__(self, inputs: Inputs, targets: Inputs | None, rows: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self._digest: bytes | None = None

    @classmethod
    def read(cls, inputs: Any, targets: Any, tasks: Sequence[Task], prefix: str) -> TensorSet:  # noqa: ANN401
        """Make one of arrays or files, and check it.

        Raises:
            DataError: If lengths differ, or a target is missing or not one of its task.
        """
        found, count = _tensors(inputs, f"{prefix}inputs"), 0
        try:
            count = size_of(found)
        except ValueError as error:
            raise DataError(f"`{prefix}inputs`: {error}") from None
        given = None if targets is None else _tensors(targets, f"{prefix}targets")
        if given is not None:
            each = given if isinstance(given, Mapping) else {"": given}
            for name, target in each.items():
                if len(target) != count:
                    raise DataError(
                        f"`{prefix}inputs` have {count} samples, `{prefix}targets` "
                        f"{f'{name!r} ' if name else ''}{len(target)}."
                    )
            _check_targets(given, tasks, f"{prefix}targets")
        return cls(found, given, torch.arange(count))

    def __len__(self) -> int:
        """How many samples."""
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> tuple[Inputs, Any]:
        """Return a batch by positions ``(B,)``; without targets, the positions in their place."""
        rows = self.rows[index]
        inputs = on_each(lambda part: part[rows], self.inputs)
        if self.targets is None:
            return inputs, rows
        return inputs, on_each(lambda part: part[rows], self.targets)

    def subset(self, rows: Tensor) -> TensorSet:
        """Return some of all samples, by row ``(M,)``."""
        return TensorSet(self.inputs, self.targets, rows)

    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the shape of a sample by name of its part."""
        return shapes_of(self.inputs)

    def layout(self) -> Layout:
        """Return by name the shape of a sample, and whether it is standardised: bytes are."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        return {
            name: (shape, parts[name].dtype is torch.uint8 and len(shape) + 1 >= _CHANNELS)
            for name, shape in self.shapes()
        }

    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return mean and standard deviation per channel of the parts that are bytes."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        found = {}
        for name in [name for name, (_, bytes_) in self.layout().items() if bytes_]:
            part = parts[name]
            channels = part[self.rows].double().transpose(0, 1).flatten(1)
            std = channels.std(1, correction=0)
            found[name] = (channels.mean(1).float(), std.masked_fill(std == 0, 1.0).float())
        return found

    def digest(self) -> bytes:
        """Return a hash of the samples and their order; taken once, since checkpoints ask often."""
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256()
        for group in (self.inputs, self.targets):
            parts = group if isinstance(group, Mapping) else {"": group}
            for name, part in sorted(parts.items()):
                if part is not None:
                    digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
                    digest.update(np.ascontiguousarray(part[self.rows].numpy()).data)
        self._digest = digest.digest()
        return self._digest


def said_layout(layout: Layout) -> str:
    """Write a layout for a message."""
    return ", ".join(
        f"{name} {'bytes' if bytes_ else 'numbers'} of shape {shape}".strip()
        for name, (shape, bytes_) in layout.items()
    )


def _tensors(given: Any, what: str) -> Inputs:  # noqa: ANN401 - see TensorDataModule
    if isinstance(given, str | Path):
        given = _read(Path(given).expanduser(), what)
    if isinstance(given, Mapping):
        if not given:
            raise DataError(f"`{what}` is an empty dict.")
        return {str(name): _tensor(part, f"{what}[{name!r}]") for name, part in given.items()}
    return _tensor(given, what)


def _tensor(given: Any, what: str) -> Tensor:  # noqa: ANN401 - see TensorDataModule
    if isinstance(given, str | Path):
        given = _read(Path(given).expanduser(), what)
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"`{what}` is a {type(given).__name__}, of which no tensor can be made: {error}"
        ) from None
    if found.ndim == 0 or not len(found):
        raise DataError(f"`{what}` holds no samples.")
    return found.float() if found.dtype is torch.float64 else found


def _read(path: Path, what: str) -> Any:  # noqa: ANN401 - an array or a dict of tensors
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise DataError(f"`{what}`: there is no file {path}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever a reader trips on
        raise DataError(f"`{what}`: {path} cannot be read: {error}") from None
    raise DataError(f"`{what}`: {path} must be a .npy or .safetensors file.")


def _check_targets(targets: Inputs, tasks: Sequence[Task], what: str) -> None:
    for task in tasks:
        given = targets
        if isinstance(targets, Mapping):
            if task.target not in targets:
                raise DataError(
                    f"Task {task.name!r} reads the target {task.target!r}, `{what}` has "
                    f"{', '.join(targets)}."
                )
            given = targets[str(task.target)]
        try:
            task.check(given)
        except ValueError as error:
            raise DataError(f"`{what}`: {error}") from None
