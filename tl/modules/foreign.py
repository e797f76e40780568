"""Third-party data modules, as Lightning accepts them, and their targets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import BatchSampler, DataLoader

from tl.data import ImageDataModule, MultiTaskDataModule, TensorDataModule
from tl.modules.batch import AnyBatch, checked, is_sorted
from tl.tasks import Task

_TRANSFER = "on_before_batch_transfer"
_ONLY_OURS = f"You have overridden `{_TRANSFER}` in `LightningModule` but have passed in"
_KEPT = (
    *("dataset", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn"),
    *("multiprocessing_context", "generator", "prefetch_factor", "persistent_workers"),
)


class TargetCheck:
    """Checks the targets of third-party data; data modules of `tl.data` check their own.

    Args:
        tasks: Tasks whose targets are checked.
        trained: Those of them that train.

    Attributes:
        done: Whether the targets of the current batch were checked on the host, before their
            transfer to an accelerator.
    """

    def __init__(self, tasks: Mapping[str, Task], trained: Mapping[str, Task]) -> None:
        self._tasks, self._trained = tasks, trained
        self._known: set[str] = set()  # tasks whose targets passed the check of a first batch
        self.done = False

    def setup(self, module: LightningModule, data: object, stage: str) -> None:
        """Hook into the transfer of batches if the data are third-party."""
        ours = isinstance(data, ImageDataModule | MultiTaskDataModule)
        self.done = ours
        published = data.tasks if isinstance(data, TensorDataModule) else ()  # it checks those
        self._known = {name for name, task in self._tasks.items() if task in published}
        vars(module).pop(_TRANSFER, None)
        if stage == "predict" and not ours and isinstance(data, LightningDataModule):
            name_arguments(data)
        if ours or stage == "predict":
            return
        if isinstance(data, LightningDataModule) and is_overridden(_TRANSFER, data):
            return  # its own hook takes precedence; its targets are checked later
        # on the instance: a hook of the class would cost every step of our own data a few calls
        module.on_before_batch_transfer = partial(self._checked, module)  # type: ignore[method-assign]
        # nobody has overridden it; Lightning's warning about two hooks has another message
        warnings.filterwarnings("ignore", message=_ONLY_OURS)

    def _checked(self, module: LightningModule, batch: AnyBatch, dataloader_idx: int) -> AnyBatch:
        """Check targets while that does not synchronise with an accelerator.

        A hook of the module's class comes first: it may give the batch its form.
        """
        batch = type(module).on_before_batch_transfer(module, batch, dataloader_idx)
        # a batch of another form may be converted after the transfer
        self.done = is_sorted(batch)
        tasks = self._trained if module.training else self._tasks
        return checked(batch, tasks.values(), self._known) if self.done else batch


def name_arguments(data: LightningDataModule) -> None:
    """Let ``predict`` accept loaders whose batch size was passed by position.

    Lightning 2.6 rebuilds the loader with `batch_size` as a keyword, which would then be passed
    twice.

    Args:
        data: A data module; its `predict_dataloader` is wrapped.
    """
    original = data.predict_dataloader

    def predict_dataloader() -> Any:  # noqa: ANN401 - whatever the data module returns
        found = original()
        return [_named(one) for one in found] if isinstance(found, list) else _named(found)

    data.predict_dataloader = predict_dataloader  # type: ignore[method-assign]


def _named(loader: Any) -> Any:  # noqa: ANN401 - whatever the data module returns
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return loader
    given: dict[str, Any] = {name: getattr(loader, name) for name in _KEPT}
    batches: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    return DataLoader(sampler=loader.sampler, **batches, **given)
