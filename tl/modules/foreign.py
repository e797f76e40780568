"""Data modules of other people, as Lightning takes them."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import BatchSampler, DataLoader

_KEPT = (
    *("dataset", "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn"),
    *("multiprocessing_context", "generator", "prefetch_factor", "persistent_workers"),
)


def name_arguments(data: LightningDataModule) -> None:
    """Let ``predict`` take loaders whose batch size was given by position.

    Lightning 2.6 makes the loader again with a `batch_size` of its own by name, which then is there
    twice.

    Args:
        data: A data module; its `predict_dataloader` is wrapped.
    """
    original = data.predict_dataloader

    def predict_dataloader() -> Any:  # noqa: ANN401 - whatever the data module gives
        found = original()
        return [_named(one) for one in found] if isinstance(found, list) else _named(found)

    data.predict_dataloader = predict_dataloader  # type: ignore[method-assign]


def _named(loader: Any) -> Any:  # noqa: ANN401 - whatever the data module gives
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return loader
    given: dict[str, Any] = {name: getattr(loader, name) for name in _KEPT}
    batches: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    return DataLoader(sampler=loader.sampler, **batches, **given)
